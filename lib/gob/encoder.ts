// Encode gob: a stream of length-prefixed messages; a type is described before its first value.
import { concat } from "../bytes/concat.ts";
import type { Work } from "../clock/slices.ts";
import { BASIC_ID, type GobType } from "./type.ts";
import { message, Writer } from "./writer.ts";

const WIRE_SLICE = 2;
const WIRE_STRUCT = 3;
const WIRE_MAP = 4;
const FIRST_USER_ID = 65;

function isZero(type: GobType, value: unknown): boolean {
  switch (type.kind) {
    case "bytes":
      return (value as Uint8Array).length === 0;
    case "slice":
      return (value as unknown[]).length === 0;
    // Go sends empty maps and zero structs, but omits other zero values.
    case "map":
    case "struct":
      return false;
    case "pointer":
      return value === undefined;
    default:
      return !value;
  }
}

/** What a new stream says of a type and all that it consists of: the same each time. */
interface Preamble {
  readonly bytes: Uint8Array;
  readonly ids: ReadonlyMap<GobType, number>;
  readonly nextId: number;
}
const preambles = new WeakMap<GobType, Preamble>();

/**
 * Encode values of one stream. Type ids are assigned as in Go: from `firstId`, a struct before its fields, a slice or map
 * after its elements. Receivers accept any ids. A Go process counts across streams: a test that compares its bytes passes
 * the ids (`ids`) that the process had assigned already.
 */
export class GobEncoder {
  readonly #ids: Map<GobType, number>;
  readonly #described = new Set<GobType>();
  #nextId: number;
  /** What begins the stream, unless it has ids of its own. */
  #preamble: Preamble | undefined;

  constructor(firstId = FIRST_USER_ID, ids: Iterable<readonly [GobType, number]> = []) {
    this.#nextId = firstId;
    this.#ids = new Map(ids);
  }

  /** Encode a value, preceded by descriptions of types that are new to the stream. */
  encode<T>(type: GobType<T>, value: T): Uint8Array {
    const out = new Writer();
    if (!this.#begin(out, type)) this.#describe(out, type);
    message(out, (body) => {
      body.int(this.#id(type));
      if (type.kind !== "struct") body.byte(0);
      this.#value(body, type, value);
    });
    return out.done();
  }

  /** Encode a value as `encode` does, in slices: with a pause after so many elements of each slice that is not in another. */
  *encodeSliced<T>(type: GobType<T>, value: T, step: number): Work<Uint8Array> {
    const out = new Writer();
    if (!this.#begin(out, type)) this.#describe(out, type);
    const body = new Writer();
    body.int(this.#id(type));
    if (type.kind !== "struct") body.byte(0);
    yield* this.#valueSliced(body, type, value, step);
    out.uint(body.length);
    out.raw(body.view());
    return out.done();
  }

  *#valueSliced(out: Writer, type: GobType, value: unknown, step: number): Work {
    switch (type.kind) {
      case "pointer":
        return yield* this.#valueSliced(out, type.target, value, step);
      case "slice": {
        const elements = value as unknown[];
        out.uint(elements.length);
        for (const [i, element] of elements.entries()) {
          if (i % step === step - 1) yield;
          this.#value(out, type.element, element);
        }
        return;
      }
      case "struct": {
        let last = -1;
        for (const [i, [name, field]] of type.fields.entries()) {
          const element = (value as Record<string, unknown>)[name];
          if (isZero(field, element)) continue;
          out.uint(i - last);
          last = i;
          yield* this.#valueSliced(out, field, element, step);
        }
        return out.byte(0);
      }
      default:
        return this.#value(out, type, value);
    }
  }

  /** Begin a stream as others of this type have begun; false where it has begun, or none has. */
  #begin(out: Writer, type: GobType): boolean {
    if (this.#preamble || this.#ids.size > 0 || this.#nextId !== FIRST_USER_ID) return false;
    let preamble = preambles.get(type);
    if (!preamble) {
      const described = new Writer();
      this.#describe(described, type);
      preamble = { bytes: described.done(), ids: new Map(this.#ids), nextId: this.#nextId };
      preambles.set(type, preamble);
    }
    this.#preamble = preamble;
    this.#nextId = preamble.nextId;
    out.raw(preamble.bytes);
    return true;
  }

  #id(type: GobType): number {
    if (type.kind === "pointer") return this.#id(type.target);
    const known = this.#preamble?.ids.get(type) ?? this.#ids.get(type);
    if (known !== undefined) return known;
    switch (type.kind) {
      case "struct": {
        const id = this.#assign(type);
        for (const [, field] of type.fields) this.#id(field);
        return id;
      }
      case "slice":
        this.#id(type.element);
        return this.#assign(type);
      case "map":
        this.#id(type.key);
        this.#id(type.element);
        return this.#assign(type);
      default:
        return BASIC_ID[type.kind];
    }
  }

  #assign(type: GobType): number {
    const id = this.#nextId++;
    this.#ids.set(type, id);
    return id;
  }

  #describe(out: Writer, type: GobType): void {
    if (type.kind === "pointer") return this.#describe(out, type.target);
    if (this.#preamble?.ids.has(type) || this.#described.has(type)) return;
    switch (type.kind) {
      case "struct":
        this.#definition(out, type, WIRE_STRUCT, type.name, (body) => {
          body.byte(1);
          body.uint(type.fields.length);
          for (const [name, field] of type.fields) {
            body.byte(1);
            body.string(name);
            body.byte(1);
            body.int(this.#id(field));
            body.byte(0);
          }
        });
        for (const [, field] of type.fields) this.#describe(out, field);
        break;
      case "slice":
        this.#definition(out, type, WIRE_SLICE, type.name, (body) => {
          body.byte(1);
          body.int(this.#id(type.element));
        });
        this.#describe(out, type.element);
        break;
      case "map":
        this.#definition(out, type, WIRE_MAP, type.name, (body) => {
          body.byte(1);
          body.int(this.#id(type.key));
          body.byte(1);
          body.int(this.#id(type.element));
        });
        this.#describe(out, type.key);
        this.#describe(out, type.element);
        break;
    }
  }

  /** Encode a wireType: one field by kind, with a CommonType (name and id) and the kind's own fields. */
  #definition(out: Writer, type: GobType, wire: number, name: string, rest: (body: Writer) => void): void {
    const id = this.#id(type);
    this.#described.add(type);
    message(out, (body) => {
      body.int(-id);
      body.byte(wire);
      body.byte(1);
      if (name === "") {
        body.byte(2);
      } else {
        body.byte(1);
        body.string(name);
        body.byte(1);
      }
      body.int(id);
      body.byte(0);
      rest(body);
      body.byte(0);
      body.byte(0);
    });
  }

