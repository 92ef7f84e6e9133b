// Containers that come and go, one by one and many at once, and a range that is used up.
import * as v from "valibot";
import { ApiError } from "../../../lib/api/client.ts";
import { type Container, type Holding, hasFault, type Model, numbers, withFault, working } from "../model.ts";
import { ROLES } from "../policies.ts";
import { defineStep, type Step } from "../step.ts";

const MAX_CONTAINERS = 12;
const CHURN = 20;
const CHURN_INTERVAL_MS = 50;
const SOON_MS = 15_000;
/** What is left when it is over is in few hands. */
const EXHAUST_MS = 10_000;

/** Whether a container has to get an address: nothing is wrong that could keep it from one. */
const certain = (model: Model, host: number) =>
  !(["network", "disk", "space", "password", "name"] as const).some((kind) => hasFault(model, kind, host)) &&
  working(model).length === model.hosts.length;

const Add = v.object({
  host: v.number(),
  id: v.string(),
  role: v.picklist(ROLES),
  name: v.optional(v.string()),
});

const add = defineStep(Add, {
  name: "add",
  weight: 14,
  withinMs: SOON_MS,
  choose(model, chance) {
    const host = chance.pick(working(model));
    if (host === undefined || model.containers.length >= MAX_CONTAINERS) return undefined;
    const id = `c${model.next}`;
    const named = chance.below(2) === 0 ? { name: `name${model.next}` } : {};
    return { host, id, role: chance.pick(ROLES) ?? "open", ...named };
  },
  possible: (model, { host, id }) =>
    working(model).includes(host) && !model.containers.some((each) => each.id === id),
  async apply(world, { host, id, role, name }, model) {
    try {
      const address = await world.add(host, id, role);
      if (name) await world.name(host, id, address, name);
      return { address };
    } catch (error) {
      if (certain(model, host)) throw error;
      return { failed: String(error) };
    }
  },
  after(model, { host, id, role, name }, { address }) {
    const next = { ...model, next: model.next + 1 };
    if (address === undefined) return next;
    const container: Container = { id, host, address, role, ...(name === undefined ? {} : { name }) };
    return { ...next, containers: [...model.containers, container] };
  },
});

const find = (model: Model, id: string) => model.containers.find((each) => each.id === id);
const removable = (model: Model, { host }: Container) =>
  working(model).includes(host) && !hasFault(model, "disk", host);

const remove = defineStep(v.object({ id: v.string() }), {
  name: "remove",
  weight: 6,
  withinMs: SOON_MS,
  choose(model, chance) {
    const container = chance.pick(model.containers.filter((each) => removable(model, each)));
    return container === undefined ? undefined : { id: container.id };
  },
  possible(model, { id }) {
    const container = find(model, id);
    return container !== undefined && removable(model, container);
  },
  async apply(world, { id }, model) {
    await world.remove(find(model, id)?.host ?? 0, id);
    return undefined;
  },
  after: (model, { id }) => ({ ...model, containers: model.containers.filter((each) => each.id !== id) }),
});

const churn = defineStep(v.object({ host: v.number(), first: v.number() }), {
  name: "churn",
  weight: 4,
  withinMs: SOON_MS,
  choose(model, chance) {
    const host = chance.pick(working(model).filter((each) => certain(model, each)));
    return host === undefined ? undefined : { host, first: model.next };
  },
  possible: (model, { host }) => certain(model, host),
  async apply(world, { host, first }) {
    const lives = Array.from({ length: CHURN }, async (_, i) => {
      await Bun.sleep(i * CHURN_INTERVAL_MS);
      await world.add(host, `c${first + i}`, "open");
      await world.remove(host, `c${first + i}`);
    });
    await Promise.all(lives);
    return undefined;
  },
  after: (model) => ({ ...model, next: model.next + CHURN }),
});

const sound = (model: Model) => model.faults.length === 0 && working(model).length === model.hosts.length;

const exhaust = defineStep(v.object({ hosts: v.array(v.number()) }), {
  name: "exhaust",
  weight: 2,
  withinMs: 20_000,
  choose: (model) => (sound(model) ? { hosts: numbers(model) } : undefined),
  possible: sound,
  async apply(world, { hosts }) {
    const held: Record<string, string> = {};
    const end = performance.now() + EXHAUST_MS;
    // In turn: each uses up its own part first.
    for (let n = 1, left = [...hosts]; left.length > 0; n++) {
      for (const host of [...left]) {
        const id = `hog${host}-${n}`;
        try {
          const cidr = await world.call(host)("POST", `/ip/${id}?wait=false`);
          held[`${host} ${id}`] = cidr.replace(/\/.*/, "");
        } catch (error) {
          if (!(error instanceof ApiError)) throw error;
          left = left.filter((each) => each !== host);
        }
        if (performance.now() > end) return held;
      }
    }
    return held;
  },
  after(model, args, facts) {
    const holdings = Object.entries(facts).map(([key, address]): Holding => {
      const [host = "", id = ""] = key.split(" ");
      return { id, host: Number(host), address };
    });
    const next = withFault(model, { step: "exhaust", args, kind: "space", hosts: args.hosts, drops: [] });
    return { ...next, holdings: [...model.holdings, ...holdings] };
  },
  canEnd: (model) => working(model).length === model.hosts.length && !hasFault(model, "disk"),
  async end(world, _args, { holdings }) {
    for (const { host, id } of holdings) await world.call(host)("DELETE", `/ip/${id}`);
  },
});

export const CONTAINER_STEPS: readonly Step[] = [add, remove, churn, exhaust];
