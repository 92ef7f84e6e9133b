// Random numbers, passed to the protocols so that a seed repeats a simulation.

export interface Random {
  /** Return a uniformly distributed integer of 0 … 2^64-1. */
  u64(): bigint;
  /** Return a uniformly distributed number of [0, 1). */
  float(): number;
}

/** The kernel's random numbers. */
export const systemRandom: Random = {
  u64: () => Buffer.from(crypto.getRandomValues(new Uint8Array(8))).readBigUInt64LE(),
  float: () => Buffer.from(crypto.getRandomValues(new Uint8Array(6))).readUIntLE(0, 6) / 2 ** 48,
};

/** Return a repeatable sequence (splitmix64, Steele et al. 2014) for simulations; not for secrets. */
export function seededRandom(seed: bigint): Random {
  let state = BigInt.asUintN(64, seed);
  const u64 = () => {
    state = BigInt.asUintN(64, state + 0x9e3779b97f4a7c15n);
    let z = state;
    z = BigInt.asUintN(64, (z ^ (z >> 30n)) * 0xbf58476d1ce4e5b9n);
    z = BigInt.asUintN(64, (z ^ (z >> 27n)) * 0x94d049bb133111ebn);
    return z ^ (z >> 31n);
  };
  return { u64, float: () => Number(u64() >> 11n) / 2 ** 53 };
}

/** Return a uniformly distributed integer of 0 … bound-1. */
export function below(random: Random, bound: number): number {
  return Math.floor(random.float() * bound);
}
