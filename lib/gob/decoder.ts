// Decoding gob that a peer sent: every length is checked against the bytes there are, every type against what is
// expected, and what the receiver does not know is skipped, as Go does.
import { BASIC_ID, type BasicKind, type GobType } from "./type.ts";

const WIRE_ARRAY = 1;
const WIRE_SLICE = 2;
const WIRE_STRUCT = 3;
const WIRE_MAP = 4;

const MAX_TYPES = 1000;
const MAX_DEPTH = 32;
// A message of a peer is at most 10 MB (mesh); a gob message in it cannot be longer.
const MAX_MESSAGE = 10 * 1024 * 1024;

/** Bytes that are no gob, or not of the expected type. */
export class GobError extends Error {
  override readonly name = "GobError";
}

type WireType =
  | { readonly kind: "slice"; readonly element: number; readonly length?: number }
  | { readonly kind: "map"; readonly key: number; readonly element: number }
  | { readonly kind: "struct"; readonly fields: readonly { readonly name: string; readonly id: number }[] };

const BASIC_KIND = new Map<number, BasicKind>(
  Object.entries(BASIC_ID).map(([kind, id]) => [id, kind as BasicKind]),
);

const text = new TextDecoder();

class Cursor {
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
    let value = 0n;
    for (let i = 0; i < length; i++) value = (value << 8n) | BigInt(this.bytes[this.at++] ?? 0);
    return value;
  }

  int(): bigint {
    const raw = this.uint();
    return raw & 1n ? ~(raw >> 1n) : raw >> 1n;
  }

  /** An unsigned number where only small ones make sense; larger than 2^53 it is wrong anyway, and stays large. */
  small(): number {
    const first = this.bytes[this.at];
    if (this.at < this.end && first !== undefined && first < 128) {
      this.at++;
      return first;
    }
    return Number(this.uint());
  }

  /** A number that counts things of at least one byte each, so it cannot exceed the bytes left. */
  count(): number {
    const value = this.small();
    if (value > this.left) throw new GobError(`gob counts ${value} where ${this.left} bytes are left`);
    return value;
  }

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
}

/** Decodes values of one stream; it remembers the types that the stream has described. */
export class GobDecoder {
  readonly #types = new Map<number, WireType>();

  /**
   * Decodes the next value of `type` from `bytes` at `at`. Undefined when the bytes end before the value does
   * (more of the stream has to come); throws GobError for anything malformed.
   */
  next<T>(type: GobType<T>, bytes: Uint8Array, at: number): { value: T; at: number } | undefined {
    for (let start = at; ; ) {
      const message = frame(bytes, start);
      if (!message) return undefined;
      const id = message.typeId();
      start = message.end;
      if (id >= 0) {
        if (!this.#isStruct(id) && message.uint() !== 0n)
          throw new GobError("gob value without its zero byte");
        const value = this.#value(message, id, type, 0) as T;
        if (message.left > 0) throw new GobError(`${message.left} stray bytes after a gob value`);
        return { value, at: message.end };
      }
      this.#learn(-id, message);
    }
  }

  /** Passes over the next value without reading it; where it ends, or undefined as in `next`. */
  skip(bytes: Uint8Array, at: number): number | undefined {
    for (let start = at; ; ) {
      const message = frame(bytes, start);
      if (!message) return undefined;
      const id = message.typeId();
      start = message.end;
      if (id >= 0) return start;
      this.#learn(-id, message);
    }
  }

  #isStruct(id: number): boolean {
    return this.#types.get(id)?.kind === "struct";
  }

  #learn(id: number, cursor: Cursor): void {
    // A stream that is given up half-way and decoded anew describes its types again.
    if (this.#types.size >= MAX_TYPES) throw new GobError("gob describes too many types");
    let wire: WireType | undefined;
    eachField(cursor, (field) => {
      switch (field) {
        case WIRE_ARRAY:
        case WIRE_SLICE:
          wire = readSlice(cursor);
          break;
        case WIRE_STRUCT:
          wire = readStruct(cursor);
          break;
        case WIRE_MAP:
          wire = readMap(cursor);
          break;
        default:
          throw new GobError(`gob describes a type of unknown kind ${field}`);
      }
    });
    if (!wire) throw new GobError("gob describes a type without saying what it is");
    this.#types.set(id, wire);
  }

