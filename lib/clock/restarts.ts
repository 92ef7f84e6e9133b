// Restart a part that has failed: three times at once, then once in 20 s.
import type { Clock, Timer } from "./clock.ts";
import { TokenBucket } from "./tokenbucket.ts";

const BURST = 3;
const PER_S = BURST / 60;

export class Restarts {
  readonly #rate: TokenBucket;
  #count = 0;
  #last = "";
  #pending: Timer | undefined;

  /** `part` is a noun with its article: "the sleeve engine". */
  constructor(
    private readonly part: string,
    private readonly clock: Clock,
  ) {
    this.#rate = new TokenBucket(BURST, PER_S, clock.now());
  }

  /** The part has failed because of `why`: call `start` once the rate allows. Returns the pause in ms. */
  after(why: string, start: () => void): number {
    this.#count++;
    this.#last = why;
    this.#pending?.cancel();
    const pause = this.#rate.wait(this.clock.now());
    this.#rate.take(this.clock.now() + pause);
    this.#pending = this.clock.after(pause, start);
    return pause;
  }

  cancel(): void {
    this.#pending?.cancel();
  }

  /** Lines for the status. */
  notes(): string[] {
    return this.#count === 0 ? [] : [`${this.part} has failed ${this.#count} times, the last: ${this.#last}`];
  }
}
