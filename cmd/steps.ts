// Steps that change a host: listed, confirmed, taken, and reported.
import { createInterface } from "node:readline/promises";
import { reasonOf } from "../lib/sys/reason.ts";
import type { Step } from "../lib/sys/step.ts";

/** Ask on a terminal; resolve with undefined where there is none to ask on. */
export async function confirmed(
  question: string,
  output: NodeJS.WriteStream = process.stderr,
): Promise<boolean | undefined> {
  if (!process.stdin.isTTY || !output.isTTY) return undefined;
  const terminal = createInterface({ input: process.stdin, output });
  try {
    return /^y(es)?$/i.test((await terminal.question(`${question} [y/N] `)).trim());
  } finally {
    terminal.close();
  }
}

/** Outcome of steps. */
export interface StepResults {
  readonly did: string[];
  readonly failed: string[];
}

/** Take all steps; a failure does not stop the rest. */
export async function takeSteps(steps: readonly Step[]): Promise<StepResults> {
  const made: StepResults = { did: [], failed: [] };
  for (const { does, did, run } of steps) {
    try {
      await run?.();
      made.did.push(did);
    } catch (error) {
      made.failed.push(`cannot ${does}: ${reasonOf(error, does)}`);
    }
  }
  return made;
}
