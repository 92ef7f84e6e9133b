// What has been received of a stream and not been taken yet. It grows by doubling, so that a long message that comes in
// many pieces is not copied anew with each of them.

const SMALLEST = 4096;
/** An empty buffer larger than this is given back. */
const KEEP = 1 << 18;

export class ReceiveBuffer {
  #bytes = new Uint8Array(SMALLEST);
  #start = 0;
  #end = 0;

  /** Bytes that wait. */
  get length(): number {
    return this.#end - this.#start;
  }

  /** Appends what has come. */
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

  /** A view of all that waits; good until the next push. */
  get waiting(): Uint8Array {
    return this.#bytes.subarray(this.#start, this.#end);
  }

  /** Takes the first `length` bytes away. */
  take(length: number): void {
    this.#start += length;
    if (this.#start < this.#end) return;
    this.#start = 0;
    this.#end = 0;
    if (this.#bytes.length > KEEP) this.#bytes = new Uint8Array(SMALLEST);
  }
}
