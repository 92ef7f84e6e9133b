// Values of a report as Go has them. Its structs are objects whose names begin with a capital, its maps are the others.

/** A number of Go's float64, where JavaScript alone would take it for an int. */
export class Float {
  constructor(readonly value: number) {}
}

/** How Go prints what is nil, by the name of its field; lists are "[]". */
const NIL_TEXTS: Readonly<Record<string, string>> = {
  Attrs: "map[]",
  DNS: "<nil>",
  IPAM: "<nil>",
  Paxos: "<nil>",
  Peer: "<nil>",
  Plugin: "<nil>",
  Proxy: "<nil>",
};

/** A field that is nil. */
export class Nil {
  constructor(readonly field: string) {}

  get text(): string {
    return NIL_TEXTS[this.field] ?? "[]";
  }

  toJSON(): null {
    return null;
  }
}

/** What a map does not have. */
export const NO_VALUE = Symbol("no value");

/** Fields that a report leaves out where there is nothing to say; those of the original first. */
const OPTIONAL: readonly string[] = [
  "DNS",
  "IPAM",
  "Proxy",
  "Plugin",
  "Peer",
  "Problem",
  "Problems",
  "Repairs",
  "UnreachableSince",
  "WaitsFor",
];

export type Fields = Readonly<Record<string, unknown>>;

export const isFields = (value: unknown): value is Fields =>
  typeof value === "object" &&
  value !== null &&
  !Array.isArray(value) &&
  !(value instanceof Float) &&
  !(value instanceof Nil);

/** Whether an object is one of Go's structs; an empty one is a map. */
export function isStruct(value: Fields): boolean {
  const keys = Object.keys(value);
  return keys.length > 0 && keys.every((key) => /^[A-Z]/.test(key));
}

/** Names of an object in the order in which Go goes through them: fields as they are declared, keys of a map sorted. */
export const namesOf = (value: Fields): string[] =>
  isStruct(value) ? Object.keys(value) : Object.keys(value).sort((a, b) => (a < b ? -1 : 1));

/** The value of a field; undefined where a struct has none of that name. */
export function fieldOf(value: Fields, name: string): unknown {
  if (Object.hasOwn(value, name)) {
    const found = value[name];
    if (found !== undefined) return found === null ? new Nil(name) : found;
  }
  if (OPTIONAL.includes(name)) return new Nil(name);
  return isStruct(value) ? undefined : NO_VALUE;
}

/** An element of a list, a nil one as it is printed. */
export const elementOf = (value: unknown): unknown => (value === null ? new Nil("") : value);

export const isNil = (value: unknown): boolean =>
  value === null || value === undefined || value === NO_VALUE || value instanceof Nil;

/** Return whether a value is true: all but false, 0, nil and empty ones. */
export function truth(value: unknown): boolean {
  if (isNil(value)) return false;
  if (value instanceof Float) return value.value !== 0;
  if (Array.isArray(value)) return value.length > 0;
  if (isFields(value)) return Object.keys(value).length > 0;
  return Boolean(value);
}

/** The name of its type in Go; for errors. */
export function typeOf(value: unknown): string {
  if (isNil(value)) return "nil";
  if (value instanceof Float) return "float64";
  if (Array.isArray(value)) return "list";
  if (isFields(value)) return isStruct(value) ? "struct" : "map";
  switch (typeof value) {
    case "number":
      return Number.isInteger(value) ? "int" : "float64";
    case "bigint":
      return "uint64";
    case "boolean":
      return "bool";
    default:
      return typeof value;
  }
}
