// What is fuzzed: a decoder, what it starts from, and what it may do with an input.

export interface Target {
  readonly name: string;
  /** Prepare it; the files of its room are read only now. */
  open(): Decoder | Promise<Decoder>;
}

export interface Decoder {
  /** Valid inputs; the first ones to be changed. */
  readonly seeds: readonly Uint8Array[];
  /**
   * Decode an input and return what came of it, by which inputs are told apart. It has to depend on the input alone: a finding
   * is repeated by its input.
   */
  run(input: Uint8Array): unknown;
  /** Remove what was made for it. */
  close?(): void;
  /** Names of the errors that refuse an input. */
  readonly refuses?: readonly string[];
  /** Messages of plain errors that do so. */
  readonly says?: RegExp;
  /** How seeds are changed beside their bytes. */
  readonly format?: "json" | "text";
  /** Words to put into an input. */
  readonly words?: readonly string[];
  /** Bytes that an input may have. */
  readonly longest?: number;
  /** Time in ms that an input of any length may take. */
  readonly limitMs?: number;
  /** Bytes of output for each byte of input, beside 64 KiB. */
  readonly growth?: number;
}

const LONGEST = 8 * 1024;
const LIMIT_MS = 100;
const GROWTH = 64;

export const longestOf = ({ longest = LONGEST }: Decoder): number => longest;
export const limitOf = ({ limitMs = LIMIT_MS }: Decoder): number => limitMs;

/** Bytes of output that an input of this length may have. */
export const outputLimit = ({ growth = GROWTH }: Decoder, length: number): number => 65_536 + growth * length;

/** Whether an error is the decoder's way to refuse an input. */
export function isRefusal({ refuses = [], says }: Decoder, error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  if (refuses.includes(error.constructor.name)) return true;
  return error.constructor === Error && says?.test(error.message) === true;
}

/** Seeds for a decoder with several ways to decode: the first byte of an input says which. */
export const inWays = (count: number, seeds: readonly Uint8Array[]): Uint8Array[] =>
  seeds.flatMap((seed) => Array.from({ length: count }, (_, way) => Uint8Array.of(way, ...seed)));

/** The way of an input, and what is to be decoded. */
export const wayOf = (input: Uint8Array, count: number): readonly [number, Uint8Array] => [
  (input[0] ?? 0) % count,
  input.subarray(1),
];

export const encoded = (...texts: readonly string[]): Uint8Array[] =>
  texts.map((text) => new TextEncoder().encode(text));
const decoder = new TextDecoder();
export const textOf = (input: Uint8Array): string => decoder.decode(input);
export const jsonSeeds = (...values: readonly unknown[]): Uint8Array[] =>
  encoded(...values.map((value) => JSON.stringify(value)));
