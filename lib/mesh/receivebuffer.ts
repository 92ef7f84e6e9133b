// Received bytes of a stream that were not taken yet, as a list of pieces: memory use is little more than their length, and
// taking a message copies each byte once, however long the message is.
import { concat } from "../bytes/concat.ts";
import { atOnce, type Work } from "../clock/slices.ts";

/** Longest piece that is copied into a block, in bytes; longer ones are kept without a copy. */
export const SHORT = 4 * 1024;
/** Size of a block of short pieces, in bytes: an object for each piece of one byte would take a hundred times as much. */
export const BLOCK = 16 * 1024;

export class ReceiveBuffer {
  readonly #pieces: Uint8Array[] = [];
  /** Bytes of the first piece that were taken. */
  #start = 0;
  #length = 0;
  /** The current block and the number of bytes in it; reused once the buffer is empty. */
  #block = new Uint8Array();
  #filled = 0;

  get length(): number {
    return this.#length;
  }

  /** Append bytes; the caller must not change them afterwards. */
  push(bytes: Uint8Array): void {
    this.#length += bytes.length;
    if (bytes.length > SHORT) this.#pieces.push(bytes);
    else if (bytes.length > 0) this.#copy(bytes);
  }

  #copy(bytes: Uint8Array): void {
    if (this.#filled + bytes.length > this.#block.length) {
      this.#block = new Uint8Array(BLOCK);
      this.#filled = 0;
    }
    const from = this.#filled;
    this.#filled += bytes.length;
    this.#block.set(bytes, from);
    const last = this.#pieces.at(-1);
    const goesOn = last?.buffer === this.#block.buffer && last.byteOffset + last.length === from;
    if (goesOn) this.#pieces.pop();
    this.#pieces.push(this.#block.subarray(goesOn ? last.byteOffset : from, this.#filled));
  }

  /** Return the first `length` bytes, or all if there are fewer; valid until the next push or take. */
  peek(length: number): Uint8Array {
    const wanted = Math.min(length, this.#length);
    let found = this.#pieces[0]?.subarray(this.#start, this.#start + wanted) ?? new Uint8Array();
    for (let i = 1; found.length < wanted; i++)
      found = concat([found, this.#pieces[i]?.subarray(0, wanted - found.length) ?? new Uint8Array()]);
    return found;
  }

  /** Remove the first `length` bytes and return a copy of them; the buffer must have that many. */
  take(length: number): Uint8Array {
    return atOnce(this.takeSliced(length));
  }

  /** As `take`, with a step after each piece; more bytes may be pushed between steps. */
  *takeSliced(length: number): Work<Uint8Array> {
    const taken = new Uint8Array(length);
    for (let at = 0; at < length; ) {
      const [piece = taken] = this.#pieces;
      const part = piece.subarray(this.#start, this.#start + length - at);
      taken.set(part, at);
      at += part.length;
      this.#drop(piece, part.length);
      if (at < length) yield;
    }
    return taken;
  }

  /** Remove bytes of the first piece. */
  #drop(piece: Uint8Array, length: number): void {
    this.#start += length;
    this.#length -= length;
    if (this.#start < piece.length) return;
    this.#pieces.shift();
    this.#start = 0;
    if (this.#length === 0) this.#filled = 0;
  }
}
