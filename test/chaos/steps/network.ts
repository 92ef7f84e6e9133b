// A network that drops, one way or both, loses, delays, mixes up, corrupts, and narrows.
import * as v from "valibot";
import type { Treatment } from "../../support/relay.ts";
import { type Drop, hasFault, type Model, numbers, withFault } from "../model.ts";
import { defineStep, type Step } from "../step.ts";

/** Time for routers to find that a path is gone, and another way. */
const REROUTE_MS = 30_000;
// A host that loses its connections may connect to the other of two of one name.
const quiet = (model: Model) => !hasFault(model, "network") && !hasFault(model, "name");

const Cut = v.object({
  shape: v.string(),
  drops: v.array(v.object({ from: v.number(), to: v.number(), permille: v.number() })),
});

const drop = (from: number, to: number, permille = 1000): Drop => ({ from, to, permille });
const both = (a: number, b: number, permille = 1000): Drop[] => [drop(a, b, permille), drop(b, a, permille)];

/** Shapes of partitions, of which `one` is a host, `two` another, and `rest` all but `one`. */
const SHAPES: Readonly<Record<string, (one: number, two: number, rest: readonly number[]) => Drop[]>> = {
  pair: (one, two) => both(one, two),
  "one way": (one, two) => [drop(one, two)],
  isolated: (one, _two, rest) => rest.flatMap((other) => both(one, other)),
  deaf: (one, _two, rest) => rest.map((other) => drop(other, one)),
  mute: (one, _two, rest) => rest.map((other) => drop(one, other)),
  halves(one, _two, rest) {
    const near = [one, ...rest.slice(0, Math.floor(rest.length / 2))];
    const far = rest.filter((each) => !near.includes(each));
    return near.flatMap((a) => far.flatMap((b) => both(a, b)));
  },
  bridge(one, two, rest) {
    // Only `two` reaches both sides.
    const near = [one];
    const far = rest.filter((each) => each !== two);
    return near.flatMap((a) => far.flatMap((b) => both(a, b)));
  },
  "slight loss": (one, two) => both(one, two, 50),
  "heavy loss": (one, _two, rest) => rest.flatMap((other) => both(one, other, 400)),
};

const cut = defineStep(Cut, {
  name: "cut",
  weight: 10,
  withinMs: REROUTE_MS,
  choose(model, chance) {
    const one = chance.pick(numbers(model));
    const rest = numbers(model).filter((each) => each !== one);
    const two = chance.pick(rest);
    const shape = chance.pick(Object.keys(SHAPES));
    if (!quiet(model) || one === undefined || two === undefined || shape === undefined) return undefined;
    return { shape, drops: SHAPES[shape]?.(one, two, rest) ?? [] };
  },
  possible: quiet,
  async apply(world, { drops }) {
    await world.drop(drops);
    return undefined;
  },
  after: (model, args) =>
    withFault(model, { step: "cut", args, kind: "network", hosts: numbers(model), drops: args.drops }),
  end: (world) => world.drop([]),
});

const Treat = v.object({
  treatment: v.object({
    loss: v.optional(v.number()),
    duplicate: v.optional(v.number()),
    reorder: v.optional(v.number()),
    corrupt: v.optional(v.number()),
    delayMs: v.optional(v.number()),
    mtu: v.optional(v.number()),
    tell: v.optional(v.boolean()),
  }),
});

const TREATMENTS: readonly Treatment[] = [
  { delayMs: 80 },
  { delayMs: 300 },
  { reorder: 0.2, duplicate: 0.1 },
  { corrupt: 0.02 },
  { loss: 0.05, delayMs: 20, reorder: 0.05 },
  { mtu: 1280 },
  { mtu: 1280, tell: true },
  { mtu: 900 },
];

const treat = defineStep(Treat, {
  name: "ill-treat",
  weight: 5,
  withinMs: REROUTE_MS,
  choose(model, chance) {
    const treatment = chance.pick(TREATMENTS);
    return treatment && quiet(model) ? { treatment } : undefined;
  },
  possible: quiet,
  async apply(world, { treatment }) {
    world.treat(treatment as Treatment);
    return undefined;
  },
  after: (model, args) =>
    withFault(model, { step: "ill-treat", args, kind: "network", hosts: [2], drops: [] }),
  async end(world) {
    world.treat({});
  },
});

const narrow = defineStep(v.object({ host: v.number(), mtu: v.number() }), {
  name: "narrow",
  weight: 2,
  withinMs: REROUTE_MS,
  choose(model, chance) {
    const host = chance.pick(numbers(model));
    const mtu = chance.pick([1400, 1280, 1000]);
    return host === undefined || mtu === undefined || !quiet(model) ? undefined : { host, mtu };
  },
  possible: quiet,
  async apply(world, { host, mtu }) {
    await world.hosts.narrow(world.host(host), mtu);
    return undefined;
  },
  after: (model, args) =>
    withFault(model, { step: "narrow", args, kind: "network", hosts: [args.host], drops: [] }),
  end: (world, { host }) => world.hosts.narrow(world.host(host), 1500),
});

export const NETWORK_STEPS: readonly Step[] = [cut, treat, narrow];
