// Changes of JSON that keep it JSON: values of other types, missing and doubled parts, foreign keys, depth.
import type { Chance } from "./chance.ts";

const VALUES: readonly unknown[] = [
  null,
  true,
  false,
  0,
  -1,
  1.5,
  2 ** 31,
  2 ** 53,
  1e308,
  65_536,
  "",
  "x",
  "\0",
  "é",
  "10.0.0.0/99",
  "::/0",
  "10.32.0.1",
  [],
  [null],
  [[]],
  {},
  { "": null },
  { constructor: 1 },
  { toString: null, length: -1 },
  "__proto__",
  "a".repeat(300),
];
const KEYS = ["", "__proto__", "constructor", "length", "toString", "0", "name", "type", "kind"];

type Holder = Record<string, unknown>;

const isHolder = (value: unknown): value is Holder => typeof value === "object" && value !== null;

/** Return JSON with a few parts changed; the same bytes where they are none. */
export function mutateJson(bytes: Uint8Array, chance: Chance): Uint8Array<ArrayBuffer> {
  let root: unknown;
  try {
    root = JSON.parse(new TextDecoder().decode(bytes));
  } catch {
    return bytes.slice();
  }
  for (let left = 1 + chance.below(3); left > 0; left--) {
    const holders = holdersIn(root);
    if (holders.length === 0) root = copyOf(chance.pick(VALUES));
    else change(chance.pick(holders), chance, holders);
  }
  return new TextEncoder().encode(JSON.stringify(root) ?? "null");
}

function holdersIn(root: unknown): Holder[] {
  const found: Holder[] = isHolder(root) ? [root] : [];
  for (let i = 0; i < found.length && found.length < 1_000; i++)
    for (const value of Object.values(found[i] ?? {})) if (isHolder(value)) found.push(value);
  return found;
}

function put(holder: Holder, key: string, value: unknown): void {
  // "__proto__" becomes a key of its own, as JSON.parse makes it.
  Object.defineProperty(holder, key, { value, enumerable: true, configurable: true, writable: true });
}

/** A copy: a value in two places must not become a circle. */
const copyOf = (value: unknown): unknown => JSON.parse(JSON.stringify(value) ?? "null");

function change(holder: Holder, chance: Chance, holders: readonly Holder[]): void {
  const keys = Object.keys(holder);
  const key = keys.length > 0 ? chance.pick(keys) : Array.isArray(holder) ? "0" : chance.pick(KEYS);
  const value = Object.hasOwn(holder, key) ? holder[key] : null;
  switch (chance.below(7)) {
    case 0:
      if (Array.isArray(holder)) holder.splice(chance.below(holder.length + 1), 1);
      else delete holder[key];
      return;
    case 1:
      if (Array.isArray(holder)) holder.push(...holder.slice(0, 50).map(copyOf));
      else put(holder, chance.pick(KEYS), copyOf(value));
      return;
    case 2:
      return put(holder, key, copyOf(chance.pick(holders)));
    case 3:
      return put(holder, key, [copyOf(value)]);
    case 4:
      if (typeof value === "string")
        return put(holder, key, `${value}${chance.pick(["/", ".", "-", "\n", "0", ":"])}`);
      if (typeof value === "number") return put(holder, key, value + chance.pick([-1, 1, 0.5, 1e9]));
      return put(holder, key, copyOf(chance.pick(VALUES)));
    default:
      return put(holder, key, copyOf(chance.pick(VALUES)));
  }
}
