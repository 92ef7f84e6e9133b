// One chaos run: steps, chosen or given, and after each of them all that must hold.

import { remember } from "./checks/inventory.ts";
import { leaks } from "./checks/leaks.ts";
import { LogReader } from "./checks/logs.ts";
import { firstModel, type Model, observed, working } from "./model.ts";
import { Prober } from "./prober.ts";
import { pairs } from "./reach.ts";
import { interrupted, settle, type Violation, type Watching } from "./settle.ts";
import type { Facts, Step } from "./step.ts";
import { repair, stepNamed, type Taken } from "./table.ts";
import { World, type WorldOptions } from "./world.ts";

const START_MS = 30_000;
const KEEPS_MS = 3_000;

/** A step that was taken, what was found out, and the time in ms until all held again. */
export interface Done extends Taken {
  readonly facts?: Facts;
  readonly tookMs: number;
  readonly settledMs: number;
}

export interface Outcome {
  readonly done: readonly Done[];
  /** Undefined where all has held. */
  readonly violation: Violation | undefined;
}

export interface RunOptions extends WorldOptions {
  /** The next step; undefined ends the run. */
  next(model: Model, world: World): Taken | undefined | Promise<Taken | undefined>;
  /** Time in ms between rounds of datagrams. */
  readonly roundMs?: number;
  /** Is called when something does not hold, before anything is taken away. */
  failed?(world: World): void;
  /** Is told what is waited for. */
  say?(text: string): void;
  /** Is told of each step. */
  tell?(done: Done, model: Model): void;
}

/** Run until there is no next step, or something does not hold. */
export async function run(
  name: string,
  { next, tell, failed, say = () => {}, roundMs, ...options }: RunOptions,
): Promise<Outcome> {
  const world = await World.create(name, options);
  const prober = new Prober(world.mailbox, roundMs);
  const watching: Watching = { world, prober, logs: new LogReader(world), before: undefined, say };
  const done: Done[] = [];
  try {
    let model = firstModel(options.hosts, options.encrypted, options.old !== undefined);
    const first = await settle(watching, model, START_MS);
    if (first) return { done, violation: first };
    const before = await remember(world);
    watching.before = before;
    const takeAll = async (choose: RunOptions["next"]): Promise<Violation | undefined> => {
      for (let taken = await choose(model, world); taken; taken = await choose(model, world)) {
        const step = stepNamed(taken.step);
        // A part of a history may leave out what another step needs.
        if (!step.possible(model, taken.args)) continue;
        say(`> ${taken.step} ${JSON.stringify(taken.args)}`);
        const result = await take(watching, model, step, taken);
        done.push(result.done);
        tell?.(result.done, result.model);
        if (result.violation) return result.violation;
        model = observed(result.model);
      }
      return undefined;
    };
    let violation = await takeAll(next);
    violation ??= await takeAll(repair);
    violation ??= await takeAll(
      ({ containers: [container] }) => container && { step: "remove", args: { id: container.id } },
    );
    say("> what is left");
    violation ??= await leaks(world, before);
    if (violation) failed?.(world);
    return { done, violation };
  } finally {
    prober.stop();
    await world.dispose();
  }
}

/** Whether all frames go by the fast datapath, which goes on without a router. */
async function allFast(world: World, model: Model): Promise<boolean> {
  const ask = (host: number) =>
    world
      .call(host)("GET", "/status/connections")
      .catch(() => " sleeve ");
  const texts = working(model).map(ask);
  return (await Promise.all(texts)).every((text) => !text.includes(" sleeve "));
}

async function take(
  watching: Watching,
  model: Model,
  step: Step,
  taken: Taken,
): Promise<{ done: Done; model: Model; violation: Violation | undefined }> {
  const { world, prober } = watching;
  const never = pairs(model, "never");
  const stays = new Set(
    pairs(step.after(model, taken.args, {}), "never").map(([from, to]) => `${from.id} ${to.id}`),
  );
  prober.forbid(never.filter(([from, to]) => stays.has(`${from.id} ${to.id}`)));
  if (step.opens) prober.enforce(false);
  const keeps = step.keeps?.(model, taken.args) === true && (await allFast(world, model));
  const start = performance.now();
  let facts: Facts | undefined;
  let after = model;
  let violation: Violation | undefined;
  try {
    facts = await step.apply(world, taken.args, model);
    after = step.after(model, taken.args, facts ?? {});
  } catch (error) {
    violation = {
      kind: `cannot ${step.name}`,
      lines: [error instanceof Error ? error.message : String(error)],
    };
  }
  const tookMs = performance.now() - start;
  if (!violation && keeps) {
    const kept = pairs(model, "must").filter(([from, to]) =>
      [from, to].every((each) => after.containers.includes(each)),
    );
    violation = await interrupted(watching, kept, KEEPS_MS);
  }
  // What controllers have yet to see is denied, or not, only once they have.
  prober.forbid(pairs(observed(after), "never"));
  violation ??= await settle(watching, after, step.withinMs);
  prober.enforce(true);
  const settledMs = performance.now() - start - tookMs;
  const done = {
    ...taken,
    ...(facts ? { facts } : {}),
    tookMs: Math.round(tookMs),
    settledMs: Math.round(settledMs),
  };
  return { done, model: after, violation };
}
