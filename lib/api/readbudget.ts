// Budget of processor time for requests over TCP: anyone who reaches the port, on loopback every local user, can request the most
// expensive answer in a loop. Time in which a busy host runs other programs is neither charged nor refilled: requests get a
// quarter of the processor time available to this thread.
import { type Clock, workedMs } from "../clock/clock.ts";
import { TokenBucket } from "../clock/tokenbucket.ts";

/** Milliseconds at once, then so many a second. */
const BURST_MS = 2_000;
const MS_PER_S = 250;
/** Charge for the memory of an answer until it is read: 4 MB a second. */
const CHARACTERS_PER_MS = 16_384;

export class ReadBudget {
  readonly #bucket: TokenBucket;
  /** Resolves in the turn of the event loop after the last answer: each has a turn of its own, however many wait. */
  #last: Promise<void> = Promise.resolve();

  /** `waited` returns the ms that this thread has waited for a processor. */
  constructor(
    private readonly clock: Pick<Clock, "now" | "worked">,
    private readonly waited: () => number,
  ) {
    this.#bucket = new TokenBucket(BURST_MS, MS_PER_S, this.#now());
  }

  /**
   * Run `answer`, which must not wait for anything, after earlier requests, and charge its processor time. Resolves with 503 and
   * Retry-After once the budget is used up.
   */
  async spend(answer: () => Response | Promise<Response>): Promise<Response> {
    if (!this.#isLeft()) return this.#refusal();
    const before = this.#last;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#last = promise;
    await before;
    if (!this.#isLeft()) {
      setImmediate(resolve);
      return this.#refusal();
    }
    const start = workedMs(this.clock);
    let characters = 0;
    try {
      const response = await answer();
      const text = await response.text();
      characters = text.length;
      return new Response(text, { status: response.status, headers: response.headers });
    } finally {
      // Sending it takes time, too.
      setImmediate(() => {
        this.#bucket.charge(this.#now(), workedMs(this.clock) - start + characters / CHARACTERS_PER_MS);
        resolve();
      });
    }
  }

  #isLeft(): boolean {
    return this.#bucket.take(this.#now(), 0);
  }

  #now(): number {
    return this.clock.now() - this.waited();
  }

  #refusal(): Response {
    const seconds = Math.ceil(this.#bucket.wait(this.#now()) / 1_000);
    const text = `busy: requests over TCP may take ${MS_PER_S} ms of processor time a second; try again in ${seconds} s, or use the Unix socket\n`;
    return new Response(text, { status: 503, headers: { "retry-after": String(seconds) } });
  }
}
