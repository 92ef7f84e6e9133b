// Small numbers for names of peers, the same in all of the process: tables and walks over the topology are arrays by them.
import { nameToInteger, type PeerName } from "./name.ts";

/** Names that have numbers; far more than a network has peers. Beyond, all begin anew: peers can make names up. */
export const MAX_NUMBERS = 1 << 16;

const numbers = new Map<PeerName, number>();
const names: PeerName[] = [];
/** The names as numbers of 48 bits, which sort as they do. */
const orders = new Float64Array(MAX_NUMBERS);
/** All numbers in the order of their names; undefined once there is a new one. */
let sorted: Uint16Array | undefined;
let era = 0;

/** Return in which era numbers are: those of an earlier one are void. */
export const numberEra = (): number => era;

/** Return the number of a name, which may begin a new era. */
export function numberOf(name: PeerName): number {
  const known = numbers.get(name);
  if (known !== undefined) return known;
  if (names.length >= MAX_NUMBERS) {
    numbers.clear();
    names.length = 0;
    era++;
  }
  const number = names.push(name) - 1;
  numbers.set(name, number);
  orders[number] = nameToInteger(name);
  sorted = undefined;
  return number;
}

/** Return the name that has a number in this era. */
export function nameOfNumber(number: number): PeerName {
  const name = names[number];
  if (name === undefined) throw new RangeError(`no peer has number ${number}`);
  return name;
}

/** Compare two numbers by their names. */
export const byName = (a: number, b: number): number => (orders[a] ?? 0) - (orders[b] ?? 0);

/** Return all numbers in the order of their names. */
export function numbersByName(): Uint16Array {
  sorted ??= Uint16Array.from(Array.from(names, (_, number) => number).sort(byName));
  return sorted;
}
