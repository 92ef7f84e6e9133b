// Netlink attributes (struct nlattr, linux/netlink.h): a growing encoder and a checked decoder. The cursor and the
// arithmetic live here and nowhere else. Integers are in host byte order (little-endian on every target of ours)
// unless a name says big-endian.
import { viewOf } from "../bytes/view.ts";

const HEADER = 4;
const NESTED = 0x8000;
const TYPE_MASK = 0x3fff;
/** The length of an attribute has 16 bits, and counts its header. */
const MAX_LENGTH = 0xffff;

const align = (length: number) => (length + 3) & ~3;
const text = new TextEncoder();

/** An attribute that is longer than its length field can say; split what it lists. */
export class AttributeSizeError extends Error {
  override readonly name = "AttributeSizeError";
  constructor(type: number, length: number) {
    super(`netlink attribute ${type & TYPE_MASK} of ${length} bytes: at most ${MAX_LENGTH} fit`);
  }
}

/**
 * Builds a message body: a fixed header, then attributes, each padded to four bytes. Throws AttributeSizeError where one is too
 * long, nested ones included.
 */
export class AttributeEncoder {
  #bytes = new Uint8Array(512);
  #view = new DataView(this.#bytes.buffer);
  #length = 0;

  #reserve(length: number): number {
    const at = this.#length;
    const end = at + align(length);
    if (end > this.#bytes.length) {
      const grown = new Uint8Array(Math.max(end, 2 * this.#bytes.length));
      grown.set(this.#bytes.subarray(0, at));
      this.#bytes = grown;
      this.#view = new DataView(grown.buffer);
    }
    this.#length = end;
    return at;
  }

  #open(type: number, length: number): number {
    const at = this.#reserve(HEADER + length);
    this.#view.setUint16(at + 2, type, true);
    this.#close(at, type, HEADER + length);
    return at + HEADER;
  }

  #close(at: number, type: number, length: number): void {
    if (length > MAX_LENGTH) throw new AttributeSizeError(type, length);
    this.#view.setUint16(at, length, true);
  }

  /** Append bytes that are no attribute: the family header in front, or a whole message of a batch. */
  raw(bytes: Uint8Array): this {
    const at = this.#reserve(bytes.length);
    this.#bytes.set(bytes, at);
    return this;
  }

  bytes(type: number, value: Uint8Array): this {
    const at = this.#open(type, value.length);
    this.#bytes.set(value, at);
    return this;
  }

  /** Append a string with its terminating zero. */
  string(type: number, value: string): this {
    return this.bytes(type, text.encode(`${value}\0`));
  }

  flag(type: number): this {
    this.#open(type, 0);
    return this;
  }

  u8(type: number, value: number): this {
    const at = this.#open(type, 1);
    this.#view.setUint8(at, value);
    return this;
  }

  u16(type: number, value: number): this {
    const at = this.#open(type, 2);
    this.#view.setUint16(at, value, true);
    return this;
  }

  u16be(type: number, value: number): this {
    const at = this.#open(type, 2);
    this.#view.setUint16(at, value, false);
    return this;
  }

  u32(type: number, value: number): this {
    const at = this.#open(type, 4);
    this.#view.setUint32(at, value, true);
    return this;
  }

  u32be(type: number, value: number): this {
    const at = this.#open(type, 4);
    this.#view.setUint32(at, value, false);
    return this;
  }

  u64(type: number, value: bigint): this {
    const at = this.#open(type, 8);
    this.#view.setBigUint64(at, value, true);
    return this;
  }

  u64be(type: number, value: bigint): this {
    const at = this.#open(type, 8);
    this.#view.setBigUint64(at, value, false);
    return this;
  }

  /** Append an attribute that holds attributes. `flagged` sets NLA_F_NESTED, which newer families require. */
  nested(type: number, fill: (inner: this) => void, flagged = true): this {
    const start = this.#open(flagged ? type | NESTED : type, 0) - HEADER;
    fill(this);
    this.#close(start, type, this.#length - start);
    return this;
  }

  done(): Uint8Array {
    return this.#bytes.slice(0, this.#length);
  }
}

/** A malformed message from the kernel: a wrong length, or a missing attribute. */
export class AttributeError extends Error {
  override readonly name = "AttributeError";
  constructor(what: string) {
    super(`malformed netlink message: ${what}`);
  }
}

/** Return the header of `length` bytes in front of the attributes of a message; throws AttributeError where it is cut. */
export function familyHeader(body: Uint8Array, length: number): DataView {
  if (body.length < length)
    throw new AttributeError(`message of ${body.length} bytes, not ${length} or more`);
  return new DataView(body.buffer, body.byteOffset, length);
}

