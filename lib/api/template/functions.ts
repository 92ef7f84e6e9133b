// What the functions of a format answer. and, or and not are the evaluator's: they do not need all their arguments.
import { printfText, printText, type Spend, valueText } from "./print.ts";
import { elementOf, Float, fieldOf, isFields, isNil, isStruct, Nil, NO_VALUE, typeOf } from "./values.ts";

/** Arguments that do not fit; the evaluator says where. */
export class ArgumentError extends Error {}

type Basic = string | boolean | number | bigint;

function basic(value: unknown, name: string): Basic {
  const plain = value instanceof Float ? value.value : value;
  if (typeof plain === "string" || typeof plain === "boolean") return plain;
  if (typeof plain === "number" || typeof plain === "bigint") return plain;
  throw new ArgumentError(`${name} cannot compare a ${typeOf(value)}`);
}

const isNumber = (value: Basic): value is number | bigint =>
  typeof value === "number" || typeof value === "bigint";

function equal(one: unknown, other: unknown, name: string): boolean {
  if (isNil(one) || isNil(other)) return isNil(one) && isNil(other);
  const [a, b] = [basic(one, name), basic(other, name)];
  requireSameKind(a, b, one, other, name);
  // One may be a number and the other a bigint: these are never the same, but equal.
  return a === b || (isNumber(a) && isNumber(b) && !(a < b) && !(a > b));
}

function less(one: unknown, other: unknown, name: string): boolean {
  const [a, b] = [basic(one, name), basic(other, name)];
  if (typeof a === "boolean" || typeof b === "boolean")
    throw new ArgumentError(`${name} cannot compare a bool`);
  requireSameKind(a, b, one, other, name);
  return a < b;
}

function requireSameKind(a: Basic, b: Basic, one: unknown, other: unknown, name: string): void {
  if (isNumber(a) === isNumber(b) && (isNumber(a) || typeof a === typeof b)) return;
  throw new ArgumentError(`${name} cannot compare a ${typeOf(one)} with a ${typeOf(other)}`);
}

function lengthOf(value: unknown): number {
  if (typeof value === "string") return Buffer.byteLength(value);
  if (Array.isArray(value)) return value.length;
  if (value instanceof Nil && value.text !== "<nil>") return 0;
  if (isFields(value) && !isStruct(value)) return Object.keys(value).length;
  throw new ArgumentError(`len of a ${typeOf(value)}`);
}

function position(value: unknown, length: number, name: string): number {
  if (typeof value !== "number" || !Number.isInteger(value))
    throw new ArgumentError(`${name} by a ${typeOf(value)}, not by a number`);
  if (value < 0 || value > length) throw new ArgumentError(`${name} ${value} is out of range: 0 … ${length}`);
  return value;
}

function index(value: unknown, keys: readonly unknown[]): unknown {
  let found = value;
  for (const key of keys) {
    if (Array.isArray(found)) {
      found = elementOf(found[position(key, found.length - 1, "index")]);
    } else if (typeof found === "string") {
      const bytes = Buffer.from(found);
      found = bytes[position(key, bytes.length - 1, "index")];
    } else if (isFields(found) && !isStruct(found)) {
      if (typeof key !== "string") throw new ArgumentError(`index of a map by a ${typeOf(key)}`);
      found = fieldOf(found, key);
    } else if (found instanceof Nil && found.text === "map[]") {
      found = NO_VALUE;
    } else throw new ArgumentError(`index of ${isNil(found) ? "nil" : `a ${typeOf(found)}`}`);
  }
  return found;
}

function slice(value: unknown, [from, to, ...more]: readonly unknown[]): unknown {
  if (more.length > 0) throw new ArgumentError("slice takes two positions at most");
  if (typeof value !== "string" && !Array.isArray(value))
    throw new ArgumentError(`slice of a ${typeOf(value)}`);
  const whole = typeof value === "string" ? Buffer.from(value) : value;
  const end = to === undefined ? whole.length : position(to, whole.length, "slice");
  const start = from === undefined ? 0 : position(from, end, "slice");
  return typeof value === "string" ? whole.slice(start, end).toString() : whole.slice(start, end);
}

interface Function {
  /** How many arguments it takes; at least the first, at most the second. */
  readonly takes: readonly [number, number];
  answer(args: readonly unknown[], output: Output): unknown;
}

/** How functions encode JSON, and charge the text that they return. */
export interface Output {
  toJson(value: unknown): string;
  readonly spend: Spend;
}

const compare = (answer: (a: unknown, b: unknown) => boolean): Function => {
  return { takes: [2, 2], answer: ([a, b]) => answer(a, b) };
};

const ANY = Number.POSITIVE_INFINITY;

const TABLE: Readonly<Record<string, Function>> = {
  eq: { takes: [2, ANY], answer: ([one, ...others]) => others.some((other) => equal(one, other, "eq")) },
  ne: compare((a, b) => !equal(a, b, "ne")),
  lt: compare((a, b) => less(a, b, "lt")),
  le: compare((a, b) => less(a, b, "le") || equal(a, b, "le")),
  gt: compare((a, b) => !(less(a, b, "gt") || equal(a, b, "gt"))),
  ge: compare((a, b) => !less(a, b, "ge")),
  len: { takes: [1, 1], answer: ([value]) => lengthOf(value) },
  index: { takes: [1, ANY], answer: ([value, ...keys]) => index(value, keys) },
  slice: { takes: [1, 3], answer: ([value, ...ends]) => slice(value, ends) },
  json: {
    takes: [1, 1],
    answer([value], { toJson, spend }) {
      const json = escaped(toJson(isNil(value) ? null : plain(value)));
      spend(json.length);
      return json;
    },
  },
  print: { takes: [0, ANY], answer: (args, { spend }) => printText(args, spend) },
  println: {
    takes: [0, ANY],
    answer: (args, { spend }) => `${args.map((arg) => valueText(arg, spend)).join(" ")}\n`,
  },
  printf: {
    takes: [1, ANY],
    answer([format, ...args], { spend }) {
      if (typeof format !== "string")
        throw new ArgumentError(`printf by a ${typeOf(format)}, not by a string`);
      return printfText(format, args, spend);
    },
  },
};

/** As Go's encoding/json has it: safe within HTML, too. */
const escaped = (json: string) =>
  json.replace(
    /[<>&\u2028\u2029]/g,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );

const plain = (value: unknown) => (value instanceof Float ? value.value : value);

/** Call a function; throw ArgumentError if the arguments do not fit. */
export function call(name: string, args: readonly unknown[], output: Output): unknown {
  const found = TABLE[name];
  if (!found) throw new ArgumentError(`there is no function "${name}"`);
  const [least, most] = found.takes;
  if (args.length < least || args.length > most) {
    const count = least === most ? String(least) : `at least ${least}`;
    throw new ArgumentError(`${name} takes ${count} argument${least === 1 ? "" : "s"}, not ${args.length}`);
  }
  return found.answer(args, output);
}
