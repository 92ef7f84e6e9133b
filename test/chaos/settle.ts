// Waits until all that must hold does, and says what does not.

import { availableParallelism, loadavg } from "node:os";
import { wrongAddresses } from "./checks/addresses.ts";
import type { Remembered } from "./checks/inventory.ts";
import { missingState } from "./checks/kept.ts";
import { wrongLinks } from "./checks/links.ts";
import type { LogReader } from "./checks/logs.ts";
import { wrongNames } from "./checks/names.ts";
import { wrongPrograms, wrongReadiness } from "./checks/programs.ts";
import type { Model } from "./model.ts";
import type { Prober } from "./prober.ts";
import { pairs } from "./reach.ts";
import type { World } from "./world.ts";

const POLL_MS = 50;
/** A wait this long is told of. */
const LONG_MS = 5_000;
/** A busy machine is given that many times the time at most. */
const MAX_PATIENCE = 4;

/** A time in ms of a quiet machine, as one of this. */
export const patience = (ms: number) =>
  ms * Math.min(MAX_PATIENCE, Math.max(1, (loadavg()[0] ?? 1) / availableParallelism()));

/** What does not hold; the kind tells failures of one cause from others. */
export interface Violation {
  readonly kind: string;
  readonly lines: readonly string[];
}

type Check = readonly [kind: string, check: (world: World, model: Model) => Promise<string[]>];

/** What may be wrong for a while after a step. */
const CHECKS: readonly Check[] = [
  ["program", wrongPrograms],
  ["address", wrongAddresses],
  ["name", wrongNames],
  ["link", wrongLinks],
];

export interface Watching {
  readonly world: World;
  readonly prober: Prober;
  readonly logs: LogReader;
  /** Inventories of the hosts before the first step; undefined until then. */
  before: Remembered | undefined;
  /** Says what is waited for. */
  say(text: string): void;
}

/** Return what has happened that never may: nothing makes up for it later. */
function unforgivable({ prober, logs }: Watching, model: Model): Violation | undefined {
  const open = prober.violations();
  if (open.length > 0) return { kind: "open", lines: open };
  const lines = logs.wrong(model);
  return lines.length > 0 ? { kind: "log", lines } : undefined;
}

async function outcome([kind, check]: Check, world: World, model: Model): Promise<Violation> {
  try {
    return { kind, lines: await check(world, model) };
  } catch (error) {
    return { kind, lines: [`${kind}: ${error instanceof Error ? error.message : String(error)}`] };
  }
}

async function firstWrong({ world, prober, before }: Watching, model: Model): Promise<Violation | undefined> {
  const silent = prober.missing();
  if (silent.length > 0) return { kind: "traffic", lines: silent.map((pair) => `no traffic: ${pair}`) };
  const found = await Promise.all(CHECKS.map((check) => outcome(check, world, model)));
  const wrong = found.find(({ lines }) => lines.length > 0);
  if (wrong) return wrong;
  const unready = await outcome(["program", wrongReadiness], world, model);
  if (unready.lines.length > 0) return unready;
  const talking = prober.talking();
  if (talking.length > 0)
    return { kind: "policy", lines: talking.map((pair) => `a policy is not in force: ${pair}`) };
  // Last: it takes the longest.
  const missing = await outcome(["kernel", (...of) => missingState(...of, before)], world, model);
  return missing.lines.length > 0 ? missing : undefined;
}

/** Resolves once all holds, within a time in ms on a quiet machine; else with what does not. */
export async function settle(
  watching: Watching,
  model: Model,
  withinMs: number,
): Promise<Violation | undefined> {
  const { prober } = watching;
  prober.want(pairs(model, "must"));
  const start = performance.now();
  let told = start;
  for (;;) {
    const never = unforgivable(watching, model);
    if (never) return never;
    const wrong = await firstWrong(watching, model);
    if (!wrong) return unforgivable(watching, model);
    const waited = performance.now() - start;
    if (performance.now() - told > LONG_MS) {
      told = performance.now();
      watching.say(`  ${(waited / 1000).toFixed(0)} s: ${wrong.kind}: ${wrong.lines[0]}`);
    }
    if (waited > patience(withinMs))
      return { ...wrong, lines: [...wrong.lines, `not within ${(waited / 1000).toFixed(1)} s`] };
    await Bun.sleep(POLL_MS);
  }
}

/** Return which of the pairs that have to go on talking do not, within a time in ms. */
export async function interrupted(
  { prober }: Watching,
  kept: ReturnType<typeof pairs>,
  withinMs: number,
): Promise<Violation | undefined> {
  prober.want(kept);
  const start = performance.now();
  while (prober.missing().length > 0) {
    if (performance.now() - start > patience(withinMs))
      return { kind: "interrupted", lines: prober.missing().map((pair) => `traffic has stopped: ${pair}`) };
    await Bun.sleep(POLL_MS);
  }
  return undefined;
}
