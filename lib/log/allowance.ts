// Bound on what strangers can make a program log by inventing names: a burst, then 1 MB an hour.
import { TokenBucket } from "../clock/tokenbucket.ts";
import { type Fields, logfmt } from "./fields.ts";
import { printable } from "./printable.ts";

/** Burst in characters, about 2,000 lines, and characters per second, about 2 short lines. */
export const LOG_BURST = 256 * 1024;
const LOG_PER_S = 256;

/** Admits lines within the bound and counts the others; `now` in ms. */
export class LogAllowance {
  readonly #rate: TokenBucket;
  #dropped = 0;

  constructor(private readonly now: () => number) {
    this.#rate = new TokenBucket(LOG_BURST, LOG_PER_S, now());
  }

  /** Return the fields of a line that may be written, with linesDropped for those before it; undefined for one that may not. */
  admit(text: string, fields: Fields = {}): Fields | undefined {
    const all = this.#dropped > 0 ? { ...fields, linesDropped: this.#dropped } : fields;
    if (!this.#rate.take(this.now(), printable(text).length + logfmt(all).length)) {
      this.#dropped++;
      return undefined;
    }
    this.#dropped = 0;
    return all;
  }
}
