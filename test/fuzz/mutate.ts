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
/** The lower and the upper 32 bits of each. */
const HALVES = NUMBERS.map(
  (value) => [value, value >> 32n].map((half) => Number(BigInt.asUintN(32, half))) as [number, number],
);
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

/** The input under change: the first `length` bytes of a room that is as long as an input may be. */
interface Draft {
  readonly room: Uint8Array;
  length: number;
  /** Where a chunk of the room is kept while it is copied. */
  readonly chunk: Uint8Array;
}

/** Changes a draft, which is not empty, at a place in it. */
type Change = (draft: Draft, at: number, chance: Chance, decoder: Decoder) => void;

/** Up to so many bytes a loop is faster than a view and a native copy. */
const VIEWED = 48;

/** Puts a part of `piece` in the place of `length` bytes; what no longer fits in is lost. */
function splice(draft: Draft, at: number, length: number, piece: Uint8Array, from = 0, end = piece.length) {
  const { room } = draft;
  const rest = Math.min(draft.length, at + length);
  const behind = Math.min(room.length, at + end - from);
  const kept = Math.min(draft.length - rest, room.length - behind);
  room.copyWithin(behind, rest, rest + kept);
  const count = behind - at;
  if (count > VIEWED) room.set(count === piece.length ? piece : piece.subarray(from, from + count), at);
  else for (let i = 0; i < count; i++) room[at + i] = piece[from + i] ?? 0;
  draft.length = behind + kept;
}

const NOTHING = new Uint8Array();

/** Length of a chunk at a place. */
const chunkLength = (length: number, at: number, chance: Chance) =>
  1 + chance.below(Math.min(length - at, chance.below(8) ? CHUNK : length));

/** Copies a chunk of the draft to a place in it, so many times. */
function repeat(draft: Draft, from: number, to: number, times: number, chance: Chance) {
  const { room, chunk } = draft;
  const length = chunkLength(draft.length, from, chance);
  const end = Math.min(times * length, chunk.length);
  for (let i = 0; i < end; i++) chunk[i] = room[from + (i % length)] ?? 0;
  splice(draft, to, 0, chunk, 0, end);
}

const number: Change = ({ room, length }, at, chance) => {
  const width = chance.pick([2, 4, 8]);
  if (at + width > length) return;
  const little = chance.below(2) === 0;
  const near = length - at + chance.below(9) - 4;
  const [low, high] = chance.below(4) === 0 ? [near, near >> 31] : chance.pick(HALVES);
  for (let i = 0; i < width; i++)
    room[at + (little ? i : width - 1 - i)] = (i < 4 ? low : high) >>> (8 * (i % 4));
};

const toByte =
  (changed: (byte: number, chance: Chance) => number): Change =>
  ({ room }, at, chance) => {
    room[at] = changed(room[at] ?? 0, chance);
  };

const BYTE_CHANGES: readonly Change[] = [
  toByte((_, chance) => chance.below(256)),
  toByte((_, chance) => chance.pick(BYTES)),
  toByte((byte, chance) => byte ^ (1 << chance.below(8))),
  toByte((byte, chance) => byte + chance.below(9) - 4),
  number,
  number,
  (draft, at) => {
    draft.length = at;
  },
  (draft, at, chance) => splice(draft, at, chunkLength(draft.length, at, chance), NOTHING),
  (draft, at, chance) => repeat(draft, at, chance.below(draft.length), 1, chance),
  (draft, at, chance) => repeat(draft, at, at, 1 + chance.below(16), chance),
  (draft, at, chance, { seeds }) => {
    const other = chance.pick(seeds);
    if (other.length === 0) return;
    const from = chance.below(other.length);
    const length = chunkLength(other.length, from, chance);
    splice(draft, at, chance.below(2) ? length : 0, other, from, from + length);
  },
  (draft, at, chance, { seeds }) => {
    const other = chance.pick(seeds);
    splice(draft, at, draft.length, other, chance.below(other.length + 1));
  },
];

const encoder = new TextEncoder();
const DIGITS = DECIMALS.map((each) => encoder.encode(each));
const FOREIGN = ["\0", "é", "\u2028", "𝄞", "\r\n", "\t"].map((each) => encoder.encode(each));
const isDigit = (byte = 0) => byte >= 48 && byte <= 57;

const textChanges = (words: readonly string[]): readonly Change[] => {
  const pieces = words.map((word) => encoder.encode(word));
  const insertions: Change[] = [
    (draft, at, chance) => splice(draft, at, 0, chance.pick(pieces)),
    (draft, at, chance) => {
      const word = chance.pick(pieces);
      splice(draft, at, chance.below(CHUNK), word);
      for (let left = chance.below(9); left > 0; left--) splice(draft, at, 0, word);
    },
  ];
  return [
    ...BYTE_CHANGES,
    ...(pieces.length > 0 ? insertions : []),
    (draft, at, chance) => {
      const { room, length } = draft;
      let start = at;
      while (start < length && !isDigit(room[start])) start++;
      let end = start;
      while (end < length && isDigit(room[end])) end++;
      if (start < end) splice(draft, start, end - start, chance.pick(DIGITS));
    },
    (draft, at, chance) => splice(draft, at, 0, chance.pick(FOREIGN)),
  ];
};

/** Return what makes changed copies of inputs. */
export function mutator(decoder: Decoder, chance: Chance): (input: Uint8Array) => Uint8Array {
  const { format, words = [] } = decoder;
  const longest = longestOf(decoder);
  const changes = format === undefined ? BYTE_CHANGES : textChanges(words);
  const draft: Draft = { room: new Uint8Array(longest), length: 0, chunk: new Uint8Array(longest) };
  return (input) => {
    let from = input;
    if (format === "json" && chance.below(4) > 0) {
      from = mutateJson(input, chance);
      if (chance.below(4) > 0) return from.length > longest ? from.slice(0, longest) : from;
    }
    draft.length = 0;
    splice(draft, 0, 0, from);
    for (let left = 1 + chance.below(chance.below(4) ? 4 : 16); left > 0; left--) {
      if (draft.length > 0) chance.pick(changes)(draft, chance.below(draft.length), chance, decoder);
      else splice(draft, 0, 0, Uint8Array.of(chance.below(256)));
    }
    return draft.room.slice(0, draft.length);
  };
}
