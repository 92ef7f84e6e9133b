// A rate from a counter that is looked at now and then: over the last 5 to 10 s, however often it is looked at.
import type { Traffic } from "../mesh/overlay.ts";

const WINDOW_MS = 5_000;

/** Meters one counter of bytes, from what it shows at first on. Times are ms of a clock that never goes back. */
export class Meter {
  #base: number;
  #from: { readonly at: number; readonly count: number };
  #latest: { readonly at: number; readonly count: number };

  constructor(now: number, count: number) {
    this.#base = count;
    this.#from = this.#latest = { at: now, count };
  }

  /** Take a look; to be called every few seconds at least. */
  look(now: number, count: number): void {
    if (count < this.#latest.count) {
      // It has begun anew; what was counted before stays.
      this.#base -= this.#latest.count;
      this.#from = this.#latest = { at: now, count: 0 };
    }
    if (now - this.#latest.at < WINDOW_MS) return;
    this.#from = this.#latest;
    this.#latest = { at: now, count };
  }

  /** Bytes since the first look, and a second. */
  traffic(now: number, count: number): Traffic {
    this.look(now, count);
    const ms = now - this.#from.at;
    return {
      bytes: count - this.#base,
      perSecond: ms > 0 ? ((count - this.#from.count) * 1_000) / ms : 0,
    };
  }
}
