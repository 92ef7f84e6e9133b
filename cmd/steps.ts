// Changes to a host that are listed, agreed to, made and told, one after the other.
import { createInterface } from "node:readline/promises";
import { reasonOf } from "../lib/sys/reason.ts";
import type { Step } from "../lib/sys/step.ts";

/** Ask on a terminal; resolve with undefined where there is none to ask on. */
export async function agreed(
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

/** What became of steps. */
export interface Made {
  readonly did: string[];
  readonly failed: string[];
}

/** Take steps, each whatever became of the others. */
export async function take(steps: readonly Step[]): Promise<Made> {
  const made: Made = { did: [], failed: [] };
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
