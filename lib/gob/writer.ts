// Write gob's primitives (https://pkg.go.dev/encoding/gob, "Encoding Details").

const text = new TextEncoder();

/** Octets of an unsigned number of up to 32 bits. */
const octets = (value: number) => Math.ceil((32 - Math.clz32(value)) / 8);

/** Bytes that grow. */
export class Writer {
  #bytes = new Uint8Array(256);
  length = 0;

  raw(bytes: Uint8Array): void {
    this.#grow(bytes.length);
    this.#bytes.set(bytes, this.length);
    this.length += bytes.length;
  }

  byte(value: number): void {
    this.#grow(1);
    this.#bytes[this.length++] = value;
  }

  #grow(by: number): void {
    const need = this.length + by;
    if (need <= this.#bytes.length) return;
    const grown = new Uint8Array(Math.max(need, 2 * this.#bytes.length));
    grown.set(this.#bytes.subarray(0, this.length));
    this.#bytes = grown;
  }

  /** One byte below 128; else the negated count of the following bytes, then these, big-endian. */
  uint(value: number | bigint): void {
    if (value < 128) return this.byte(Number(value));
    if (value < 256) {
      this.byte(255);
      return this.byte(Number(value));
    }
    // Bigints are slow to shift; two halves of 32 bits are not.
    const number = Number(value);
    const wide = number > Number.MAX_SAFE_INTEGER ? BigInt(value) : undefined;
    const high = wide === undefined ? Math.floor(number / 2 ** 32) : Number(wide >> 32n);
    const low = wide === undefined ? number : Number(wide & 0xffffffffn);
    const length = high === 0 ? octets(low) : 4 + octets(high);
    this.byte(256 - length);
    for (let i = length - 1; i >= 0; i--) this.byte(((i < 4 ? low : high) >>> (8 * (i % 4))) & 255);
  }

  /** The sign in the lowest bit, the rest (complemented where negative) above it. */
  int(value: number | bigint): void {
    if (typeof value === "number" && value >= 0 && value < 2 ** 31) return this.uint(2 * value);
    const wide = BigInt(value);
    this.uint(wide < 0n ? (~wide << 1n) | 1n : wide << 1n);
  }

  string(value: string): void {
    const encoded = text.encode(value);
    this.uint(encoded.length);
    this.raw(encoded);
  }

  /** The bytes so far, until more are added. */
  view(): Uint8Array {
    return this.#bytes.subarray(0, this.length);
  }

  done(): Uint8Array {
    return this.#bytes.slice(0, this.length);
  }
}

/** Buffers that are kept for the next message are no longer than this. */
const MAX_KEPT = 64 * 1024;
let kept: Writer | undefined;

/** Fill a buffer with a message, and add it to a stream behind its length. */
export function message(out: Writer, fill: (body: Writer) => void): void {
  const body = kept ?? new Writer();
  kept = undefined;
  body.length = 0;
  fill(body);
  out.uint(body.length);
  out.raw(body.view());
  if (body.length <= MAX_KEPT) kept = body;
}
