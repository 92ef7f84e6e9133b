// Changes of inputs, as afl's "havoc" stage makes them: a few at a time, on bytes, numbers of all widths, chunks and words.
import type { Chance } from "./chance.ts";
import { mutateJson } from "./mutatejson.ts";
import { type Decoder, longestOf } from "./target.ts";

const BYTES = [0, 1, 2, 4, 16, 32, 63, 64, 65, 0x7f, 0x80, 0x81, 0xc0, 0xc1, 0xf7, 0xf8, 0xfc, 0xfe, 0xff];
const NUMBERS = [
  0n,
  1n,
  2n,
  3n,
  7n,
  15n,
  16n,
  31n,
  127n,
  128n,
  255n,
  256n,
  32_767n,
  32_768n,
  65_535n,
  65_536n,
]
  .concat([2n ** 24n, 2n ** 31n - 1n, 2n ** 31n, 2n ** 32n - 1n, 2n ** 53n, 2n ** 63n - 1n, 2n ** 63n])
  .concat([-1n, -2n, -4n, -128n, -32_768n, -(2n ** 31n)]);
const DECIMALS = [
  "0",
  "-1",
  "00",
  "1e9",
  "255",
  "256",
  "65535",
  "65536",
  "4294967296",
  "9007199254740993",
].concat(["0x10", "1.5", "-0", "99999999999999999999", ""]);
const CHUNK = 64;

type Change = (bytes: Uint8Array, at: number, chance: Chance, decoder: Decoder) => Uint8Array;

const set = (bytes: Uint8Array, at: number, value: number) => {
  bytes[at] = value;
  return bytes;
};

/** Puts `piece` in the place of `length` bytes. */
function spliced(bytes: Uint8Array, at: number, length: number, piece: Uint8Array): Uint8Array {
  const rest = bytes.subarray(Math.min(bytes.length, at + length));
  const result = new Uint8Array(at + piece.length + rest.length);
  result.set(bytes.subarray(0, at));
  result.set(piece, at);
  result.set(rest, at + piece.length);
  return result;
}

const chunkAt = (bytes: Uint8Array, at: number, chance: Chance) =>
  bytes.slice(at, at + 1 + chance.below(Math.min(bytes.length - at, chance.below(8) ? CHUNK : bytes.length)));

const number: Change = (bytes, at, chance) => {
  const width = chance.pick([2, 4, 8]);
  if (at + width > bytes.length) return bytes;
  const view = new DataView(bytes.buffer, bytes.byteOffset + at, width);
  const little = chance.below(2) === 0;
  const near = chance.below(4) === 0 ? BigInt(bytes.length - at) + BigInt(chance.below(9) - 4) : undefined;
  const value = near ?? chance.pick(NUMBERS);
  if (width === 2) view.setUint16(0, Number(BigInt.asUintN(16, value)), little);
  else if (width === 4) view.setUint32(0, Number(BigInt.asUintN(32, value)), little);
  else view.setBigUint64(0, BigInt.asUintN(64, value), little);
  return bytes;
};

const BYTE_CHANGES: readonly Change[] = [
  (bytes, at, chance) => set(bytes, at, chance.below(256)),
  (bytes, at, chance) => set(bytes, at, chance.pick(BYTES)),
  (bytes, at, chance) => set(bytes, at, (bytes[at] ?? 0) ^ (1 << chance.below(8))),
  (bytes, at, chance) => set(bytes, at, (bytes[at] ?? 0) + chance.below(9) - 4),
  number,
  number,
  (bytes, at) => bytes.slice(0, at),
  (bytes, at, chance) => spliced(bytes, at, chunkAt(bytes, at, chance).length, new Uint8Array()),
  (bytes, at, chance) => spliced(bytes, chance.below(bytes.length), 0, chunkAt(bytes, at, chance)),
  (bytes, at, chance) => {
    const chunk = chunkAt(bytes, at, chance);
    return spliced(bytes, at, 0, new Uint8Array(Buffer.concat(Array(1 + chance.below(16)).fill(chunk))));
  },
  (bytes, at, chance, { seeds }) => {
    const other = chance.pick(seeds);
    if (other.length === 0) return bytes;
    const piece = chunkAt(other, chance.below(other.length), chance);
    return spliced(bytes, at, chance.below(2) ? piece.length : 0, piece);
  },
  (bytes, at, chance, { seeds }) => {
    const other = chance.pick(seeds);
    return spliced(bytes, at, bytes.length, other.subarray(chance.below(other.length + 1)));
  },
];

const ascii = new TextEncoder();

const TEXT_CHANGES: readonly Change[] = [
  ...BYTE_CHANGES,
  (bytes, at, chance, { words = [] }) =>
    words.length === 0 ? bytes : spliced(bytes, at, 0, ascii.encode(chance.pick(words))),
  (bytes, at, chance, { words = [] }) =>
    words.length === 0
      ? bytes
      : spliced(bytes, at, chance.below(CHUNK), ascii.encode(chance.pick(words).repeat(1 + chance.below(9)))),
  (bytes, at, chance) => {
    const isDigit = (byte: number | undefined) => byte !== undefined && byte >= 48 && byte <= 57;
    let start = at;
    while (start < bytes.length && !isDigit(bytes[start])) start++;
    let end = start;
    while (isDigit(bytes[end])) end++;
    return start === end ? bytes : spliced(bytes, start, end - start, ascii.encode(chance.pick(DECIMALS)));
  },
  (bytes, at, chance) =>
    spliced(bytes, at, 0, ascii.encode(chance.pick(["\0", "é", "\u2028", "𝄞", "\r\n", "\t"]))),
];

/** Return a changed copy of an input. */
export function mutate(input: Uint8Array, decoder: Decoder, chance: Chance): Uint8Array {
  const { format } = decoder;
  let bytes: Uint8Array = input.slice();
  if (format === "json" && chance.below(4) > 0) {
    bytes = mutateJson(bytes, chance);
    if (chance.below(4) > 0) return bytes.subarray(0, longestOf(decoder));
  }
  const changes = format === undefined ? BYTE_CHANGES : TEXT_CHANGES;
  for (let left = 1 + chance.below(chance.below(4) ? 4 : 16); left > 0; left--) {
    bytes =
      bytes.length === 0
        ? Uint8Array.of(chance.below(256))
        : chance.pick(changes)(bytes, chance.below(bytes.length), chance, decoder);
  }
  return bytes.length > longestOf(decoder) ? bytes.slice(0, longestOf(decoder)) : bytes;
}
