// Budget of event-loop time for requests over TCP: whoever reaches the port may ask for the most expensive
// answer without end, on loopback every local user.
import { TokenBucket } from "../clock/tokenbucket.ts";

/** Milliseconds at once, then so many a second. */
const BURST_MS = 2_000;
const MS_PER_S = 250;
/** Charge for the memory of an answer until it is read: 4 MB a second. */
const CHARACTERS_PER_MS = 16_384;

export class ReadBudget {
  readonly #bucket: TokenBucket;
  /** Answers that are being made, and when their time was charged last. */
  #current = 0;
  #charged = 0;

  /** `now` is in ms. */
  constructor(private readonly now: () => number) {
    this.#bucket = new TokenBucket(BURST_MS, MS_PER_S, now());
  }

  /** Run what answers a request and charge the time it takes; resolve with 503 and Retry-After once none is left. */
  async spend(answer: () => Response | Promise<Response>): Promise<Response> {
    const start = this.now();
    this.#charge(start);
    if (!this.#bucket.take(start, 0)) {
      const seconds = Math.ceil(this.#bucket.wait(start) / 1_000);
      const text = `busy: requests over TCP may take ${MS_PER_S} ms a second; try again in ${seconds} s, or use the Unix socket\n`;
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
      this.#charge(this.now(), length / CHARACTERS_PER_MS);
      this.#current--;
    }
  }

  /** Time that several answers take together is charged once. */
  #charge(now: number, more = 0): void {
    this.#bucket.charge(now, (this.#current > 0 ? now - this.#charged : 0) + more);
    this.#charged = now;
  }
}
