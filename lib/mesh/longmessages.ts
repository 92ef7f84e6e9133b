// Messages that are longer than those of honest peers are handled one at a time, over all connections, with a rest after each:
// what is decoded of one takes up to 15 times its length.
import { noteGarbage } from "../bytes/garbage.ts";
import type { Work } from "../clock/slices.ts";

/** Bytes of the longest message that no peer of our kind exceeds: the longest ring takes less. */
export const LONG = 1024 * 1024;
/** Garbage that a step of decoding leaves, about. */
const GARBAGE_OF_STEP = 64 * 1024;
/** Length by which a rest takes a millisecond longer: 40 MB a second are handled at most. */
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
      yield* collecting(work());
      yield Math.ceil(length / BYTES_PER_MS);
    } finally {
      this.#busy = false;
    }
  }
}

function* collecting(work: Work): Work {
  try {
    for (let step = work.next(); !step.done; step = work.next()) {
      noteGarbage(GARBAGE_OF_STEP);
      yield step.value;
    }
  } finally {
    work.return();
  }
}
