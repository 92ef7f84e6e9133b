// The datapath of a router as its parts are wired: each is at the port that it speaks on, and a start that fails takes back
// what it made, but nothing that carries the traffic of the run before.
import { describe, expect, spyOn, test } from "bun:test";
import { parseIPv4 } from "../../lib/address/ipv4.ts";
import * as xfrms from "../../lib/netlink/xfrm/watch.ts";
import type { ForwardingTable } from "../../lib/overlay/datapath/contents.ts";
import * as datapaths from "../../lib/overlay/datapath/datapath.ts";
import * as espparts from "../../lib/overlay/fastdp/esp.ts";
import * as espstates from "../../lib/overlay/fastdp/espstate.ts";
import * as flowcaches from "../../lib/overlay/flowcache/flowcache.ts";
import * as generations from "../../lib/overlay/flowcache/generation.ts";
import * as flowmaps from "../../lib/overlay/flowcache/maps.ts";
import * as probes from "../../lib/overlay/flowcache/probe.ts";
import * as networks from "../../lib/overlay/network.ts";
import { startDatapath } from "../../lib/router/datapath.ts";
import * as ports from "../../lib/router/ports.ts";
import { isRoot } from "../support/newnetns.ts";
import { RouterBench } from "../support/routercontext.ts";

const [SECURED, TRUSTED, OTHER] = [parseIPv4("10.1.1.1"), parseIPv4("10.1.2.1"), parseIPv4("10.1.3.1")];
const POLICIES = [
  { direction: "in", source: SECURED },
  { direction: "out", destination: SECURED },
];

/** Start it with parts that note what they are made from, over flow maps that were there or were not. */
async function start(
  bench: RouterBench,
  found: boolean,
  port: number,
  more: { password?: string; trusted?: string; esp?: object } = {},
) {
  const { password, trusted = "", esp = { unavailable: "not here" } } = more;
  const opened = bench.open({
    port: String(port),
    "trusted-subnets": trusted,
    ...(password !== undefined && { password }),
  });
  const kept: unknown[] = [];
  const undone: string[] = [];
  const made: Record<string, unknown[]> = {};
  const part =
    (name: string, of: object = {}) =>
    (...args: unknown[]) => {
      made[name] = args;
      const undo = (what: string) => () => void undone.push(`${name} ${what}`);
      const all = { stop: undo("stop"), close: undo("close"), remove: undo("remove"), undo: undo("undo") };
      return { ...all, closeMaps: undo("closeMaps"), keepers: () => [], ...of };
    };
  const maps = { left: {}, made: {} };
  const applied: ForwardingTable[] = [];
  const table = { routes: new Map(), hops: new Map(), neighbours: new Set([SECURED, TRUSTED, OTHER]) };
  const apply = (each: ForwardingTable) => void applied.push(each);
  const spies = [
    spyOn(probes, "whyNoFlowCache").mockImplementation(() => undefined),
    spyOn(flowcaches, "findFlowMaps").mockImplementation(() => (found ? maps.left : undefined) as never),
    spyOn(flowmaps, "createFlowMaps").mockImplementation(() => maps.made as never),
    spyOn(flowmaps, "closeFlowMaps").mockImplementation(() => void undone.push("flow maps closed")),
    spyOn(generations, "watchPolicies").mockImplementation(part("policies") as never),
    spyOn(datapaths, "Datapath").mockImplementation(part("datapath", { table, apply }) as never),
    spyOn(flowcaches, "FlowCache").mockImplementation(part("flow cache") as never),
    spyOn(espparts, "Esp").mockImplementation(
      part("ESP", { found: () => ({ policies: POLICIES }), ...esp }) as never,
    ),
    spyOn(espstates, "espKeepers").mockImplementation(() => ["associations", "policies"] as never),
    spyOn(xfrms, "watchXfrm").mockImplementation(part("XFRM") as never),
    spyOn(networks, "NetworkOverlay").mockImplementation(part("overlay") as never),
    spyOn(ports, "startPorts").mockImplementation(part("ports") as never),
  ];
  try {
    const host = {
      reconciler: { keep: (each: unknown) => kept.push(each), keepTrying() {} },
      mtu: { link: 1_376, follow() {} },
    };
    await startDatapath(opened.context, host as never);
  } finally {
    for (const spy of spies) spy.mockRestore();
  }
  return { ...opened, made, undone, kept, maps, applied };
}

describe.if(isRoot)("the datapath of a router", () => {
  test("has sleeve at the port of the router, and all of the fast datapath at the next one", async () => {
    await using bench = new RouterBench();
    const { made } = await start(bench, false, 7_000);
    const at = (name: string, i: number) => (made[name]?.[i] as { port: number } | undefined)?.port;
    expect([at("datapath", 1), at("overlay", 2), at("flow cache", 3), made["ESP"]?.[1]]).toEqual([
      ...[7_000, 7_000, 7_001, 7_001],
    ]);
  });

  test.each<[string | undefined, string | undefined, boolean]>([
    ["p", undefined, true],
    ["p", "no ESP", false],
    [undefined, undefined, false],
    [undefined, "no ESP", false],
  ])(
    "keeps and watches what ESP has in the kernel with a password (%p) and ESP (without: %p): %p",
    async (...given) => {
      const [password, unavailable, watched] = given;
      await using bench = new RouterBench();
      const esp = { unavailable, kernel: { port: 7 } };
      const { kept, made } = await start(bench, false, 6_783, {
        esp,
        ...(password !== undefined && { password }),
      });
      expect([kept.filter((each) => typeof each === "string"), "XFRM" in made]).toEqual([
        watched ? ["associations", "policies"] : [],
        watched,
      ]);
    },
  );

  test.each([
    ["p", undefined, [SECURED, TRUSTED]],
    ["p", "no ESP", [TRUSTED]],
    [undefined, undefined, undefined],
  ])(
    "with a password (%p) and ESP (without: %p) goes on by paths that are encrypted, or trusted: %p",
    async (password, unavailable, kept) => {
      await using bench = new RouterBench();
      const { applied } = await start(bench, true, 6_783, {
        trusted: "10.1.2.0/24",
        esp: { unavailable },
        ...(password !== undefined && { password }),
      });
      expect(applied.map(({ neighbours }) => [...neighbours])).toEqual(kept ? [kept] : []);
    },
  );

  test.each([
    [true, false, false],
    [true, true, false],
    [false, false, true],
    [false, true, false],
  ])(
    "flow cache of the run before: %p, started: %p; at the end its programs are removed: %p",
    async (found, started, removed) => {
      await using bench = new RouterBench();
      const { scope, undone, made, maps } = await start(bench, found, 6_783);
      expect(made["flow cache"]?.[1]).toBe(found ? maps.left : maps.made);
      if (started) scope.start();
      await scope.end();
      expect(undone.includes("flow cache undo")).toBe(removed);
      // The overlay's links stay after a start.
      expect([undone.includes("datapath remove"), undone.includes("flow cache close")]).toEqual([
        !started,
        true,
      ]);
    },
  );
});
