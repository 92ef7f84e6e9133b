// What a host depends on: its disk, its clock, the API server, and the rules of others.
import { rmSync } from "node:fs";
import { join } from "node:path";
import * as v from "valibot";
import { fillUp } from "../../support/disk.ts";
import { type Fault, hasFault, type Model, numbers, withFault } from "../model.ts";
import { defineStep, OnHost, type Step } from "../step.ts";
import { FILLER, type World } from "../world.ts";

const SOON_MS = 20_000;

/** A fault of one host that begins and ends, and that traffic does not notice. */
function lasting(
  name: string,
  weight: number,
  kind: Fault["kind"],
  begin: (world: World, host: number) => Promise<void>,
  end: (world: World, host: number) => Promise<void>,
): Step {
  const possible = (model: Model, host: number) => !hasFault(model, kind, host);
  return defineStep(OnHost, {
    name,
    weight,
    withinMs: SOON_MS,
    choose(model, chance) {
      const host = chance.pick(numbers(model).filter((each) => possible(model, each)));
      return host === undefined ? undefined : { host };
    },
    possible: (model, { host }) => possible(model, host),
    async apply(world, { host }) {
      await begin(world, host);
      return undefined;
    },
    after: (model, args) => withFault(model, { step: name, args, kind, hosts: [args.host], drops: [] }),
    end: (world, { host }) => end(world, host),
    keeps: () => true,
  });
}

const filler = (world: World, host: number) => join(world.disk(world.host(host)), FILLER);

/** Where no router runs, none can be launched, which says why. */
async function refuseLaunch(world: World, host: number): Promise<void> {
  if (world.pid(host, "router") !== undefined) return;
  const refused = await world.launch(host).catch((error: unknown) => String(error));
  if (refused === undefined) throw new Error(`host ${host} has launched a router on a read-only disk`);
  if (!/read-only/i.test(refused)) throw new Error(`launch on a read-only disk: ${refused}`);
}

/** As dockerd and firewalld leave the packet filter. */
const FIREWALL = `
iptables-nft -N DOCKER-USER; iptables-nft -A FORWARD -j DOCKER-USER; iptables-nft -P FORWARD DROP
nft 'add table inet other'; nft 'add chain inet other forward { type filter hook forward priority 10; }'`;
// A flush of everything may have taken it away before.
const NO_FIREWALL = `
nft delete table inet other; iptables-nft -P FORWARD ACCEPT
iptables-nft -D FORWARD -j DOCKER-USER; iptables-nft -X DOCKER-USER; true`;

/** Names that were refused meanwhile are repeated every 30 s, to some neighbours. */
const REPEATED_MS = 90_000;

const clock = defineStep(v.object({ host: v.number(), seconds: v.number() }), {
  name: "clock",
  weight: 4,
  withinMs: REPEATED_MS,
  choose(model, chance) {
    const host = chance.pick(numbers(model).filter((each) => !hasFault(model, "clock", each)));
    const seconds = chance.pick([10_800, -10_800, 90_000, -90_000, 61]);
    return host === undefined || seconds === undefined ? undefined : { host, seconds };
  },
  possible: (model, { host }) => !hasFault(model, "clock", host),
  async apply(world, { host, seconds }) {
    world.setClock(host, seconds);
    return undefined;
  },
  after: (model, args) =>
    withFault(model, { step: "clock", args, kind: "clock", hosts: [args.host], drops: [] }),
  async end(world, { host }) {
    world.setClock(host, 0);
  },
  keeps: () => true,
});

const HABITS = ["away", "slow", "lying"] as const;
const LIES: readonly (() => Response)[] = [
  () => new Response("<html>Bad gateway</html>", { status: 200, headers: { "content-type": "text/html" } }),
  () =>
    Response.json({ kind: "Status", code: 500, message: "etcdserver: request timed out" }, { status: 500 }),
  () =>
    new Response('{"kind":"PodList","items":[{"meta', { headers: { "content-type": "application/json" } }),
  () => Response.json({ kind: "PodList", apiVersion: "v1" }),
  () => Response.json({ kind: "Status", code: 401, message: "Unauthorized" }, { status: 401 }),
];

const api = defineStep(v.object({ habit: v.picklist(HABITS) }), {
  name: "api-server",
  weight: 4,
  withinMs: SOON_MS,
  choose(model, chance) {
    const habit = chance.pick(HABITS);
    return habit === undefined || hasFault(model, "api") ? undefined : { habit };
  },
  possible: (model) => !hasFault(model, "api"),
  async apply(world, { habit }) {
    if (habit === "away") await world.api.stop();
    else {
      let answers = 0;
      world.api.interfere = async () => {
        if (habit === "slow") return void (await Bun.sleep(3_000));
        return LIES[answers++ % LIES.length]?.();
      };
      world.api.endWatches();
    }
    return undefined;
  },
  after: (model, args) =>
    withFault(model, { step: "api-server", args, kind: "api", hosts: numbers(model), drops: [] }),
  async end(world, { habit }) {
    world.api.interfere = undefined;
    if (habit === "away") world.api.start();
    else world.api.endWatches();
  },
  keeps: () => true,
});

const shell = (world: World, host: number, script: string) => world.host(host).must(["sh", "-c", script]);

export const SURROUNDING_STEPS: readonly Step[] = [
  lasting(
    "full-disk",
    3,
    "disk",
    async (world, host) => fillUp(filler(world, host)),
    async (world, host) => rmSync(filler(world, host)),
  ),
  lasting(
    "read-only",
    3,
    "disk",
    async (world, host) => {
      await world.setReadOnly(host, true);
      await refuseLaunch(world, host);
    },
    (world, host) => world.setReadOnly(host, false),
  ),
  lasting(
    "firewall",
    3,
    "rules",
    async (world, host) => void (await shell(world, host, FIREWALL)),
    async (world, host) => void (await shell(world, host, NO_FIREWALL)),
  ),
  clock,
  api,
];
