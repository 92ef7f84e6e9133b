// Explicit release of long arrays that are used briefly: the garbage collector runs only once there is as much garbage as live
// memory.

/** Free the memory of `bytes`, which must not be used afterwards; a part of a larger buffer is left alone. */
export function free(bytes: Uint8Array): void {
  const { buffer, byteLength } = bytes;
  if (buffer instanceof ArrayBuffer && byteLength === buffer.byteLength) buffer.transfer(0);
}
