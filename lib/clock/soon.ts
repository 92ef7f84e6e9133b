// A call that is due once, however often it is asked for until then: many changes are handled together.
import type { Clock, Timer } from "./clock.ts";

const STOPPED: Timer = { cancel() {} };

export class Soon {
  #timer: Timer | undefined;

  constructor(
    private readonly clock: Pick<Clock, "after">,
    private readonly act: () => void,
  ) {}

  /** Call `act` in `ms` milliseconds, unless a call is due already, or it has been stopped. */
  within(ms: number): void {
    this.#timer ??= this.clock.after(ms, () => {
      this.#timer = undefined;
      this.act();
    });
  }

  /** Call nothing any more. */
  stop(): void {
    this.#timer?.cancel();
    this.#timer = STOPPED;
  }
}
