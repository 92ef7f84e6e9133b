// One input, decoded and judged.
import { threadMs } from "../support/clocks.ts";
import { measure } from "./measure.ts";
import { type Decoder, isRefusal, limitOf, longestOf, outputLimit } from "./target.ts";

/** What a decoder must not do with an input. */
export interface Fault {
  readonly kind: "error" | "slow" | "super-linear" | "output";
  /** The same for all inputs with the same fault. */
  readonly what: string;
}

export interface Outcome {
  /** The same for inputs that fare alike. */
  readonly signature: string;
  readonly accepted: boolean;
  readonly fault: Fault | undefined;
}

/** Characters of a refusal that tell it from others; what follows is mostly of the input. */
const SIGNED = 48;

/** Plain text of messages that have come before: most inputs are refused, in few ways. */
const plainTexts = new Map<string, string>();
const PLAIN_TEXTS = 4_096;

function plain(message: string): string {
  const known = plainTexts.get(message);
  if (known !== undefined) return known;
  if (plainTexts.size >= PLAIN_TEXTS) plainTexts.clear();
  const text = message
    .slice(0, 120)
    .replace(/"[^"]*"?/g, '""')
    .replace(/[0-9a-f]*\d[0-9a-f]*/g, "#");
  plainTexts.set(message, text);
  return text;
}

const SLOW: Fault = { kind: "slow", what: "more than the limit" };
const LARGE: Fault = { kind: "output", what: "more than the limit" };

/** Decode an input; return a promise where the decoder does. A slow one may have waited for a processor: faultOf says. */
export function judge(decoder: Decoder, input: Uint8Array): Outcome | Promise<Outcome> {
  const began = performance.now();
  const slow = () => (performance.now() - began > limitOf(decoder) ? SLOW : undefined);
  try {
    const value = decoder.run(input);
    if (!(value instanceof Promise)) return accepted(decoder, input, value, slow());
    return value.then(
      (result) => accepted(decoder, input, result, slow()),
      (error) => refused(decoder, input, error, slow()),
    );
  } catch (error) {
    return refused(decoder, input, error, slow());
  }
}

function accepted(decoder: Decoder, input: Uint8Array, value: unknown, slow: Fault | undefined): Outcome {
  const limit = outputLimit(decoder, input.length);
  const { shape, size } = measure(value, limit, input);
  const signature = `${shape} ${Math.clz32(input.length)}`;
  return { signature, accepted: true, fault: size > limit ? LARGE : slow };
}

function refused(decoder: Decoder, input: Uint8Array, error: unknown, slow: Fault | undefined): Outcome {
  const [name, message] =
    error instanceof Error ? [error.constructor.name, error.message] : [typeof error, String(error)];
  const what = `${name}: ${plain(message)}`;
  if (!isRefusal(decoder, error)) return { signature: what, accepted: false, fault: { kind: "error", what } };
  return { signature: `${what.slice(0, SIGNED)} ${Math.clz32(input.length)}`, accepted: false, fault: slow };
}

/** The fault of an input, if it has one again. Only processor time counts: the machine may be busy. */
export async function faultOf(decoder: Decoder, input: Uint8Array): Promise<Fault | undefined> {
  let fault: Fault | undefined;
  for (let attempt = 0; attempt < 3; attempt++) {
    const began = threadMs();
    fault = (await judge(decoder, input)).fault;
    if (fault?.kind !== "slow") return fault;
    if (threadMs() - began <= limitOf(decoder)) return undefined;
  }
  return fault;
}

/** Shortest of a few processor times, in ms. */
async function timeOf(decoder: Decoder, input: Uint8Array): Promise<number> {
  let best = Number.POSITIVE_INFINITY;
  for (let attempt = 0; attempt < 3; attempt++) {
    const began = threadMs();
    await judge(decoder, input);
    best = Math.min(best, threadMs() - began);
  }
  return best;
}

/** Times below this say nothing. */
const TELLING_MS = 8;
const DOUBLINGS = 3;
/** The machine may be slow for a while: so many measurements have to agree. */
const AGREEING = 3;

/**
 * Whether time grows faster than length: a chunk of the input is repeated, then twice and four times as often. Linear time doubles,
 * and what takes three times as long twice in a row is not linear.
 */
export async function growthFault(
  decoder: Decoder,
  input: Uint8Array,
  at: number,
  length: number,
): Promise<(Fault & { readonly input: Uint8Array }) | undefined> {
  const longest = 8 * longestOf(decoder);
  const chunk = input.subarray(at, at + length);
  const steps = Array.from({ length: DOUBLINGS }, (_, step) => {
    const count = Math.max(1, Math.floor(longest / 2 ** (DOUBLINGS - 1 - step) / chunk.length));
    const parts = [
      input.subarray(0, at),
      Buffer.alloc(count * chunk.length, chunk),
      input.subarray(at + length),
    ];
    return new Uint8Array(Buffer.concat(parts));
  });
  const [first = input] = steps;
  const began = threadMs();
  await judge(decoder, first);
  // Even quadratic time would tell nothing at four times the length.
  if (threadMs() - began < TELLING_MS / 16) return undefined;
  for (let attempt = 0; attempt < AGREEING; attempt++) {
    const times: number[] = [];
    for (const each of steps) times.push(await timeOf(decoder, each));
    const [one = 0, two = 0, four = 0] = times;
    if (four < TELLING_MS || two < 3 * one || four < 3 * two) return undefined;
  }
  return { kind: "super-linear", what: "time of repeated chunks", input: steps.at(-1) ?? input };
}
