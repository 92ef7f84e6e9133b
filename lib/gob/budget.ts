// Budget of decoding one stream. An empty struct is one byte on the wire and a hundred in memory, so lengths alone
// do not bound it: each value is charged, against an allowance that grows with the bytes received.
import { noteGarbage } from "../bytes/garbage.ts";
import { GobError } from "./cursor.ts";

/** Units for a stream of any length: enough for short messages with many fields. */
const BASE = 256 * 1024;
/**
 * Units for each byte, a unit being about a byte of memory. Messages of the network take 3 to 6: the densest are ring
 * entries, a struct of 4 fields in 20 bytes.
 */
const PER_BYTE = 8;
/** Units for a value, and more for each field of a struct. */
export const VALUE_COST = 16;
export const FIELD_COST = 8;
/** Bytes allocated for each unit, with what is garbage once a value is decoded: 5 to 12, measured without collection. */
const GARBAGE_PER_UNIT = 8;
/** Units for a value of an unknown field, which is skipped whatever its length. */
export const UNKNOWN_COST = 256;

/** Our streams describe their types in less than 1 kB, each once. */
const MAX_DESCRIPTION_BYTES = 16 * 1024;
const MAX_TYPES = 100;

export class Budget {
  #units: number;
  #descriptionBytes = MAX_DESCRIPTION_BYTES;
  #types = MAX_TYPES;

  /** `bytes`: length of the stream; 0 if it is open-ended. */
  constructor(bytes = 0) {
    this.#units = BASE + PER_BYTE * bytes;
  }

  /** Charge for values. Throws GobError if the budget is exhausted. */
  spend(units: number): void {
    this.#units -= units;
    if (this.#units < 0) throw new GobError("gob holds more values than its length allows");
    noteGarbage(GARBAGE_PER_UNIT * units);
  }

  /** Charge for a type description. Throws GobError if there are too many, or they are too long. */
  describe(bytes: number): void {
    this.#descriptionBytes -= bytes;
    this.#types--;
    if (this.#descriptionBytes < 0 || this.#types < 0) throw new GobError("gob describes too many types");
  }
}
