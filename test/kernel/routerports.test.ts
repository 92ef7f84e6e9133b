// Container ports in a router: which programs they get, what the kernel's notifications lead to, and what is counted.
import { describe, expect, spyOn, test } from "bun:test";
import * as fs from "node:fs";
import { ContainerLinks } from "../../lib/host/ports/links.ts";
import { Ports, type PortsConfig } from "../../lib/host/ports/ports.ts";
import { linkAdd, linkByName, linkSet } from "../../lib/netlink/link.ts";
import { closeMaps, createMaps } from "../../lib/overlay/datapath/maps.ts";
import { startPorts } from "../../lib/router/ports.ts";
import { indexOf, isRoot } from "../support/newnetns.ts";
import { RouterBench, type TestContext } from "../support/routercontext.ts";

/** Make the bridge with ports of containers, which carry nothing: they are down. */
function bridge({ context: { route } }: TestContext, ...ports: string[]): number[] {
  linkAdd(route, { kind: "bridge", name: "weave", up: false });
  return ports.map((name) => {
    linkAdd(route, {
      kind: "veth",
      name,
      mtu: 1_500,
      up: false,
      peer: { name: `p${name.slice(-6)}`, mtu: 1_500 },
    });
    const index = indexOf(route, name);
    linkSet(route, name, index, { master: indexOf(route, "weave"), alias: `net/${name}/eth0` });
    return index;
  });
}

/** Start them over such a bridge. */
function portsOf(
  opened: TestContext,
  { past, self = 7, flows }: { past?: Map<number, object>; self?: number; flows?: object } = {},
) {
  const maps = createMaps();
  opened.scope.defer("maps", () => closeMaps(maps));
  const kept: unknown[] = [];
  const notified: unknown[] = [];
  const reconciler = {
    keep: (keeper: unknown) => kept.push(keeper),
    notified: (...source: unknown[]) => notified.push(source),
  };
  const cache = { ports: flows, traffic: () => past ?? new Map() };
  const ports = startPorts(
    opened.context,
    { maps, linkNames: ["vxlan-6784", "sleeve-6783"] } as never,
    self,
    reconciler as never,
    cache as never,
  );
  opened.scope.use("ports", ports);
  return { ports, kept, notified, maps };
}

