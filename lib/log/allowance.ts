// How much others can make a program write to its log, whatever they choose for names: 1 MB an hour, once it is used up.
import { TokenBucket } from "../clock/tokenbucket.ts";
import { printable } from "./printable.ts";

/** Characters at once, 2,000 lines; then so many a second, 2 short lines. */
export const LOG_BURST = 256 * 1024;
export const LOG_PER_S = 256;

/** Lets lines pass while there is room for them, and counts the others; `now` is in ms. */
export class LogAllowance {
  readonly #rate: TokenBucket;
  #dropped = 0;

  constructor(private readonly now: () => number) {
    this.#rate = new TokenBucket(LOG_BURST, LOG_PER_S, now());
  }

  /** The line to write, with how many before it were left out; undefined where there is no room. */
  line(text: string): string | undefined {
    const line = this.#dropped > 0 ? `${text} (${this.#dropped} lines before this one left out)` : text;
    if (!this.#rate.take(this.now(), printable(line).length)) {
      this.#dropped++;
      return undefined;
    }
    this.#dropped = 0;
    return line;
  }
}
