// The loop: change an input, decode it, keep it where it fares as none before. JavaScriptCore tells no coverage in its own process,
// so what came of an input takes its place: the error, the shape of the value, the size.
import { chanceOf } from "./chance.ts";
import { minimise } from "./minimise.ts";
import { mutator } from "./mutate.ts";
import { type Fault, faultOf, growthFault, judge, type Outcome } from "./outcome.ts";
import type { Decoder } from "./target.ts";

interface Finding extends Fault {
  readonly input: Uint8Array;
}

export interface Summary {
  inputs: number;
  /** Inputs that were not refused. */
  accepted: number;
  /** Inputs that are kept to be changed again. */
  corpus: number;
  /** Bytes by which the memory of the process has grown, at most. */
  memory: number;
  readonly findings: Finding[];
}

export interface Bounds {
  readonly seed: number;
  readonly inputs: number;
  /** Time in ms. */
  readonly forMs?: number;
  /** Called before each input. */
  readonly next?: (input: Uint8Array) => void;
  /** Look for super-linear time; true unless given. */
  readonly growth?: boolean;
}

const CORPUS = 4_000;
/** Where there are more ways than these to fare, the next ones say nothing. */
const SIGNATURES = 100_000;
/** Inputs between two looks at the clock, and at memory. */
const TURN = 64;
const MEMORY_TURN = 4_096;
const MEMORY = 1 << 30;
/** More findings than these tell nothing new. */
const FINDINGS = 10;
/** New inputs are tried at greater lengths for this part of the time, beside a first 300 ms. */
const GROWN = 0.1;
const GROWN_MS = 300;

/** Short inputs are changed more often: they take less time, and more of their changes tell. */
const shorter = (one: Uint8Array, other: Uint8Array) => (one.length < other.length ? one : other);

/** Fuzz a decoder until a bound is reached. Its seeds come first: none of them may be refused. */
export async function fuzz(
  decoder: Decoder,
  { seed, inputs, forMs = Number.POSITIVE_INFINITY, next, growth = true }: Bounds,
): Promise<Summary> {
  const chance = chanceOf(seed);
  // Apart from the former: how much time there is must not change the inputs.
  const place = chanceOf(seed + 1);
  const began = performance.now();
  const end = began + forMs;
  let growing = 0;
  const corpus: Uint8Array[] = [];
  const signatures = new Set<string>();
  const summary: Summary = { inputs: 0, accepted: 0, corpus: 0, memory: 0, findings: [] };
  const { findings } = summary;
  const memoryBefore = process.memoryUsage.rss();

  const note = async (fault: Fault, input: Uint8Array) => {
    if (findings.some(({ what, kind }) => what === fault.what && kind === fault.kind)) return;
    if (fault.kind === "slow" && (await faultOf(decoder, input))?.kind !== "slow") return;
    findings.push({ ...fault, input: await minimise(decoder, input, fault.what) });
  };

  /** Counts an outcome; returns whether it is an ordinary one, that has been seen before. */
  const isKnown = ({ signature, accepted, fault }: Outcome) => {
    summary.inputs++;
    if (accepted) summary.accepted++;
    return fault === undefined && (signatures.has(signature) || signatures.size >= SIGNATURES);
  };

  const keep = async ({ signature, fault }: Outcome, input: Uint8Array) => {
    if (fault) await note(fault, input);
    if (signatures.has(signature)) return;
    signatures.add(signature);
    if (corpus.length < CORPUS) corpus.push(input);
    else corpus[chance.below(CORPUS)] = input;
    const before = performance.now();
    if (!growth || input.length === 0 || growing > GROWN_MS + GROWN * (before - began)) return;
    const at = place.below(input.length);
    const grown = await growthFault(decoder, input, at, 1 + place.below(input.length - at));
    growing += performance.now() - before;
    if (grown && !findings.some(({ kind }) => kind === grown.kind)) findings.push(grown);
  };

  const look = async (input: Uint8Array) => {
    next?.(input);
    const judged = judge(decoder, input);
    // Most outcomes are neither promises nor new: a wait for each would take longer than many decoders.
    const outcome = judged instanceof Promise ? await judged : judged;
    if (!isKnown(outcome)) await keep(outcome, input);
  };

  for (const each of decoder.seeds) {
    await look(each);
    corpus.push(each);
  }
  const mutate = mutator(decoder, chance);
  while (summary.inputs < inputs && findings.length < FINDINGS) {
    if (summary.inputs % TURN === 0 && performance.now() > end) break;
    if (summary.inputs % MEMORY_TURN === 0) {
      summary.memory = Math.max(summary.memory, process.memoryUsage.rss() - memoryBefore);
      if (summary.memory > MEMORY) {
        findings.push({
          kind: "output",
          what: `the process has grown by ${summary.memory} bytes`,
          input: new Uint8Array(),
        });
        break;
      }
    }
    await look(mutate(shorter(chance.pick(corpus), chance.pick(corpus))));
  }
  summary.corpus = corpus.length;
  return summary;
}
