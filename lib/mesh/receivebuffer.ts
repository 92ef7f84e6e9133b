// Bytes of a stream that were received and not taken yet. The buffer doubles, so that a long message in many pieces is
// copied few times.

const SMALLEST = 4096;
/** An empty buffer larger than this is freed. */
const KEEP = 1 << 18;

export class ReceiveBuffer {
  #bytes = new Uint8Array(SMALLEST);
  #start = 0;
  #end = 0;

  get length(): number {
    return this.#end - this.#start;
  }

  push(piece: Uint8Array): void {
    const { length } = this;
    if (this.#end + piece.length > this.#bytes.length) {
      let size = this.#bytes.length;
      while (size < length + piece.length) size *= 2;
      const bytes = size > this.#bytes.length ? new Uint8Array(size) : this.#bytes;
      bytes.set(this.waiting);
      this.#bytes = bytes;
      this.#start = 0;
      this.#end = length;
    }
    this.#bytes.set(piece, this.#end);
    this.#end += piece.length;
  }

  /** A view of all bytes, valid until the next push. */
  get waiting(): Uint8Array {
    return this.#bytes.subarray(this.#start, this.#end);
  }

  /** Remove the first `length` bytes. */
  take(length: number): void {
    this.#start += length;
    if (this.#start < this.#end) return;
    this.#start = 0;
    this.#end = 0;
    if (this.#bytes.length > KEEP) this.#bytes = new Uint8Array(SMALLEST);
  }
}
