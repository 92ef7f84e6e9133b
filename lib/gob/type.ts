// Types of gob values (https://pkg.go.dev/encoding/gob): how Go sees a type, and, as type parameter, how TypeScript does.

/** Predefined type ids. */
export const BASIC_ID = { bool: 1, int: 2, uint: 3, float: 4, bytes: 5, string: 6 } as const;
export type BasicKind = keyof typeof BASIC_ID;

declare const value: unique symbol;

interface Typed<T> {
  readonly [value]?: T;
  /** The zero value, which Go omits. */
  zero(): T;
}

export type GobType<T = unknown> = Typed<T> & (Basic | Slice | MapType | Struct | Pointer);

interface Basic {
  readonly kind: BasicKind;
  /** For integers: the allowed values, and whether these and the bounds are bigints. */
  readonly min?: bigint | number;
  readonly max?: bigint | number;
  readonly big?: boolean;
  /** For bytes: decoded as a view. */
  readonly view?: boolean;
}

interface Slice {
  readonly kind: "slice";
  readonly name: string;
  readonly element: GobType;
  /** Elements at most. */
  readonly most: number;
}

interface MapType {
  readonly kind: "map";
  readonly name: string;
  readonly key: GobType;
  readonly element: GobType;
}

interface Struct {
  readonly kind: "struct";
  readonly name: string;
  readonly fields: readonly (readonly [string, GobType])[];
  readonly byName: ReadonlyMap<string, GobType>;
}

/** A pointer: what it points to, or nothing. */
interface Pointer {
  readonly kind: "pointer";
  readonly target: GobType;
}

/** The TypeScript type of a described value. */
export type GobValue<G> = G extends Typed<infer T> ? T : never;

export const bool: GobType<boolean> = { kind: "bool", zero: () => false };
export const string: GobType<string> = { kind: "string", zero: () => "" };
const NO_BYTES = new Uint8Array();
export const bytes: GobType<Uint8Array> = { kind: "bytes", zero: () => NO_BYTES };
/** As `bytes`, decoded as a view of the stream: a long value is not copied, and what keeps it keeps the stream. */
export const bytesView: GobType<Uint8Array> = { kind: "bytes", view: true, zero: () => NO_BYTES };

/** A uint64 (or a uint, which is one on the wire). */
export const uint64: GobType<bigint> = {
  kind: "uint",
  min: 0n,
  max: (1n << 64n) - 1n,
  big: true,
  zero: () => 0n,
};

/** An int64 that may not fit a number. */
export const int64: GobType<bigint> = {
  kind: "int",
  min: -(1n << 63n),
  max: (1n << 63n) - 1n,
  big: true,
  zero: () => 0n,
};

/** An unsigned integer of at most 53 bits; larger ones on the wire are refused. */
export function uint(bits: number): GobType<number> {
  return { kind: "uint", min: 0, max: 2 ** bits - 1, zero: () => 0 };
}

/** A signed integer of at most 53 bits beside its sign; larger ones on the wire are refused. */
export function int(bits: number): GobType<number> {
  return { kind: "int", min: -(2 ** bits), max: 2 ** bits - 1, zero: () => 0 };
}

/** A []T. `name` is the Go name of the slice type, where it has one; more than `most` elements on the wire are refused. */
export function slice<T>(element: GobType<T>, name = "", most = Number.POSITIVE_INFINITY): GobType<T[]> {
  return { kind: "slice", name, element, most, zero: () => [] };
}

/** A map[K]V. `name` is the Go name of the map type, where it has one. */
export function map<K, V>(key: GobType<K>, element: GobType<V>, name = ""): GobType<Map<K, V>> {
  return { kind: "map", name, key, element, zero: () => new Map() };
}

/** A *T, or a T that Go omits if it is nil (a map). */
export function pointer<T>(target: GobType<T>): GobType<T | undefined> {
  return { kind: "pointer", target, zero: () => undefined };
}

type Fields = Record<string, GobType<never> | GobType>;
type StructValue<F extends Fields> = { [K in keyof F]: GobValue<F[K]> };

/** A struct with fields in their Go order and by their Go names. */
export function struct<F extends Fields>(name: string, fields: F): GobType<StructValue<F>> {
  const list = Object.entries(fields) as [string, GobType][];
  // Mutable zero values are created for each value.
  const fresh = list.filter(([, type]) => ["slice", "map", "struct"].includes(type.kind));
  const constant: Record<string, unknown> = Object.fromEntries(
    list.map(([field, type]) => [field, type.zero()]),
  );
  return {
    kind: "struct",
    name,
    fields: list,
    byName: new Map(list),
    zero() {
      const value = { ...constant };
      for (const [field, type] of fresh) value[field] = type.zero();
      return value as StructValue<F>;
    },
  };
}