/** Read the header of `length` bytes of a message and the attributes behind it; throws AttributeError. */
export function decodeBody(
  body: Uint8Array,
  length: number,
): { readonly header: DataView; readonly attributes: Attributes } {
  return { header: familyHeader(body, length), attributes: decodeAttributes(body.subarray(length)) };
}

/** The bytes that attributes are in, nested ones, too, with one view for all of them: a start decodes thousands. */
interface Run {
  readonly bytes: Uint8Array;
  readonly view: DataView;
}

const TEXT = new TextDecoder();

/** One decoded attribute; the getters throw AttributeError where it is too short. */
export class Attribute {
  readonly #run: Run;
  readonly #at: number;
  readonly #length: number;

  /** The payload is `length` bytes of the run from `at`. */
  constructor(
    readonly type: number,
    run: Run,
    at: number,
    length: number,
  ) {
    this.#run = run;
    this.#at = at;
    this.#length = length;
  }

  get payload(): Uint8Array {
    return this.#run.bytes.subarray(this.#at, this.#at + this.#length);
  }

  #view(length: number): DataView {
    if (this.#length < length) {
      throw new AttributeError(`attribute ${this.type} has ${this.#length} bytes, not ${length}`);
    }
    return this.#run.view;
  }

  get u8(): number {
    return this.#view(1).getUint8(this.#at);
  }
  get u16(): number {
    return this.#view(2).getUint16(this.#at, true);
  }
  get u16be(): number {
    return this.#view(2).getUint16(this.#at, false);
  }
  get u32(): number {
    return this.#view(4).getUint32(this.#at, true);
  }
  get u32be(): number {
    return this.#view(4).getUint32(this.#at, false);
  }
  get u64(): bigint {
    return this.#view(8).getBigUint64(this.#at, true);
  }
  get u64be(): bigint {
    return this.#view(8).getBigUint64(this.#at, false);
  }

  /** Text up to the first zero byte. */
  get string(): string {
    const { payload } = this;
    const end = payload.indexOf(0);
    return TEXT.decode(end < 0 ? payload : payload.subarray(0, end));
  }

  get nested(): Attributes {
    return decodeRun(this.#run, this.#at, this.#at + this.#length);
  }
}

/** Attributes in order, with lookup by type. Most of a message is never read: there are no objects before they are asked for. */
export class Attributes {
  readonly #run: Run;
  readonly #start: number;
  readonly #end: number;
  readonly #first: readonly (number | undefined)[];

  /** Those of the run from `start` to `end`; `first` has where the first of each type begins. */
  constructor(run: Run, start: number, end: number, first: readonly (number | undefined)[]) {
    this.#run = run;
    this.#start = start;
    this.#end = end;
    this.#first = first;
  }

  get list(): readonly Attribute[] {
    const { view } = this.#run;
    const list: Attribute[] = [];
    for (let at = this.#start; at < this.#end; at += align(view.getUint16(at, true)))
      list.push(this.#attribute(view.getUint16(at + 2, true) & TYPE_MASK, at));
    return list;
  }

  get(type: number): Attribute | undefined {
    const at = this.#first[type];
    return at === undefined ? undefined : this.#attribute(type, at);
  }

  need(type: number): Attribute {
    const found = this.get(type);
    if (!found) throw new AttributeError(`attribute ${type} is missing`);
    return found;
  }

  #attribute(type: number, at: number): Attribute {
    return new Attribute(type, this.#run, at + HEADER, this.#run.view.getUint16(at, true) - HEADER);
  }
}

/** Decode a run of attributes; a length that does not fit the bytes left throws AttributeError. */
export function decodeAttributes(bytes: Uint8Array): Attributes {
  return decodeRun({ bytes, view: viewOf(bytes) }, 0, bytes.length);
}

function decodeRun(run: Run, start: number, end: number): Attributes {
  const { view } = run;
  const first: (number | undefined)[] = [];
  for (let at = start; at < end; ) {
    const left = end - at;
    if (left < HEADER) throw new AttributeError(`${left} stray bytes after attributes`);
    const length = view.getUint16(at, true);
    if (length < HEADER || length > left)
      throw new AttributeError(`attribute of ${length} bytes where ${left} are left`);
    first[view.getUint16(at + 2, true) & TYPE_MASK] ??= at;
    at += align(length);
  }
  return new Attributes(run, start, end, first);
}