  /** Reads a value of wire type `id`; as `type`, or to skip it where that is undefined. */
  #value(cursor: Cursor, id: number, type: GobType | undefined, depth: number): unknown {
    if (depth > MAX_DEPTH) throw new GobError("gob nested too deeply");
    const wanted = type?.kind === "pointer" ? type.target : type;
    const basic = BASIC_KIND.get(id);
    if (basic) return this.#basic(cursor, basic, wanted);
    const wire = this.#types.get(id);
    if (!wire) throw new GobError(`gob value of undescribed type ${id}`);
    if (wanted && wanted.kind !== wire.kind)
      throw new GobError(`gob has a ${wire.kind} for a ${wanted.kind}`);
    switch (wire.kind) {
      case "slice": {
        const inner = wanted?.kind === "slice" ? wanted.element : undefined;
        const count = cursor.count();
        const list: unknown[] = [];
        for (let i = 0; i < count; i++) list.push(this.#value(cursor, wire.element, inner, depth + 1));
        return list;
      }
      case "map": {
        const inner = wanted?.kind === "map" ? wanted : undefined;
        const count = cursor.count();
        const map = new Map<unknown, unknown>();
        for (let i = 0; i < count; i++) {
          const key = this.#value(cursor, wire.key, inner?.key, depth + 1);
          map.set(key, this.#value(cursor, wire.element, inner?.element, depth + 1));
        }
        return map;
      }
      case "struct": {
        const fields = wanted?.kind === "struct" ? wanted.byName : undefined;
        const result = (wanted?.zero() ?? {}) as Record<string, unknown>;
        eachField(cursor, (number) => {
          const field = wire.fields[number - 1];
          if (!field) throw new GobError(`gob struct has no field ${number}`);
          const known = fields?.get(field.name);
          const value = this.#value(cursor, field.id, known, depth + 1);
          if (known) result[field.name] = value;
        });
        return result;
      }
    }
  }

  #basic(cursor: Cursor, kind: BasicKind, wanted: GobType | undefined): unknown {
    if (wanted && wanted.kind !== kind) throw new GobError(`gob has a ${kind} for a ${wanted.kind}`);
    switch (kind) {
      case "bool":
        return cursor.uint() !== 0n;
      case "float":
        return cursor.uint();
      case "bytes":
        return cursor.take().slice();
      case "string":
        return cursor.string();
      case "int":
      case "uint": {
        const value = kind === "int" ? cursor.int() : cursor.uint();
        if (!wanted || wanted.kind !== kind) return value;
        const { min = value, max = value, big } = wanted as { min?: bigint; max?: bigint; big?: boolean };
        if (value < min || value > max) throw new GobError(`gob number ${value} is not in ${min} … ${max}`);
        return big ? value : Number(value);
      }
    }
  }
}

/** The message at `at`, if all of it is there. */
function frame(bytes: Uint8Array, at: number): Cursor | undefined {
  const first = bytes[at];
  if (first === undefined) return undefined;
  if (first >= 128 && bytes.length - at < 1 + 256 - first) return undefined;
  const cursor = new Cursor(bytes, at, bytes.length);
  const length = cursor.small();
  if (length > MAX_MESSAGE) throw new GobError(`gob message of ${length} bytes`);
  if (length > cursor.left) return undefined;
  return new Cursor(bytes, cursor.at, cursor.at + length);
}

/** Walks the fields of a struct value: each has the distance from the last field's number in front, 0 ends it. */
function eachField(cursor: Cursor, read: (field: number) => void): void {
  for (let field = 0; ; ) {
    const delta = cursor.small();
    if (delta === 0) return;
    if (delta > 1000) throw new GobError(`gob struct skips ${delta} fields`);
    field += delta;
    read(field);
  }
}

/** Skips a CommonType: a name and an id, which the definition's own id has told already. */
function readCommon(cursor: Cursor): void {
  eachField(cursor, (field) => {
    if (field === 1) cursor.take();
    else cursor.int();
  });
}

function readSlice(cursor: Cursor): WireType {
  let element = 0;
  eachField(cursor, (field) => {
    if (field === 1) readCommon(cursor);
    else if (field === 2) element = cursor.typeId();
    else cursor.int();
  });
  return { kind: "slice", element };
}

function readMap(cursor: Cursor): WireType {
  let key = 0;
  let element = 0;
  eachField(cursor, (field) => {
    if (field === 1) readCommon(cursor);
    else if (field === 2) key = cursor.typeId();
    else element = cursor.typeId();
  });
  return { kind: "map", key, element };
}

function readStruct(cursor: Cursor): WireType {
  const fields: { name: string; id: number }[] = [];
  eachField(cursor, (field) => {
    if (field === 1) return readCommon(cursor);
    const count = cursor.count();
    for (let i = 0; i < count; i++) {
      const entry = { name: "", id: 0 };
      eachField(cursor, (part) => {
        if (part === 1) entry.name = cursor.string();
        else entry.id = cursor.typeId();
      });
      fields.push(entry);
    }
  });
  return { kind: "struct", fields };
}

/** Decodes a stream that is all there, value by value. */
export class GobReader {
  readonly #decoder = new GobDecoder();
  #at = 0;

  constructor(readonly bytes: Uint8Array) {}

  get atEnd(): boolean {
    return this.#at >= this.bytes.length;
  }

  read<T>(type: GobType<T>): T {
    const next = this.#decoder.next(type, this.bytes, this.#at);
    if (!next) throw new GobError("gob ends early");
    this.#at = next.at;
    return next.value;
  }

  /** Passes over the next value. */
  skip(): void {
    const at = this.#decoder.skip(this.bytes, this.#at);
    if (at === undefined) throw new GobError("gob ends early");
    this.#at = at;
  }
}