  #value(out: Writer, type: GobType, value: unknown): void {
    switch (type.kind) {
      case "bool":
        return out.byte(value ? 1 : 0);
      case "uint":
        return out.uint(value as number | bigint);
      case "int":
        return out.int(value as number | bigint);
      case "string":
        return out.string(value as string);
      case "bytes":
        out.uint((value as Uint8Array).length);
        return out.raw(value as Uint8Array);
      case "slice":
        out.uint((value as unknown[]).length);
        for (const element of value as unknown[]) this.#value(out, type.element, element);
        return;
      case "map":
        out.uint((value as Map<unknown, unknown>).size);
        for (const [key, element] of value as Map<unknown, unknown>) {
          this.#value(out, type.key, key);
          this.#value(out, type.element, element);
        }
        return;
      case "pointer":
        return this.#value(out, type.target, value);
      case "struct": {
        let last = -1;
        type.fields.forEach(([name, field], i) => {
          const element = (value as Record<string, unknown>)[name];
          if (isZero(field, element)) return;
          out.uint(i - last);
          last = i;
          this.#value(out, field, element);
        });
        return out.byte(0);
      }
      case "float":
        throw new Error("floating point numbers are not used on our wire");
    }
  }
}

/** Return what is in front of so many bytes in a message that holds them alone: a long value needs no further copy. */
export function bytesPrefix(length: number): Uint8Array {
  const value = new Writer();
  value.int(BASIC_ID.bytes);
  value.byte(0);
  value.uint(length);
  const out = new Writer();
  out.uint(value.length + length);
  out.raw(value.view());
  return out.done();
}

/** Encode values as a stream of their own. */
export function gobEncode(...items: readonly (readonly [GobType, unknown])[]): Uint8Array {
  const encoder = new GobEncoder();
  return concat(items.map(([type, value]) => encoder.encode(type, value)));
}
