// How much others can make a program write to its log, whatever they choose for names: 1 MB an hour, once it is used up.
import { TokenBucket } from "../clock/tokenbucket.ts";
import { type Fields, logfmt } from "./fields.ts";
import { printable } from "./printable.ts";

/** Characters at once, 2,000 lines; then so many a second, 2 short lines. */
export const LOG_BURST = 256 * 1024;
const LOG_PER_S = 256;

/** Lets lines pass while there is room for them, and counts the others; `now` is in ms. */
export class LogAllowance {
  readonly #rate: TokenBucket;
  #dropped = 0;

  constructor(private readonly now: () => number) {
    this.#rate = new TokenBucket(LOG_BURST, LOG_PER_S, now());
  }

  /** Return the fields to write the line with: its own, and linesDropped before it. Undefined if there is no room. */
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
