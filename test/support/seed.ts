// The seed of a run: every random test draws from it. It is printed once, and taken from $SEED to repeat a run.
// bunfig.toml loads this before any test.
import { below, type Random, seededRandom } from "../../lib/clock/random.ts";

/** 31 bits, as fast-check takes them. */
export const SEED = Number(process.env["SEED"] ?? Math.floor(Math.random() * 2 ** 31));
if (!Number.isSafeInteger(SEED)) throw new Error(`SEED has to be an integer, not ${process.env["SEED"]}`);

if (process.env["SEED"] === undefined) console.error(`# SEED=${SEED} repeats the random tests of this run`);
// Processes that tests start draw from it, too.
process.env["SEED"] = String(SEED);

export interface TestRandom extends Random {
  /** An integer of 0 … bound-1. */
  below(bound: number): number;
  /** One of a list that is not empty. */
  pick<T>(list: readonly T[]): T;
  bytes(length: number): Uint8Array;
}

/** Chance of one test, by its name: the same whatever other tests run. */
export function randomOf(name: string): TestRandom {
  const random = seededRandom(BigInt(SEED) ^ (BigInt(Bun.hash(name)) << 32n));
  return {
    ...random,
    below: (bound) => below(random, bound),
    pick: (list) => pick(random, list),
    bytes: (length) => bytes(random, length),
  };
}

function pick<T>(random: Random, list: readonly T[]): T {
  if (list.length === 0) throw new Error("nothing to pick from");
  return list[below(random, list.length)] as T;
}

/** Many bytes, quickly (xorshift32, Marsaglia 2003). */
function bytes(random: Random, length: number): Uint8Array {
  let state = 1 + below(random, 2 ** 31);
  const words = new Uint32Array(Math.ceil(length / 4));
  for (let i = 0; i < words.length; i++) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    words[i] = state;
  }
  return new Uint8Array(words.buffer, 0, length);
}
