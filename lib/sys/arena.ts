// A block of memory at a fixed address, which the kernel reads and writes while our code sees it as bytes, 16-bit and 32-bit
// numbers. Loops that must not allocate keep their data in one and pass offsets.
import { ptr } from "bun:ffi";

export class Arena {
  readonly bytes: Uint8Array;
  readonly view: DataView;
  /** In host byte order, as are `words`. */
  readonly halves: Uint16Array;
  readonly words: Int32Array;
  /** Address of the first byte. */
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

  /** Reserve `size` bytes; returns their offset, a multiple of `align`. Throws RangeError if the arena is full. */
  reserve(size: number, align = 64): number {
    const at = Math.ceil(this.#used / align) * align;
    if (at + size > this.size) throw new RangeError(`arena of ${this.size} bytes is used up`);
    this.#used = at + size;
    return at;
  }

  /** Store the address of the byte at `offset` as a pointer at `at`. */
  setPointer(at: number, offset: number): void {
    const address = this.address + offset;
    this.view.setUint32(at, address % 2 ** 32, true);
    this.view.setUint32(at + 4, Math.floor(address / 2 ** 32), true);
  }
}
