// The start of a router: what all parts share, the order of the parts, whom it connects to, and what it says of policies and MTU.
import { describe, expect, spyOn, test } from "bun:test";
import { existsSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { parseCidr } from "../../lib/address/ipv4.ts";
import * as garbage from "../../lib/bytes/garbage.ts";
import { SimulatedClock } from "../../lib/clock/simulated.ts";
import { logTo } from "../../lib/log/log.ts";
import { nameFromNumber, type PeerName } from "../../lib/mesh/name.ts";
import { addressAdd } from "../../lib/netlink/address.ts";
import { linkAdd } from "../../lib/netlink/link.ts";
import * as addresses from "../../lib/router/addresses.ts";
import * as connecting from "../../lib/router/connecting.ts";
import * as containers from "../../lib/router/containerevents.ts";
import * as contexts from "../../lib/router/context.ts";
import * as control from "../../lib/router/control.ts";
import * as datapaths from "../../lib/router/datapath.ts";
import * as dns from "../../lib/router/dns.ts";
import * as docker from "../../lib/router/dockernetwork.ts";
import * as exposing from "../../lib/router/exposing.ts";
import * as hostnetworks from "../../lib/router/hostnetwork.ts";
import * as hostports from "../../lib/router/hostports.ts";
import { acquireInstanceLock } from "../../lib/router/instance.ts";
import { followKernel } from "../../lib/router/kernelstate.ts";
import * as meshes from "../../lib/router/mesh.ts";
import { mtuProblems, mtuReport } from "../../lib/router/mtureport.ts";
import { NamedPeers } from "../../lib/router/named.ts";
import { OptionError, parseOptions } from "../../lib/router/options.ts";
import {
  expectNoPolicies,
  expectPolicies,
  policyNotes,
  switchPoliciesOff,
} from "../../lib/router/policies.ts";
import { startRouter } from "../../lib/router/router.ts";
import * as runtime from "../../lib/sys/runtime.ts";
import { Scope } from "../../lib/sys/scope.ts";
import { enterNewNetns, indexOf, isRoot, nft } from "../support/newnetns.ts";
import { FakeMonitor, RouterBench } from "../support/routercontext.ts";

describe.if(isRoot)("what the parts of a router share", () => {
  test("is on the clock that is given, and kept in the state file of the host", async () => {
    await using bench = new RouterBench();
    const { context, clock, folder, scope, lines } = bench.open();
    expect(context.clock).toBe(clock);
    expect(existsSync(join(folder, "weave.db"))).toBe(true);
    context.kept.shortId.set(9);
    context.damaged("a row");
    expect(lines).toEqual(["error: a row"]);
    for (let i = 0; i < 2; i++) context.warn("kind", "a text");
    clock.advance(60_000);
    context.warn("kind", "again");
    expect(lines.slice(1)).toEqual(["warning: a text", "warning: again"]);
    await scope.end();
    expect(bench.open().context.kept.shortId.get()).toBe(9);
  });

  test("is restored every 5 s while the router is wanted: the state file and the pid file", async () => {
    await using bench = new RouterBench();
    acquireInstanceLock();
    const { clock, folder, lines, scope } = bench.open();
    const [state, pid] = [join(folder, "weave.db"), join(folder, "weave.pid")];
    scope.start();
    clock.advance(5_000);
    expect(lines).toEqual([]);
    for (const file of [state, pid]) rmSync(file);
    clock.advance(4_999);
    expect([existsSync(state), existsSync(pid)]).toEqual([false, false]);
    clock.advance(1);
    expect([existsSync(state), readFileSync(pid, "utf8")]).toEqual([true, `${process.pid}\n`]);
    expect(lines).toEqual([
      `warning: the state file ${state} was removed by another program; restored it`,
      `warning: the pid file ${pid} was removed by another program; restored it`,
    ]);
    rmSync(pid);
    scope.interrupt();
    clock.advance(60_000);
    expect(existsSync(pid)).toBe(false);
    await scope.end();
  });

  test("needs an address of this host for --host", async () => {
    await using bench = new RouterBench();
    let failed: unknown;
    try {
      bench.open({ host: "10.99.0.1" });
    } catch (error) {
      failed = error;
    }
    expect([failed instanceof OptionError, String(failed)]).toEqual([
      true,
      expect.stringContaining("--host 10.99.0.1: "),
    ]);
  });

  test.each<[string | undefined, string | undefined, boolean]>([
    [undefined, "10.33.0.1/16", true],
    [undefined, "10.31.0.1/16", false],
    ["10.40.0.0/16", "10.40.5.1/24", false],
    ["10.40.0.0/16", "10.41.5.1/24", false],
    ["", "10.33.0.1/16", false],
  ])("with the range %p on a host with %p: refused is %p", async (range, cidr, refused) => {
    await using bench = new RouterBench();
    const before = bench.open({ "ipalloc-range": "" });
    const { route } = before.context;
    linkAdd(route, { kind: "bridge", name: "other", up: true });
    if (cidr !== undefined) addressAdd(route, "other", indexOf(route, "other"), parseCidr(cidr));
    await before.scope.end();
    const open = () => bench.open(range === undefined ? {} : { "ipalloc-range": range });
    if (refused) {
      expect(open).toThrow(
        "Default --ipalloc-range 10.32.0.0/12 overlaps with existing route 10.33.0.0/16 on host",
      );
      return;
    }
    // One that was chosen is taken, with a warning where it overlaps.
    const overlaps = range === "10.40.0.0/16" && cidr?.startsWith("10.40");
    expect(open().lines.filter((line) => line.startsWith("warning")).length).toBe(overlaps ? 1 : 0);
  });
});

describe("the parts of a router", () => {
  test("start in order, each with those before it; a quiet one releases memory after a minute, then each ten minutes", async () => {
    const told: string[] = [];
    const clock = Object.assign(new SimulatedClock(), { worked: () => 0 });
    const lines: string[] = [];
    const part = <T extends object>(name: string, of: T): T & { name: string } => ({ ...of, name });
    const context = part("context", { clock });
    const host = part("host", {});
    const datapath = part("datapath", { ports: part("ports", {}) });
    const mesh = part("mesh", {});
    const named = part("named", {});
    const nameserver = part("nameserver", {});
    const book = part("book", {});
    const got = part("addresses", { allocator: part("allocator", {}) });
    const running = part("dns", {});
    const exposed = part("exposing", {});
    const api = async () => "api";
    const network = part("docker", {});
    const names = (args: readonly unknown[]) =>
      args
        .map(
          (arg) =>
            (arg as { name?: string } | undefined)?.name ??
            Object.values(arg ?? {})
              .map((each) => (each as { name?: string } | undefined)?.name)
              .join("+"),
        )
        .join(" ");
    const step =
      (what: string, result?: unknown) =>
      (...args: unknown[]) => {
        told.push(`${what}: ${names(args)}`);
        return result as never;
      };
    const collecting = spyOn(garbage, "collectEarly").mockImplementation(() => ({
      stop: () => void told.push("no more early garbage collection"),
    }));
    const released = spyOn(runtime, "releaseMemory").mockImplementation(() => {});
    const spies = [
      spyOn(contexts, "openContext").mockImplementation(() => context as never),
      spyOn(hostnetworks, "startHostNetwork").mockImplementation(step("host", host)),
      spyOn(datapaths, "startDatapath").mockImplementation(step("datapath", datapath)),
      spyOn(meshes, "startMesh").mockImplementation(step("mesh", mesh)),
      spyOn(connecting, "startNamedPeers").mockImplementation(
        step("named", { named, connect: step("connect") }),
      ),
      spyOn(dns, "startNames").mockImplementation(step("names", nameserver)),
      spyOn(hostports, "startHostPorts").mockImplementation(step("host ports", book)),
      spyOn(addresses, "startAddresses").mockImplementation(step("addresses", got)),
      spyOn(dns, "startDns").mockImplementation(step("dns", running)),
      spyOn(exposing, "startExposing").mockImplementation(step("exposing", exposed)),
      spyOn(meshes, "openMesh").mockImplementation(step("open mesh")),
      spyOn(control, "startControl").mockImplementation(step("control", api)),
      spyOn(containers, "watchLinks").mockImplementation(step("links")),
      spyOn(docker, "startDockerNetwork").mockImplementation(step("docker", network)),
      spyOn(containers, "followContainers").mockImplementation(step("containers")),
      released,
      collecting,
    ];
    try {
      const scope = new Scope(() => {});
      const log = logTo((level, text) => lines.push(`${level}: ${text}`));
      const options = parseOptions({}, []);
      expect(await startRouter(options, {} as never, log, scope)).toBe(api as never);
      expect(told).toEqual([
        ...["host: context", "datapath: context host", "mesh: context host datapath", "named: context mesh"],
        ...["names: context mesh", "host ports: context host"],
        "addresses: context host+mesh+named+nameserver+ports+book",
        ...[
          "dns: context host nameserver",
          "exposing: context host allocator dns",
          "open mesh: context host mesh",
        ],
        "control: context host+datapath+mesh+named+addresses+dns+exposing+book",
        ...["links: context host ports addresses", "docker: context ports addresses nameserver"],
        ...["containers: context ports addresses docker", "connect: "],
      ]);
      expect(lines).toEqual(["info: weave is ready"]);
      expect(collecting.mock.calls.length).toBe(1);
      clock.advance(60_999);
      expect(released.mock.calls.length).toBe(0);
      clock.advance(1);
      expect(released.mock.calls.length).toBe(1);
      clock.advance(601_000);
      expect(released.mock.calls.length).toBe(2);
      await startRouter(options, {} as never, log, scope);
      told.length = 0;
      await scope.end();
      expect(told).toEqual(Array(2).fill("no more early garbage collection"));
      clock.advance(1_000_000);
      expect(released.mock.calls.length).toBe(2);
      // Without DNS there is no server to start.
      spies[5]?.mockImplementation((() => undefined) as never);
      told.length = 0;
      await startRouter(options, {} as never, log, new Scope(() => {}));
      expect(told.filter((line) => line.startsWith("dns"))).toEqual([]);
    } finally {
      for (const spy of spies) spy.mockRestore();
    }
  });
});

describe.if(isRoot)("the peers that a router connects to", () => {
  async function peersOf(bench: RouterBench, peers: string[], services: object = {}) {
    const opened = bench.open({}, services, peers);
    const dialled: unknown[] = [];
    const problems = [{ peer: "h9", problem: "h9: no such host" }];
    const maker = {
      named: () => new Map(),
      unresolved: () => [],
      resolveAgain: async () => [],
      forget() {},
      async connect(...args: unknown[]) {
        dialled.push(args);
        return problems;
      },
    };
    const mesh = { maker, ourself: {}, peers: { get: () => undefined } };
    const { named, connect } = connecting.startNamedPeers(opened.context, mesh as never);
    const start = async () => {
      connect();
      for (let i = 0; i < 10; i++) await Promise.resolve();
      const { kept } = opened.context;
      return {
        dialled,
        kept: kept.targets.get(),
        launched: kept.launched.get(),
        stopped: kept.stopped.get(),
      };
    };
    return { ...opened, named, start };
  }

  test("are those of the launch, kept for the next run; names that do not resolve yet are said", async () => {
    await using bench = new RouterBench();
    const first = await peersOf(bench, ["h1", "h9"]);
    expect([first.named, first.named.count]).toEqual([expect.any(NamedPeers), 3]);
    const peers = ["h1", "h9"];
    expect(await first.start()).toEqual({
      dialled: [[peers, false]],
      kept: peers,
      launched: peers,
      stopped: false,
    });
    expect(first.lines).toEqual(["warning: h9: no such host; trying again"]);
    await first.scope.end();
    const again = await peersOf(bench, []);
    expect((await again.start()).dialled).toEqual([[peers, false]]);
    expect(again.lines[0]).toBe("info: connecting to the peers of the last run");
    await again.scope.end();
    // Where a cluster tells them, those of the last run do not count.
    const told = await peersOf(bench, [], { peersAreTold: true });
    expect([(await told.start()).dialled, told.lines.filter((line) => line.startsWith("info"))]).toEqual([
      [[[], false]],
      [],
    ]);
  });
});

describe("the MTU in the report", () => {
  const [ONE, TWO, THREE] = [1n, 2n, 3n].map(nameFromNumber) as [never, never, never];
  const mesh = {
    ourself: { name: ONE },
    peers: { get: (name: string) => (name === TWO ? { nickName: "two" } : undefined) },
  };
  test.each<[object, string]>([
    [{ isFixed: true, limit: { peer: TWO, why: "path", mtu: 1_500 } }, "by --mtu"],
    [{ limit: { peer: ONE, why: "option", mtu: 1_400 } }, "--mtu of this host"],
    [{ limit: { peer: TWO, why: "option", mtu: 1_401 } }, "--mtu of two; 1401 soon"],
    [{ limit: { peer: TWO, why: "no part", mtu: 1_400 } }, "two runs Weave Net 2.x or an older version"],
    [{ limit: { peer: THREE, why: "path", mtu: 1_399 } }, `no path of ${THREE} has been measured`],
    [{ limit: { peer: TWO, to: ONE, why: "path", mtu: 1_450 } }, "the path from two to this host; 1450 soon"],
  ])("%j is in words", (mtu, By) => {
    const network = { mtu: 1_400, isFixed: false, ...mtu };
    expect(mtuReport(network as never, mesh as never)).toEqual({
      Network: 1_400,
      Auto: !network.isFixed,
      By,
    });
  });
});

test("hosts with different --mtu are a problem, in words", () => {
  const [ONE, TWO] = [1n, 2n].map(nameFromNumber) as [PeerName, PeerName];
  const peers = { get: (name: PeerName) => (name === TWO ? `${TWO}(two)` : undefined) };
  const problems = (conflict: object | undefined) =>
    mtuProblems({ conflict } as never, { ourself: { name: ONE }, peers } as never);
  expect(problems(undefined)).toEqual([]);
  expect(problems({ larger: { peer: ONE, mtu: 1_400 }, smaller: { peer: TWO, mtu: 1_200 } })).toEqual([
    {
      Check: "mtu",
      Found: `this host has --mtu 1400, peer ${TWO}(two) --mtu 1200: packets over 1200 bytes between their containers are lost`,
      Advice: "launch all hosts with the same --mtu, or without it",
    },
  ]);
});

describe.if(isRoot)("policies before weave-npc enforces any", () => {
  function logged() {
    const lines: string[] = [];
    return { lines, log: logTo((level, text) => lines.push(`${level}: ${text}`)) };
  }

  test("are a default deny, once, which is kept; the original's stay in force instead", () => {
    enterNewNetns();
    const { lines, log } = logged();
    expect([expectPolicies(true, log)({} as never), nft("list", "tables"), policyNotes()]).toEqual([
      [],
      "",
      [],
    ]);
    const keepers = expectPolicies(false, log);
    expect(lines).toEqual([expect.stringMatching(/^info: default deny: containers reach only this host/)]);
    expect([keepers({} as never).length, policyNotes()]).toEqual([
      1,
      [expect.stringMatching(/^default deny \(--expect-npc\)/)],
    ]);
    expectPolicies(false, log);
    expect(lines.length).toBe(1);
    expectNoPolicies(log);
    expect([lines.at(-1), nft("list", "tables"), policyNotes()]).toEqual([
      ...["info: removed the default deny of an earlier launch with --expect-npc", "", []],
    ]);
    expectNoPolicies(log);
    expect(lines.length).toBe(2);
  });

  test("that are in force stay, unless they are switched off", () => {
    enterNewNetns();
    const { lines, log } = logged();
    nft("add", "table", "inet", "weave-npc");
    expectNoPolicies(log);
    expect([nft("list", "tables"), lines]).toEqual(["table inet weave-npc\n", []]);
    switchPoliciesOff(log);
    expect([nft("list", "tables"), lines]).toEqual([
      "",
      [expect.stringContaining("network policies are off (EXPECT_NPC=0)")],
    ]);
    switchPoliciesOff(log);
    expect(lines.length).toBe(1);
  });
});

describe.if(isRoot)("the kernel's notifications", () => {
  test("of our links and by others are told to the reconciler, until the end", async () => {
    await using bench = new RouterBench();
    const { context } = bench.open();
    const { route, filter } = context;
    const monitor = new FakeMonitor();
    const told: unknown[][] = [];
    const reconciler = {
      notified: (...args: unknown[]) => told.push(args.slice(0, 2)),
      lost: () => told.push(["lost"]),
    };
    linkAdd(route, { kind: "bridge", name: "weave", up: false });
    const stop = followKernel(
      monitor as never,
      reconciler as never,
      { route, filter, port: 7_000 },
      context.log,
    );
    const index = indexOf(route, "weave");
    monitor.changed({ kind: "addresses", index, port: 1 });
    monitor.changed({ kind: "addresses", index, port: route.port });
    monitor.changed({ kind: "addresses", index, port: filter.port });
    expect(told.splice(0)).toEqual([["addresses", "weave"]]);
    const link = (name: string) => ({ name, master: undefined, removed: false, leaving: false });
    for (const [i, name] of ["vxlan-7001", "sleeve-7000", "vxlan-7000", "eth0"].entries())
      monitor.changed({ kind: "links", index: 50 + i, port: 1, link: link(name) });
    expect(told.splice(0)).toEqual([
      ["links", "vxlan-7001"],
      ["links", "sleeve-7000"],
    ]);
    monitor.lost();
    expect(told.splice(0)).toEqual([["lost"]]);
    // What was learned is read anew.
    monitor.changed({ kind: "addresses", index: 50, port: 1 });
    monitor.changed({ kind: "addresses", index, port: 1 });
    expect(told.splice(0)).toEqual([["addresses", "weave"]]);
    stop();
    expect(monitor.listeners.size).toBe(0);
  });
});
