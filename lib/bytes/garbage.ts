// Early garbage collection: by itself the collector waits until there is as much garbage as live memory.
import { fullGC } from "bun:jsc";

/** Bytes of garbage at which it is collected, which takes 10 to 20 ms. */
const MAX_GARBAGE = 48 * 1024 * 1024;

let garbage = 0;
let limit = MAX_GARBAGE;

/** Set the bytes of garbage at which it is collected; Infinity leaves it to the collector. */
export function collectAt(bytes: number): void {
  limit = bytes;
}

/** Note that so many bytes in messages, or decoded of them, are garbage now or soon. */
export function noteGarbage(bytes: number): void {
  garbage += bytes;
  if (garbage < limit) return;
  garbage = 0;
  fullGC();
}
