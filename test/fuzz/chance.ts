// Chance of the fuzzer: xorshift32 (Marsaglia 2003), for it is asked some ten times an input.

export interface Chance {
  /** An integer of 0 … bound-1. */
  below(bound: number): number;
  /** One of a list that is not empty. */
  pick<T>(list: readonly T[]): T;
}

export function chanceOf(seed: number): Chance {
  let state = seed >>> 0 || 1;
  const below = (bound: number) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return Math.floor(((state >>> 0) / 2 ** 32) * bound);
  };
  return { below, pick: <T>(list: readonly T[]) => list[below(list.length)] as T };
}
