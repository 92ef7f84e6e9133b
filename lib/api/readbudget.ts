// Budget of processor time for requests over TCP: whoever reaches the port may ask for the most expensive answer without end,
// on loopback every local user. Time in which a busy host runs other programs is not charged: few requests would use it up.
import type { Clock } from "../clock/clock.ts";
import { TokenBucket } from "../clock/tokenbucket.ts";

/** Milliseconds at once, then so many a second. */
const BURST_MS = 2_000;
const MS_PER_S = 250;
/** Charge for the memory of an answer until it is read: 4 MB a second. */
const CHARACTERS_PER_MS = 16_384;

export class ReadBudget {
  readonly #bucket: TokenBucket;
  /** Answers that are being made, and the processor time up to which they were charged, in ms. */
  #current = 0;
  #charged = 0;

  constructor(private readonly clock: Pick<Clock, "now" | "worked">) {
    this.#bucket = new TokenBucket(BURST_MS, MS_PER_S, clock.now());
  }

  /** Run what answers a request and charge the time it takes; resolve with 503 and Retry-After once none is left. */
  async spend(answer: () => Response | Promise<Response>): Promise<Response> {
    this.#charge();
    const start = this.clock.now();
    if (!this.#bucket.take(start, 0)) {
      const seconds = Math.ceil(this.#bucket.wait(start) / 1_000);
      const text = `busy: requests over TCP may take ${MS_PER_S} ms of processor time a second; try again in ${seconds} s, or use the Unix socket\n`;
      return new Response(text, { status: 503, headers: { "retry-after": String(seconds) } });
    }
    let length = 0;
    this.#current++;
    try {
      const response = await answer();
      const text = await response.text();
      length = text.length;
      return new Response(text, { status: response.status, headers: response.headers });
    } finally {
      this.#charge(length / CHARACTERS_PER_MS);
      this.#current--;
    }
  }

  /** Time that several answers take together is charged once. */
  #charge(more = 0): void {
    const worked = this.clock.worked?.() ?? this.clock.now();
    this.#bucket.charge(this.clock.now(), (this.#current > 0 ? worked - this.#charged : 0) + more);
    this.#charged = worked;
  }
}
