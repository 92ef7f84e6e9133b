// Received bytes of a stream that were not taken yet, copied into blocks: memory use exceeds their length by at most two blocks,
// however they arrive. A block is freed once its bytes are taken: the garbage collector would let those of many unfinished
// messages accumulate.
import { concat } from "../bytes/concat.ts";
import { free } from "../bytes/free.ts";
import { atOnce, type Work } from "../clock/slices.ts";

/** Size of a block, in bytes. */
export const BLOCK = 16 * 1024;

export class ReceiveBuffer {
  /** All blocks but the last are full. */
  readonly #blocks: Uint8Array[] = [];
  /** Bytes of the first block that were taken. */
  #start = 0;
  #length = 0;

  get length(): number {
    return this.#length;
  }

  /** Bytes of memory. */
  get memory(): number {
    return this.#blocks.length * BLOCK;
  }

  /** Append a copy of bytes. */
  push(bytes: Uint8Array): void {
    for (let at = 0; at < bytes.length; ) {
      const end = this.#start + this.#length;
      if (end === this.#blocks.length * BLOCK) this.#blocks.push(new Uint8Array(BLOCK));
      const from = end % BLOCK;
      const part = bytes.subarray(at, at + BLOCK - from);
      this.#blocks.at(-1)?.set(part, from);
      at += part.length;
      this.#length += part.length;
    }
  }

  /** Return the first `length` bytes, or all if there are fewer; valid until the next push or take. */
  peek(length: number): Uint8Array {
    const end = this.#start + Math.min(length, this.#length);
    const parts: Uint8Array[] = [];
    for (let at = this.#start; at < end; at += BLOCK - (at % BLOCK)) {
      const first = at - (at % BLOCK);
      const block = this.#blocks[first / BLOCK];
      if (block) parts.push(block.subarray(at - first, end - first));
    }
    const [only, ...more] = parts;
    return more.length === 0 ? (only ?? new Uint8Array()) : concat(parts);
  }

  /** Remove the first `length` bytes and return a copy of them; the buffer must have that many. */
  take(length: number): Uint8Array {
    return atOnce(this.takeSliced(length));
  }

  /** As `take`, with a step after each block; more bytes may be pushed between steps. */
  *takeSliced(length: number): Work<Uint8Array> {
    const taken = new Uint8Array(length);
    for (let at = 0; at < length; ) {
      const part = this.peek(Math.min(length - at, BLOCK - this.#start));
      taken.set(part, at);
      at += part.length;
      this.#drop(part.length);
      if (at < length) yield;
    }
    return taken;
  }

  /** Remove all bytes. */
  clear(): void {
    this.#start = 0;
    this.#length = 0;
    for (const block of this.#blocks.splice(0)) free(block);
  }

  /** Remove bytes of the first block; the last block is kept for further bytes. */
  #drop(length: number): void {
    this.#start += length;
    this.#length -= length;
    if (this.#length === 0) this.#start = 0;
    if (this.#start < BLOCK) return;
    const first = this.#blocks.shift();
    if (first) free(first);
    this.#start = 0;
  }
}
