// Hosts that are rebooted: with their state, without, and with that of some time ago.
import * as v from "valibot";
import { canLaunch, containersOf, hasFault, type Model, numbers, rebooted } from "../model.ts";
import { defineStep, OnHost, type Step } from "../step.ts";
import type { World } from "../world.ts";

/** A boot, with a new peer maybe, and connections. */
const BOOT_MS = 30_000;

/** Starts all programs, as a boot does; the runtime then takes away the containers that it knew before. */
async function boot(world: World, host: number, before: readonly string[], name?: string): Promise<void> {
  await world.launch(host, name === undefined ? {} : { name });
  world.startNpc(host);
  await world.host(host).weave("expose");
  for (const id of before) await world.clean(host, id);
}

const ids = (model: Model, host: number) => containersOf(model, host).map(({ id }) => id);

const reboot = defineStep(OnHost, {
  name: "reboot",
  weight: 4,
  withinMs: BOOT_MS,
  choose(model, chance) {
    const host = chance.pick(numbers(model).filter((each) => canLaunch(model, each)));
    return host === undefined ? undefined : { host };
  },
  possible: (model, { host }) => canLaunch(model, host),
  async apply(world, { host }, model) {
    const before = ids(model, host);
    await world.reboot(host, before);
    await boot(world, host, before);
    return undefined;
  },
  after: (model, { host }) => rebooted(model, host, "running"),
});

const canLose = (model: Model, host: number) =>
  canLaunch(model, host) && !hasFault(model, "network") && !hasFault(model, "space");

const loseState = defineStep(v.object({ host: v.number(), sameName: v.boolean() }), {
  name: "lose-state",
  weight: 2,
  withinMs: BOOT_MS,
  choose(model, chance) {
    const sameName = chance.below(2) === 0;
    const possible = (host: number) => canLose(model, host) && (sameName || model.departed === 0);
    const host = chance.pick(
      numbers(model).filter((each) => model.hosts[each - 1]?.router === "running" && possible(each)),
    );
    return host === undefined ? undefined : { host, sameName };
  },
  possible: (model, { host, sameName }) =>
    model.hosts[host - 1]?.router === "running" && canLose(model, host) && (sameName || model.departed === 0),
  async apply(world, { host, sameName }, model) {
    const name = await world.peerName(host);
    const before = ids(model, host);
    await world.reboot(host, before, (disk) => world.wipe(disk));
    await boot(world, host, before, sameName ? name : undefined);
    if (!sameName) world.departed.push(name);
    return undefined;
  },
  after(model, { host, sameName }) {
    const next = rebooted(model, host, "running");
    const copies = next.copies.filter((each) => each !== host);
    return { ...next, copies, departed: next.departed + (sameName ? 0 : 1) };
  },
});

const canReclaim = (model: Model) =>
  model.departed > 0 && model.faults.length === 0 && model.hosts.every(({ router }) => router === "running");

const reclaim = defineStep(OnHost, {
  name: "reclaim",
  weight: 10,
  withinMs: 10_000,
  choose(model, chance) {
    const host = chance.pick(numbers(model));
    return host !== undefined && canReclaim(model) ? { host } : undefined;
  },
  possible: canReclaim,
  async apply(world, { host }) {
    for (const name of world.departed.splice(0)) await world.host(host).weave("rmpeer", name);
    return undefined;
  },
  after: (model) => ({ ...model, departed: 0 }),
});

const copyState = defineStep(OnHost, {
  name: "copy-state",
  weight: 2,
  withinMs: 10_000,
  choose(model, chance) {
    const host = chance.pick(numbers(model).filter((each) => model.hosts[each - 1]?.router !== "frozen"));
    return host === undefined ? undefined : { host };
  },
  possible: (model, { host }) => model.hosts[host - 1]?.router !== "frozen",
  async apply(world, { host }, model) {
    world.copyDisk(host, ids(model, host));
    return undefined;
  },
  after: (model, { host }) => ({ ...model, copies: [...model.copies.filter((each) => each !== host), host] }),
});

// What is written on a disk after a copy is lost with it: nobody can know of it who is cut off.
const canRestore = (model: Model, host: number) => canLose(model, host) && model.copies.includes(host);

const restoreState = defineStep(OnHost, {
  name: "restore-state",
  weight: 3,
  withinMs: BOOT_MS,
  choose(model, chance) {
    const host = chance.pick(model.copies.filter((each) => canRestore(model, each)));
    return host === undefined ? undefined : { host };
  },
  possible: (model, { host }) => canRestore(model, host),
  async apply(world, { host }, model) {
    let known: readonly string[] = [];
    await world.reboot(host, ids(model, host), (disk) => {
      known = world.restoreDisk(host, disk);
    });
    await boot(world, host, known);
    return undefined;
  },
  after: (model, { host }) => rebooted(model, host, "running"),
});

export const HOST_STEPS: readonly Step[] = [reboot, loseState, reclaim, copyState, restoreState];
