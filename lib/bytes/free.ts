// Memory of long arrays that pass through quickly: the collector runs only once as much garbage has come together as there is
// live memory, so it is freed at once where nobody can use it any more.

/** Free the memory of bytes that nobody uses any more, unless they are a part of a larger buffer. */
export function free(bytes: Uint8Array): void {
  const { buffer, byteLength } = bytes;
  if (buffer instanceof ArrayBuffer && byteLength === buffer.byteLength) buffer.transfer(0);
}
