// Read gob's primitives (https://pkg.go.dev/encoding/gob, "Encoding Details"): every length is checked against the
// bytes there are.

/** Malformed gob, an unexpected type, or an exhausted budget. */
export class GobError extends Error {
  override readonly name = "GobError";
}

const text = new TextDecoder();
/** The highest distance between two fields of a struct. */
const MAX_FIELD_DELTA = 1000;

export class Cursor {
  constructor(
    readonly bytes: Uint8Array,
    public at: number,
    readonly end: number,
  ) {}

  get left(): number {
    return this.end - this.at;
  }

  uint(): bigint {
    if (this.left < 1) throw new GobError("gob ends inside a number");
    const first = this.bytes[this.at++] ?? 0;
    if (first < 128) return BigInt(first);
    const length = 256 - first;
    if (length > 8) throw new GobError(`gob number of ${length} bytes`);
    if (length > this.left) throw new GobError("gob ends inside a number");
    // Bigints are slow to shift; most numbers fit half of one.
    let high = 0;
    let low = 0;
    for (let i = 0; i < length - 4; i++) high = high * 256 + (this.bytes[this.at++] ?? 0);
    for (let i = Math.max(0, length - 4); i < length; i++) low = low * 256 + (this.bytes[this.at++] ?? 0);
    return high === 0 ? BigInt(low) : (BigInt(high) << 32n) | BigInt(low);
  }

  int(): bigint {
    const raw = this.uint();
    return raw & 1n ? ~(raw >> 1n) : raw >> 1n;
  }

  /** Read an unsigned number; above 2^53 it is inexact, but stays large. */
  small(): number {
    const first = this.bytes[this.at];
    if (this.at < this.end && first !== undefined) {
      if (first < 128) {
        this.at++;
        return first;
      }
      const length = 256 - first;
      if (length <= 6 && length < this.left) {
        this.at++;
        let value = 0;
        for (let i = 0; i < length; i++) value = value * 256 + (this.bytes[this.at++] ?? 0);
        return value;
      }
    }
    return Number(this.uint());
  }

  /** Read a count of items of at least one byte each. Throws GobError if it exceeds the bytes left. */
  count(): number {
    const value = this.small();
    if (value > this.left) throw new GobError(`gob counts ${value} where ${this.left} bytes are left`);
    return value;
  }

  /** Read length-prefixed bytes, as a view. */
  take(): Uint8Array {
    const length = this.count();
    this.at += length;
    return this.bytes.subarray(this.at - length, this.at);
  }

  string(): string {
    return text.decode(this.take());
  }

  typeId(): number {
    const raw = this.small();
    if (raw > 0xffffffff) throw new GobError(`gob type id ${raw}`);
    return raw % 2 === 1 ? -(raw + 1) / 2 : raw / 2;
  }

  /** Walk the fields of a struct: each is prefixed by the difference to the last field's number; 0 ends it. */
  eachField(read: (field: number) => void): void {
    for (let field = this.nextField(0); field > 0; field = this.nextField(field)) read(field);
  }

  /** The number of the field that comes after `field`; 0 at the end of the struct. */
  nextField(field: number): number {
    const delta = this.small();
    if (delta > MAX_FIELD_DELTA) throw new GobError(`gob struct skips ${delta} fields`);
    return delta === 0 ? 0 : field + delta;
  }
}

/** Longest length prefix of a message, in bytes: a size byte, then a number of 64 bits. */
export const MAX_PREFIX = 9;

/** Return the encoded size, in bytes, of a number whose first byte is `first`. */
const prefixOf = (first: number) => (first < 128 ? 1 : 1 + 256 - first);

/**
 * Return the length of the message at `at` in bytes, including its length prefix; undefined while the prefix is incomplete.
 * Throws GobError for a message of more than `max` bytes.
 */
export function messageLength(bytes: Uint8Array, at: number, max: number): number | undefined {
  const prefix = prefixOf(bytes[at] ?? 0);
  if (prefix > MAX_PREFIX) throw new GobError(`gob number of ${prefix - 1} bytes`);
  if (bytes.length - at < prefix) return undefined;
  const length = new Cursor(bytes, at, bytes.length).small();
  if (length > max) throw new GobError(`gob message of ${length} bytes, more than ${max}`);
  return prefix + length;
}

/**
 * Return the message at `at`: a length, then that many bytes. Undefined while it is incomplete. Throws GobError for a
 * length above `max` bytes.
 */
export function messageAt(bytes: Uint8Array, at: number, max: number): Cursor | undefined {
  const length = messageLength(bytes, at, max);
  if (length === undefined || bytes.length - at < length) return undefined;
  return new Cursor(bytes, at + prefixOf(bytes[at] ?? 0), at + length);
}