describe.if(isRoot)("container ports of a router", () => {
  test("count what containers have sent and received, also past their ports", async () => {
    await using bench = new RouterBench();
    const opened = bench.open();
    const [one = 0, two = 0] = bridge(opened, "vethwepl1", "vethwepl2");
    const past = { receivedPackets: 5n, receivedBytes: 500n, sentPackets: 7n, sentBytes: 700n };
    using _ = spyOn(Ports.prototype, "dropped").mockImplementation((index) => 1_000 + index);
    const { ports } = portsOf(opened, { past: new Map([[one, past]]) });
    const links = ports.traffic().sort((a, b) => a.index - b.index);
    const none = { sentPackets: 0, sentBytes: 0, receivedDropped: 0 };
    expect(links).toMatchObject([
      {
        ...none,
        id: "vethwepl1",
        index: one,
        receivedPackets: 5,
        receivedBytes: 500,
        sentDropped: 1_000 + one,
      },
      {
        ...none,
        id: "vethwepl2",
        index: two,
        receivedPackets: 0,
        receivedBytes: 0,
        sentDropped: 1_000 + two,
      },
    ]);
    // A link that has gone since has no counters.
    Bun.spawnSync(["ip", "link", "del", "vethwepl2"]);
    expect(ports.traffic().map(({ index }) => index)).toEqual([one]);
  });

  test("do what the kernel's notifications ask for, and no more", async () => {
    await using bench = new RouterBench();
    const opened = bench.open();
    const { route } = opened.context;
    const [one = 0] = bridge(opened, "vethwepl1");
    const { ports, kept, notified } = portsOf(opened);
    const [links] = kept as ContainerLinks[];
    expect([kept.length, links instanceof ContainerLinks]).toEqual([2, true]);
    links?.reconcile(() => true);
    const suspected = spyOn(Ports.prototype, "suspect");
    const removed = spyOn(ContainerLinks.prototype, "removed");
    const event = { index: one, port: 0, replaced: false, link: undefined } as const;
    const link = { name: "vethwepl1", master: indexOf(route, "weave"), removed: false, leaving: false };
    try {
      ports.changed({ ...event, kind: "addresses" });
      ports.changed({ ...event, kind: "routes" });
      ports.changed({ ...event, kind: "links", link });
      ports.changed({ ...event, kind: "links", index: 99, link: { ...link, master: 98 } });
      ports.changed({ ...event, kind: "links", index: 99, link: { ...link, master: undefined } });
      expect([suspected.mock.calls, removed.mock.calls, notified]).toEqual([[], [], []]);
      ports.changed({ ...event, kind: "trafficcontrol" });
      ports.changed({ ...event, kind: "trafficcontrol", index: undefined });
      expect(suspected.mock.calls).toEqual([[one], [0]]);
      ports.changed({ ...event, kind: "links", index: 99, link });
      expect(notified).toEqual([["ports"]]);
      ports.changed({ ...event, kind: "links", index: 99, link: { ...link, removed: true, leaving: true } });
      ports.changed({ ...event, kind: "links", index: 98, link: { ...link, removed: true } });
      expect([removed.mock.calls, notified.length]).toEqual([
        [
          [99, true],
          [98, false],
        ],
        1,
      ]);
    } finally {
      suspected.mockRestore();
      removed.mockRestore();
    }
  });

  test("get the programs of the options, our number and the overlay's maps", async () => {
    await using bench = new RouterBench();
    const configs: PortsConfig[] = [];
    using _ = spyOn(Ports.prototype, "follow").mockImplementation(function (this: Ports) {
      configs.push((this as unknown as { config: PortsConfig }).config);
      return [];
    });
    for (const antiSpoof of [false, true]) {
      const opened = bench.open({ "anti-spoof": antiSpoof });
      if (linkByName(opened.context.route, "weave") === undefined) bridge(opened);
      const { maps } = portsOf(opened, { self: 1_234 });
      expect(configs.at(-1)).toMatchObject({
        ...{ antiSpoof, self: 1_234, leaveQdisc: false, overlayPorts: ["vxlan-6784", "sleeve-6783"] },
        value: { peerAt: 0, timeAt: 8 },
      });
      expect(configs.at(-1)?.macs).toBe(maps.macs as never);
      await opened.scope.end();
    }
  });

  test.each<[string, string, string, boolean]>([
    ["/etc/cni/net.d", "10.conflist", '{"plugins":[{"type":"weave-net"},{"type":"bandwidth"}]}', true],
    ["/host/etc/cni/net.d", "10.conflist", '{"plugins":[{"type":"weave-net"},{"type":"bandwidth"}]}', true],
    ["/etc/cni/net.d", "10.conf", '{"plugins":[{"type":"weave-net"},{"type":"bandwidth"}]}', false],
    ["/etc/cni/net.d", "10.conflist", '{"plugins":[{"type":"weave-net"},{"type":"portmap"}]}', false],
    ["/etc/cni/net.d", "10.conflist", '{"plugins":[{"type":"other"},{"type":"bandwidth"}]}', false],
  ])("leave queueing disciplines to the bandwidth plugin: %s/%s %s", async (folder, name, text, leaves) => {
    await using bench = new RouterBench();
    const configs: PortsConfig[] = [];
    const { readdirSync, readFileSync } = fs;
    const folders = ["/etc/cni/net.d", "/host/etc/cni/net.d"];
    using _follow = spyOn(Ports.prototype, "follow").mockImplementation(function (this: Ports) {
      configs.push((this as unknown as { config: PortsConfig }).config);
      return [];
    });
    using _list = spyOn(fs, "readdirSync").mockImplementation(((path: string, ...more: never[]) => {
      if (!folders.includes(path)) return readdirSync(path, ...more);
      if (path !== folder) throw new Error("ENOENT");
      return ["00-other.conflist", name];
    }) as never);
    using _read = spyOn(fs, "readFileSync").mockImplementation(((path: string, ...more: never[]) => {
      if (!String(path).startsWith(folder)) return readFileSync(path, ...more);
      return String(path).endsWith(`/${name}`) ? text : "{}";
    }) as never);
    const opened = bench.open();
    bridge(opened);
    const fastPath = { fastPath() {}, follow() {} };
    portsOf(opened, { flows: fastPath });
    // Its disciplines and the flow cache's programs would be in each other's way.
    expect([configs[0]?.leaveQdisc, configs[0]?.flowCache]).toEqual([
      leaves,
      leaves ? undefined : (fastPath as never),
    ]);
  });

  test("without programs, work and say so; with --anti-spoof, the router does not start", async () => {
    await using bench = new RouterBench();
    const start = (opened: TestContext) =>
      startPorts(opened.context, { maps: { macs: { fd: -1 } }, linkNames: [] } as never, 7, {
        keep() {},
        notified() {},
      } as never);
    const opened = bench.open();
    const [one = 0] = bridge(opened, "vethwepl1");
    const ports = start(opened);
    const why = /^no storm control and no anti-spoofing on container ports: ./;
    expect(ports.notes()).toEqual([expect.stringMatching(why)]);
    expect(opened.lines.filter((line) => line.startsWith("warning"))).toEqual([
      `warning: ${ports.notes()[0]}`,
    ]);
    expect([ports.dropped(), ports.traffic().map(({ index, sentDropped }) => [index, sentDropped])]).toEqual([
      {},
      [[one, 0]],
    ]);
    ports.renumber(8);
    ports.changed({ kind: "trafficcontrol", index: one, port: 0, replaced: false, link: undefined });
    ports.stop();
    await opened.scope.end();
    expect(() => start(bench.open({ "anti-spoof": true }))).toThrow(
      /^--anti-spoof: no storm control and no anti-spoofing on container ports: ./,
    );
  });

  test("pass on our number, notes, drops and the end", async () => {
    await using bench = new RouterBench();
    const opened = bench.open();
    bridge(opened, "vethwepl1");
    const { ports } = portsOf(opened);
    const dropped = { flood: 1, multicast: 2, spoofed: 3, protocol: 4 };
    const spies = [
      spyOn(Ports.prototype, "renumber").mockImplementation(() => {}),
      spyOn(Ports.prototype, "notes").mockImplementation(() => ["a note"]),
      spyOn(Ports.prototype, "droppedByReason").mockImplementation(() => dropped),
      spyOn(Ports.prototype, "stop"),
      spyOn(ContainerLinks.prototype, "stop"),
      spyOn(ContainerLinks.prototype, "mtuRaised"),
      spyOn(ContainerLinks.prototype, "ended"),
      spyOn(ContainerLinks.prototype, "assign").mockImplementation(() => "its alias"),
    ] as const;
    try {
      ports.renumber(9);
      expect(spies[0].mock.calls).toEqual([[9]]);
      expect([ports.notes(), ports.dropped()]).toEqual([["a note"], { ...dropped }]);
      const owner = { network: "net", containerId: "c1", ifName: "eth0" };
      expect([ports.assign("alias", owner), spies[7].mock.calls]).toEqual(["its alias", [["alias", owner]]]);
      ports.mtuRaised(1_376, 1_450);
      ports.ended("c1", true);
      expect([spies[5].mock.calls, spies[6].mock.calls]).toEqual([[[1_376, 1_450]], [["c1", true]]]);
      await opened.scope.end();
      expect([spies[3].mock.calls.length, spies[4].mock.calls.length]).toEqual([1, 1]);
    } finally {
      for (const spy of spies) spy.mockRestore();
    }
  });
});
