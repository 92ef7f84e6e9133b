// Long arrays in parts, for work in steps.

/** Bytes of a part: less than 1 ms of encryption, a digest or a copy. */
export const PART = 256 * 1024;

/** Return the parts of an array, as views. */
export function* partsOf(bytes: Uint8Array): Generator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += PART) yield bytes.subarray(at, at + PART);
}
