// A block of memory that stays where it is: the kernel reads and writes it by address while our code sees it as bytes,
// 16-bit and 32-bit numbers. Loops that must not allocate keep all they work on in one of these, and pass offsets.
import { ptr } from "bun:ffi";

export class Arena {
  readonly bytes: Uint8Array;
  readonly view: DataView;
  /** In host byte order, as are `words`. */
  readonly halves: Uint16Array;
  readonly words: Int32Array;
  /** Where the block begins, as the kernel knows it. */
  readonly address: number;
  #used = 0;

  /** `size` in bytes, a multiple of 8. */
  constructor(readonly size: number) {
    const buffer = new ArrayBuffer(size);
    this.bytes = new Uint8Array(buffer);
    this.view = new DataView(buffer);
    this.halves = new Uint16Array(buffer);
    this.words = new Int32Array(buffer);
    this.address = ptr(this.bytes);
  }

  /** Sets aside `size` bytes; returns their offset, a multiple of `align`. Throws RangeError when all is used. */
  reserve(size: number, align = 64): number {
    const at = Math.ceil(this.#used / align) * align;
    if (at + size > this.size) throw new RangeError(`arena of ${this.size} bytes is used up`);
    this.#used = at + size;
    return at;
  }

  /** Stores the address of the byte at `offset` as a pointer at `at`. */
  setPointer(at: number, offset: number): void {
    const address = this.address + offset;
    this.view.setUint32(at, address % 2 ** 32, true);
    this.view.setUint32(at + 4, Math.floor(address / 2 ** 32), true);
  }
}
