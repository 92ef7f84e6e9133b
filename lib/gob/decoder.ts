// Decode a peer's gob: check every type against the expected one, charge every value to a budget, and skip unknown fields,
// as Go does.

import type { Work } from "../clock/slices.ts";
import { Budget, FIELD_COST, UNKNOWN_COST, VALUE_COST } from "./budget.ts";
import { type Cursor, GobError, messageAt } from "./cursor.ts";
import { readDescription, type WireType } from "./description.ts";
import { BASIC_ID, type BasicKind, type GobType } from "./type.ts";

const MAX_DEPTH = 32;
/** A message of a peer is at most 10 MB (mesh); a gob message in it cannot be longer. */
const MAX_MESSAGE = 10 * 1024 * 1024;

const BASIC_KIND = new Map<number, BasicKind>(
  Object.entries(BASIC_ID).map(([kind, id]) => [id, kind as BasicKind]),
);

/** A decoded message: its value, if it has one, and its end. */
type Taken<T> = { value: T | undefined; at: number } | undefined;

/** Receives the elements of one slice in parts, one a step; the decoded value has none of them. */
interface Sink {
  /** Field of the outermost struct. */
  readonly field: string;
  /** Take elements, and the struct with the fields before this one. */
  take(before: unknown, part: unknown[]): void;
}

/** Elements of a slice per step: less than 1 ms of work. */
const STEP = 64;
/** Depth of structs up to which slices are decoded in steps. */
const SLICED_DEPTH = 3;

/** Decode values of one stream; it remembers the types that the stream has described. */
export class GobDecoder {
  readonly #types = new Map<number, WireType>();

  constructor(private readonly budget = new Budget()) {}

  /**
   * Decode the message at `at`: a value of `type`, or a type description, which has no value. Returns its end, so that a
   * stream in pieces is decoded once, message by message; undefined while the message is incomplete. Throws GobError.
   */
  take<T>(type: GobType<T>, bytes: Uint8Array, at: number): Taken<T> {
    const message = messageAt(bytes, at, MAX_MESSAGE);
    if (!message) return undefined;
    const id = this.#begin(message);
    if (id < 0) return { value: undefined, at: message.end };
    const value = this.#value(message, id, type, 0) as T;
    requireEnd(message);
    return { value, at: message.end };
  }

