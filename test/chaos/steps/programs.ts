// Programs that are killed, stopped and started.
import * as v from "valibot";
import {
  canLaunch,
  hasFault,
  hostState,
  type Life,
  type Model,
  numbers,
  type Program,
  withHost,
} from "../model.ts";
import { defineStep, OnHost, type Step } from "../step.ts";

const Args = v.object({ host: v.number(), program: v.picklist(["router", "npc"]) });
const PROGRAMS: readonly Program[] = ["router", "npc"];

/** Time for a connection that was lost to be there again. */
const RECONNECT_MS = 20_000;

function change(name: string, weight: number, from: readonly Life[], to: Life, apply: Step["apply"]): Step {
  const possible = (model: Model, host: number, program: Program) =>
    from.includes(hostState(model, host)[program]) &&
    (program === "npc" || (to === "running" ? canLaunch(model, host) : !hasFault(model, "name"))) &&
    !hasFault(model, "password", host);
  return defineStep(Args, {
    name,
    weight,
    withinMs: RECONNECT_MS,
    choose(model, chance) {
      const program = chance.pick(PROGRAMS) ?? "router";
      const host = chance.pick(numbers(model).filter((each) => possible(model, each, program)));
      return host === undefined ? undefined : { host, program };
    },
    possible: (model, { host, program }) => possible(model, host, program),
    apply,
    after: (model, { host, program }) => withHost(model, host, { [program]: to }),
    // The kernels go on; sleeve does not.
    keeps: (model, { program }) => program === "npc" || !model.encrypted,
  });
}

type Args = v.InferOutput<typeof Args>;

const exchangeable = (model: Model, host: number) =>
  model.mixed && hostState(model, host).router === "running" && canLaunch(model, host);

/** A router is replaced by one of another version, or by ours again, with the state that it has. */
const exchange = defineStep(OnHost, {
  name: "exchange",
  weight: 10,
  withinMs: RECONNECT_MS,
  choose(model, chance) {
    const host = chance.pick(numbers(model).filter((each) => exchangeable(model, each)));
    return host === undefined ? undefined : { host };
  },
  possible: (model, { host }) => exchangeable(model, host),
  async apply(world, { host }) {
    const version = world.exchange(host);
    await world.kill(host, "router");
    await world.launch(host);
    return { version };
  },
  after(model, { host }) {
    const others = model.old.filter((each) => each !== host);
    return { ...model, old: model.old.includes(host) ? others : [...others, host] };
  },
});

export const PROGRAM_STEPS: readonly Step[] = [
  exchange,
  change("kill", 6, ["running", "frozen"], "down", async (world, args) => {
    const { host, program } = args as Args;
    await world.kill(host, program);
    return undefined;
  }),
  change("start", 10, ["down"], "running", async (world, args) => {
    const { host, program } = args as Args;
    if (program === "router") await world.launch(host);
    else world.startNpc(host);
    return undefined;
  }),
  change("crash", 8, ["running", "frozen"], "running", async (world, args) => {
    const { host, program } = args as Args;
    await world.kill(host, program);
    if (program === "router") await world.launch(host);
    else world.startNpc(host);
    return undefined;
  }),
  change("freeze", 4, ["running"], "frozen", async (world, args) => {
    const { host, program } = args as Args;
    world.signal(host, program, "SIGSTOP");
    return undefined;
  }),
  change("thaw", 8, ["frozen"], "running", async (world, args) => {
    const { host, program } = args as Args;
    world.signal(host, program, "SIGCONT");
    return undefined;
  }),
];
