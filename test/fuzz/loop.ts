// The loop: change an input, decode it, keep it where it fares as none before. JavaScriptCore tells no coverage in its own process,
// so what came of an input takes its place: the error, the shape of the value, the size.
import { chanceOf } from "./chance.ts";
import { minimise } from "./minimise.ts";
import { mutate } from "./mutate.ts";
import { type Fault, faultOf, growthFault, judge } from "./outcome.ts";
import type { Decoder } from "./target.ts";

export interface Finding extends Fault {
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
/** Inputs between two looks at the clock, and at memory. */
const TURN = 64;
const MEMORY_TURN = 4_096;
const MEMORY = 1 << 30;
/** New inputs are tried at greater lengths for this part of the time, beside a first 300 ms. */
const GROWN = 0.15;
const GROWN_MS = 300;

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

  const look = async (input: Uint8Array) => {
    next?.(input);
    const { signature, accepted, fault } = await judge(decoder, input);
    summary.inputs++;
    if (accepted) summary.accepted++;
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

  for (const each of decoder.seeds) {
    await look(each);
    corpus.push(each);
  }
  while (summary.inputs < inputs) {
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
    await look(mutate(chance.pick(corpus), decoder, chance));
  }
  summary.corpus = corpus.length;
  return summary;
}
