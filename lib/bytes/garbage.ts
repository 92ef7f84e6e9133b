// Early garbage collection: by itself the collector waits until there is as much garbage as live memory.
import { fullGC } from "bun:jsc";

/** Bytes of garbage at which it is collected, which takes 10 to 20 ms. */
const MAX_GARBAGE = 48 * 1024 * 1024;

let garbage = 0;

/** Note that so many bytes in messages, or decoded of them, are garbage now or soon. */
export function noteGarbage(bytes: number): void {
  garbage += bytes;
  if (garbage < MAX_GARBAGE) return;
  garbage = 0;
  fullGC();
}