  /** As `take`, in steps of `step` elements of slices and maps; nested ones are decoded at once. */
  *takeSliced<T>(type: GobType<T>, bytes: Uint8Array, at: number, step: number, sink?: Sink): Work<Taken<T>> {
    const message = messageAt(bytes, at, MAX_MESSAGE);
    if (!message) return undefined;
    const id = this.#begin(message);
    if (id < 0) return { value: undefined, at: message.end };
    const value = (yield* this.#sliced(message, id, type, step, 0, sink)) as T;
    requireEnd(message);
    return { value, at: message.end };
  }

  /** Read up to the value: returns its type id; negative for a type description, which is stored. */
  #begin(message: Cursor): number {
    const id = this.#idOf(message);
    if (id >= 0 && this.#types.get(id)?.kind !== "struct" && message.small() !== 0)
      throw new GobError("gob value without its zero byte");
    return id;
  }

  /** With `take`, pass the elements of a slice to it in parts, and return an empty slice. */
  *#sliced(
    cursor: Cursor,
    id: number,
    type: GobType,
    step: number,
    depth: number,
    sink?: Sink,
    take?: (part: unknown[]) => void,
  ): Work<unknown> {
    const wire = this.#types.get(id);
    const wanted = type.kind === "pointer" ? type.target : type;
    if (wire?.kind === "slice" && wanted.kind === "slice") {
      const count = countOf(cursor, wanted.most);
      let list: unknown[] = [];
      for (let i = 0; i < count; i++) {
        if (i % step === step - 1) {
          take?.(list);
          if (take) list = [];
          yield;
        }
        list.push(this.#value(cursor, wire.element, wanted.element, depth + 1));
      }
      if (!take) return list;
      take(list);
      return [];
    }
    if (wire?.kind === "map" && wanted.kind === "map") {
      const count = cursor.count();
      const map = new Map<unknown, unknown>();
      for (let i = 0; i < count; i++) {
        if (i % step === step - 1) yield;
        const key = this.#value(cursor, wire.key, wanted.key, depth + 1);
        map.set(key, this.#value(cursor, wire.element, wanted.element, depth + 1));
      }
      return map;
    }
    if (depth >= SLICED_DEPTH || wire?.kind !== "struct" || wanted.kind !== "struct") {
      return this.#value(cursor, id, type, depth);
    }
    const result = wanted.zero() as Record<string, unknown>;
    for (let number = cursor.nextField(0); number > 0; number = cursor.nextField(number)) {
      const field = wire.fields[number - 1];
      if (!field) throw new GobError(`gob struct has no field ${number}`);
      const known = wanted.byName.get(field.name);
      if (known && this.#types.has(field.id)) {
        const take = sink?.field === field.name ? (part: unknown[]) => sink.take(result, part) : undefined;
        result[field.name] = yield* this.#sliced(cursor, field.id, known, step, depth + 1, undefined, take);
      } else if (known) result[field.name] = this.#value(cursor, field.id, known, depth + 1);
      else this.#value(cursor, field.id, undefined, depth + 1);
    }
    return result;
  }

  /** Skip the message at `at` without decoding its value. Returns as `take` does. */
  pass(bytes: Uint8Array, at: number): { value: boolean; at: number } | undefined {
    const message = messageAt(bytes, at, MAX_MESSAGE);
    return message && { value: this.#idOf(message) >= 0, at: message.end };
  }

  /** Return the type id of a message's value; negative for a type description, which is stored. */
  #idOf(message: Cursor): number {
    const length = message.left;
    const id = message.typeId();
    if (id < 0) {
      this.budget.describe(length);
      this.#types.set(-id, readDescription(message));
    }
    return id;
  }

  /** Read a value of wire type `id` as `type`; skip it if that is undefined. */
  #value(cursor: Cursor, id: number, type: GobType | undefined, depth: number): unknown {
    if (depth > MAX_DEPTH) throw new GobError("gob nested too deeply");
    this.budget.spend(type ? VALUE_COST : UNKNOWN_COST);
    const wanted = type?.kind === "pointer" ? type.target : type;
    const basic = BASIC_KIND.get(id);
    if (basic) return readBasic(cursor, basic, wanted);
    const wire = this.#types.get(id);
    if (!wire) throw new GobError(`gob value of undescribed type ${id}`);
    if (wanted && wanted.kind !== wire.kind)
      throw new GobError(`gob has a ${wire.kind} for a ${wanted.kind}`);
    switch (wire.kind) {
      case "slice": {
        const { element: inner, most } = wanted?.kind === "slice" ? wanted : {};
        const count = countOf(cursor, most);
        const list: unknown[] = [];
        for (let i = 0; i < count; i++) {
          const element = this.#value(cursor, wire.element, inner, depth + 1);
          if (inner) list.push(element);
        }
        return list;
      }
      case "map": {
        const inner = wanted?.kind === "map" ? wanted : undefined;
        const count = cursor.count();
        const map = new Map<unknown, unknown>();
        for (let i = 0; i < count; i++) {
          const key = this.#value(cursor, wire.key, inner?.key, depth + 1);
          const element = this.#value(cursor, wire.element, inner?.element, depth + 1);
          if (inner) map.set(key, element);
        }
        return map;
      }
      case "struct": {
        const fields = wanted?.kind === "struct" ? wanted.byName : undefined;
        this.budget.spend(FIELD_COST * (fields?.size ?? 0));
        const result = (wanted?.zero() ?? {}) as Record<string, unknown>;
        cursor.eachField((number) => {
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
}

/** Read the number of elements; throws GobError where there are more than `most`. */
function countOf(cursor: Cursor, most = Number.POSITIVE_INFINITY): number {
  const count = cursor.count();
  if (count > most) throw new GobError(`gob has ${count} elements where ${most} are the most`);
  return count;
}

function requireEnd({ left }: Cursor): void {
  if (left > 0) throw new GobError(`${left} stray bytes after a gob value`);
}

function readBasic(cursor: Cursor, kind: BasicKind, wanted: GobType | undefined): unknown {
  if (wanted && wanted.kind !== kind) throw new GobError(`gob has a ${kind} for a ${wanted.kind}`);
  switch (kind) {
    case "bool":
      return cursor.uint() !== 0n;
    case "float":
      return cursor.uint();
    case "bytes":
      return wanted && !("view" in wanted && wanted.view) ? cursor.take().slice() : cursor.take();
    case "string":
      return wanted ? cursor.string() : cursor.take();
    case "int":
    case "uint": {
      if (!wanted || wanted.kind !== kind) return cursor.uint();
      const { min, max, big } = wanted as { min?: bigint | number; max?: bigint | number; big?: boolean };
      const value = kind === "int" ? cursor.int() : big ? cursor.uint() : cursor.small();
      if ((min !== undefined && value < min) || (max !== undefined && value > max)) {
        throw new GobError(`gob number ${value} is not in ${min} … ${max}`);
      }
      return big ? value : Number(value);
    }
  }
}

/** Decode a complete stream, value by value. */
export class GobReader {
  readonly #decoder: GobDecoder;
  #at = 0;

  constructor(readonly bytes: Uint8Array) {
    this.#decoder = new GobDecoder(new Budget(bytes.length));
  }

  get atEnd(): boolean {
    return this.#at >= this.bytes.length;
  }

  read<T>(type: GobType<T>): T {
    for (;;) {
      const value = this.#next(type);
      if (value !== undefined) return value;
    }
  }

  /** Return the value of the next message, if it has one. */
  #next<T>(type: GobType<T>): T | undefined {
    const next = this.#decoder.take(type, this.bytes, this.#at);
    if (!next) throw new GobError("gob ends early");
    this.#at = next.at;
    return next.value;
  }

  /** As `read`, in steps. */
  *readSliced<T>(type: GobType<T>): Work<T> {
    for (;;) {
      const value = yield* this.#nextSliced(type);
      if (value !== undefined) return value;
    }
  }

  /**
   * As `readSliced`, but pass the elements of one field, a slice, to `take` in parts, with the fields before it: a long slice is
   * never in memory as a whole. The field is empty in the returned value.
   */
  *readParts<T, K extends keyof T & string>(
    type: GobType<T>,
    field: K,
    take: (before: T, part: T[K]) => void,
  ): Work<T> {
    const sink = { field, take: (before: unknown, part: unknown) => take(before as T, part as T[K]) };
    for (;;) {
      const value = yield* this.#nextSliced(type, sink);
      if (value !== undefined) return value;
    }
  }

  *#nextSliced<T>(type: GobType<T>, sink?: Sink): Work<T | undefined> {
    const next = yield* this.#decoder.takeSliced(type, this.bytes, this.#at, STEP, sink);
    if (!next) throw new GobError("gob ends early");
    this.#at = next.at;
    return next.value;
  }

  /** As `readSliced`, but a value of more than `maxBytes` is skipped: undefined. */
  *readUpTo<T>(type: GobType<T>, maxBytes: number): Work<T | undefined> {
    for (;;) {
      if ((messageAt(this.bytes, this.#at, MAX_MESSAGE)?.left ?? 0) > maxBytes) return this.skip();
      const value = yield* this.#nextSliced(type);
      if (value !== undefined) return value;
    }
  }

  /** Skip the next value. */
  skip(): undefined {
    for (;;) {
      const next = this.#decoder.pass(this.bytes, this.#at);
      if (!next) throw new GobError("gob ends early");
      this.#at = next.at;
      if (next.value) return;
    }
  }
}
