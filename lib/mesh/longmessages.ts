// Handle messages longer than those of honest peers one at a time, over all connections, with a pause after each: decoding takes
// several times their length in memory.
import type { Work } from "../clock/slices.ts";

/** Messages above this, in bytes, are long. Routers of this version make none: the longest ring is shorter. */
export const LONG = 1024 * 1024;
/** Bytes of a message for each millisecond of pause: at most 40 MB a second are handled. */
const BYTES_PER_MS = 40 * 1024;

/** Interval of looking whether it is the turn of a message. */
export const WAIT_MS = 5;

export class LongMessages {
  #busy = false;

  /** Do the work of a message of so many bytes, after that of others where it is a long one. */
  run(length: number, work: () => Work): Work {
    return length > LONG ? this.#inTurn(length, work) : work();
  }

  *#inTurn(length: number, work: () => Work): Work {
    while (this.#busy) yield WAIT_MS;
    this.#busy = true;
    try {
      yield* work();
      yield Math.ceil(length / BYTES_PER_MS);
    } finally {
      this.#busy = false;
    }
  }
}
