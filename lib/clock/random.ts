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
  // In two signed halves of 32 bits: a BigInt for each step takes five times as long.
  let stateHigh = Number(BigInt.asIntN(32, seed >> 32n));
  let stateLow = Number(BigInt.asIntN(32, seed));
  let high = 0;
  let low = 0;
  const step = () => {
    const sum = (stateLow >>> 0) + 0x7f4a7c15;
    stateLow = sum | 0;
    stateHigh = (stateHigh + 0x9e3779b9 + (sum > 0xffff_ffff ? 1 : 0)) | 0;
    high = stateHigh;
    low = stateLow;
    fold(30);
    multiply(0xbf58476d, 0xe5b9, 0x1ce4);
    fold(27);
    multiply(0x94d049bb, 0x11eb, 0x1331);
    fold(31);
  };
  /** z ^= z >> bits, for fewer than 32. */
  const fold = (bits: number) => {
    low ^= (low >>> bits) | (high << (32 - bits));
    high ^= high >>> bits;
  };
  /** z *= another, modulo 2^64: the low halves in parts of 16 bits, whose products an integer has room for. */
  const multiply = (otherHigh: number, c: number, d: number) => {
    const a = low & 0xffff;
    const b = low >>> 16;
    const middle = b * c + ((a * c) >>> 16);
    const carry = b * d + (middle >>> 16) + ((a * d + (middle & 0xffff)) >>> 16);
    const otherLow = (d << 16) | c;
    high = (Math.imul(high, otherLow) + Math.imul(low, otherHigh) + carry) | 0;
    low = Math.imul(low, otherLow);
  };
  return {
    u64: () => {
      step();
      return BigInt.asUintN(64, (BigInt(high) << 32n) | BigInt(low >>> 0));
    },
    float: () => {
      step();
      return ((high >>> 0) * 2 ** 21 + (low >>> 11)) / 2 ** 53;
    },
  };
}

/** Return a uniformly distributed integer of 0 … bound-1. */
export function below(random: Random, bound: number): number {
  return Math.floor(random.float() * bound);
}
