// A rate from samples of a counter: over the last 5 to 10 s, however often it is sampled.
import type { Traffic } from "../mesh/overlay.ts";

const WINDOW_MS = 5_000;

/** Meter a counter of bytes, from its first value on. Times are ms of a monotonic clock. */
export class Meter {
  #base: number;
  #from: { readonly at: number; readonly count: number };
  #latest: { readonly at: number; readonly count: number };

  constructor(now: number, count: number) {
    this.#base = count;
    this.#from = this.#latest = { at: now, count };
  }

  /** Sample the counter; to be called every few seconds at least. */
  sample(now: number, count: number): void {
    if (count < this.#latest.count) {
      // The counter was reset; the bytes before that still count.
      this.#base -= this.#latest.count;
      this.#from = this.#latest = { at: now, count: 0 };
    }
    if (now - this.#latest.at < WINDOW_MS) return;
    this.#from = this.#latest;
    this.#latest = { at: now, count };
  }

  /** Return bytes since the first sample, and bytes per second. */
  traffic(now: number, count: number): Traffic {
    this.sample(now, count);
    const ms = now - this.#from.at;
    return {
      bytes: count - this.#base,
      perSecond: ms > 0 ? ((count - this.#from.count) * 1_000) / ms : 0,
    };
  }
}

/** Meters of the bytes received and sent. */
export class TrafficMeter {
  readonly #received: Meter;
  readonly #sent: Meter;

  constructor(now: number, received: number, sent: number) {
    this.#received = new Meter(now, received);
    this.#sent = new Meter(now, sent);
  }

  sample(now: number, received: number, sent: number): void {
    this.#received.sample(now, received);
    this.#sent.sample(now, sent);
  }

  traffic(now: number, received: number, sent: number): { received: Traffic; sent: Traffic } {
    return { received: this.#received.traffic(now, received), sent: this.#sent.traffic(now, sent) };
  }
}
