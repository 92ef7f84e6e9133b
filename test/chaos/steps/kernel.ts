// What others do to links, addresses, routes, rules, sysctls and programs of traffic control that are the router's.
import { join } from "node:path";
import * as v from "valibot";
import { undo, undoings } from "../../support/undoings.ts";
import { type Model, working } from "../model.ts";
import { defineStep, OnHost, type Step } from "../step.ts";
import type { World } from "../world.ts";

const Args = v.object({ host: v.number(), number: v.number() });

/** Everything that can be undone on a host, and needs nobody to put anything back. */
async function possibilities(world: World, host: number) {
  const on = world.host(host);
  const links = await on.must(["ip", "-br", "link"]);
  const bridge = await on.must(["ip", "-4", "-br", "addr", "show", "dev", "weave"]);
  const all = undoings({
    host: on,
    veths: Array.from(links.matchAll(/^(vethwe\w+)@/gm), ([, name]) => name ?? ""),
    exposed: /\d+\.\d+\.\d+\.\d+\/\d+/.exec(bridge)?.[0] ?? "",
    network: world.range,
    iptables: "iptables-nft",
  });
  return all.filter(({ restore, object }) => restore === undefined && object !== "iptables");
}

/** Return one of them, by a number of any size. */
async function possibility(world: World, host: number, number: number) {
  const all = await possibilities(world, host);
  const chosen = all[number % all.length];
  if (!chosen) throw new Error(`nothing to undo on host ${host}`);
  return chosen;
}

const possible = (model: Model, host: number) => working(model).includes(host);
/** Hosts on which both programs run. */
const complete = (model: Model) => working(model).filter((host) => model.hosts[host - 1]?.npc === "running");

const meddle = defineStep(Args, {
  name: "meddle",
  weight: 12,
  withinMs: 40_000,
  choose(model, chance) {
    const host = chance.pick(working(model));
    return host === undefined ? undefined : { host, number: chance.below(1 << 16) };
  },
  possible: (model, { host }) => possible(model, host),
  async apply(world, { host, number }) {
    const chosen = await possibility(world, host, number);
    await undo(chosen);
    return { object: chosen.object, script: chosen.script };
  },
  after: (model) => model,
});

const FLUSH = v.object({ host: v.number(), what: v.picklist(["ruleset", "weave-npc"]) });

/** Policies are open until the router or the controller has put them back. */
const flush = defineStep(FLUSH, {
  name: "flush",
  weight: 3,
  withinMs: 20_000,
  choose(model, chance) {
    const host = chance.pick(complete(model));
    const what = chance.pick(["ruleset", "weave-npc"] as const);
    return host === undefined || what === undefined ? undefined : { host, what };
  },
  possible: (model, { host }) => complete(model).includes(host),
  async apply(world, { host, what }) {
    const script =
      what === "ruleset"
        ? "nft flush ruleset"
        : "nft delete table inet weave-npc; nft delete table bridge weave-npc";
    await world.host(host).must(["sh", "-c", script]);
    return undefined;
  },
  after: (model) => model,
  opens: true,
});

/** More changes than the buffer of any socket has room for, of a link and of a set. */
const LINKS = [
  ...Array.from({ length: 2_000 }, (_, i) => `link set lo alias burst${i}`),
  'link set lo alias ""',
];
const ELEMENTS = Array.from({ length: 8_000 }, (_, i) => `10.${i >> 8}.${i & 255}.1`).join();
const BURST = `table ip burst { set s { type ipv4_addr; elements = { ${ELEMENTS} }; }; }; delete table ip burst\n`;

/** Changes that the programs do not hear of, as they come while there are too many. */
const overflow = defineStep(Args, {
  name: "overflow",
  weight: 3,
  withinMs: 40_000,
  choose(model, chance) {
    const host = chance.pick(complete(model));
    return host === undefined ? undefined : { host, number: chance.below(1 << 16) };
  },
  possible: (model, { host }) => complete(model).includes(host),
  async apply(world, { host, number }) {
    const chosen = await possibility(world, host, number);
    const both = ["router", "npc"] as const;
    for (const program of both) world.signal(host, program, "SIGSTOP");
    const on = world.host(host);
    try {
      await on.must(["ip", "-batch", "-"], { stdin: `${LINKS.join("\n")}\n` });
      await on.must(["nft", "-f", "-"], { stdin: BURST });
      await undo(chosen);
    } finally {
      for (const program of both) world.signal(host, program, "SIGCONT");
    }
    return { object: chosen.object, script: chosen.script, dropped: await dropped(world, host) };
  },
  after: (model) => model,
});

/** Messages that netlink sockets of a host have lost. */
async function dropped(world: World, host: number): Promise<string> {
  const [, ...sockets] = (await world.host(host).must(["cat", "/proc/net/netlink"])).trim().split("\n");
  return String(sockets.reduce((sum, line) => sum + Number(line.trim().split(/\s+/)[8] ?? 0), 0));
}

const FILL = join(import.meta.dir, "../../support/conntrackfill.ts");
/** Long enough for a heartbeat and some datagrams. */
const FULL_MS = 3_000;

/** The table of connections is full for a while: what is not tracked yet is dropped. Then all are forgotten. */
const conntrack = defineStep(OnHost, {
  name: "conntrack-full",
  weight: 1,
  withinMs: 40_000,
  choose(model, chance) {
    const host = chance.pick(working(model));
    return host === undefined ? undefined : { host };
  },
  possible: (model, { host }) => possible(model, host),
  async apply(world, { host }) {
    const fill = (how: string) => world.host(host).must([process.execPath, FILL, how], { timeoutMs: 60_000 });
    const connections = (await fill("fill")).trim();
    await Bun.sleep(FULL_MS);
    await fill("flush");
    return { connections };
  },
  after: (model) => model,
});

export const KERNEL_STEPS: readonly Step[] = [meddle, flush, overflow, conntrack];
