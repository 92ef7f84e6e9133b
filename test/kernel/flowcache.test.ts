// The flow cache around its programs: when it asks for the packet filter's mark, whose flows are cached, when all are forgotten,
// and which settings of conntrack it puts back. The maps are the kernel's, in a namespace of the test.
import { afterEach, beforeEach, describe, expect, spyOn, test } from "bun:test";
import { release } from "node:os";
import * as programs from "../../lib/bpf/program.ts";
import * as sysctls from "../../lib/host/sysctl.ts";
import { linkAdd } from "../../lib/netlink/link.ts";
import { NETLINK_ROUTE, NetlinkSocket } from "../../lib/netlink/socket.ts";
import { closeMaps, createMaps, type DatapathMaps } from "../../lib/overlay/datapath/maps.ts";
import { LooseConntrack, restoreConntrack } from "../../lib/overlay/flowcache/conntrack.ts";
import { FlowCache, findFlowMaps, removeFlowCache } from "../../lib/overlay/flowcache/flowcache.ts";
import {
  CONTROL,
  closeFlowMaps,
  createFlowMaps,
  type FlowMaps,
  FROM,
  MODE,
  OUT,
} from "../../lib/overlay/flowcache/maps.ts";
import { whyNoFlowCache } from "../../lib/overlay/flowcache/probe.ts";
import * as underlays from "../../lib/overlay/flowcache/underlay.ts";
import { enterNewNetns, indexOf, isRoot } from "../support/newnetns.ts";

const BRIDGED = "net/bridge/bridge-nf-call-iptables";
const LIBERAL = "net/netfilter/nf_conntrack_tcp_be_liberal";
const RESETS = "net/netfilter/nf_conntrack_tcp_ignore_invalid_rst";

let maps: FlowMaps;
let datapathMaps: DatapathMaps;
let settings: Record<string, string>;
let spies: { mockRestore(): void }[];
let nl: NetlinkSocket;

test.if(isRoot)("the kernel has what the flow cache needs from Linux 5.14 on", () => {
  const [major = 0, minor = 0] = release().split(".").map(Number);
  const why = whyNoFlowCache();
  if (major > 5 || (major === 5 && minor >= 14)) expect(why).toBeUndefined();
  else expect(why).toContain("Linux 5.14");
});

describe.if(isRoot)("the flow cache", () => {
  beforeEach(() => {
    enterNewNetns();
    nl = new NetlinkSocket(NETLINK_ROUTE);
    [maps, datapathMaps] = [createFlowMaps(), createMaps()];
    settings = { [BRIDGED]: "0", [LIBERAL]: "0", [RESETS]: "1" };
    spies = [
      spyOn(sysctls, "sysctlGet").mockImplementation((name) => settings[name]),
      spyOn(sysctls.KeptSysctls.prototype, "get").mockImplementation((name) => settings[name]),
      spyOn(sysctls, "sysctlSet").mockImplementation((name, value) => {
        settings[name] = value;
        return true;
      }),
    ];
  });
  afterEach(() => {
    for (const spy of spies) spy.mockRestore();
    closeFlowMaps(maps);
    closeMaps(datapathMaps);
    nl.close();
  });

  const control = (name: keyof typeof CONTROL) => maps.control.get(CONTROL[name]) ?? 0;
  const datapath = () => ({ maps: datapathMaps, table: { neighbours: new Map() }, portName: "vxlan-6784" });

  function cache() {
    const subject = new FlowCache(nl, maps, datapath() as never, { port: 6_784, self: 7 });
    const [loose, mode] = subject.keepers();
    return { subject, loosen: () => loose?.reconcile(() => true), follow: () => mode?.reconcile(() => true) };
  }

  test("requires the packet filter's mark while that sees bridged packets", () => {
    const { subject, follow } = cache();
    linkAdd(nl, { kind: "bridge", name: "weave", up: true });
    linkAdd(nl, { kind: "bridge", name: "vxlan-6784", up: false });
    expect(control("mode")).toBe(0);
    follow();
    expect([control("mode"), control("overlay"), subject.report().Filtered]).toEqual([
      ...[MODE.on, indexOf(nl, "vxlan-6784"), false],
    ]);
    settings[BRIDGED] = "1";
    follow();
    expect([control("mode"), subject.report().Filtered]).toEqual([MODE.on | MODE.filtered, true]);
    settings[BRIDGED] = "0";
    follow();
    expect([control("mode"), subject.report().Filtered]).toEqual([MODE.on, false]);
    subject.close();
  });

  test("makes conntrack liberal before the packet filter sees bridged packets, and keeps it so", () => {
    const { subject, loosen, follow } = cache();
    loosen();
    const loose = [settings[LIBERAL], settings[RESETS], control("loosened")];
    expect(loose).toEqual(["1", "1", 1]);
    for (const bridged of ["1", "0"]) {
      settings[BRIDGED] = bridged;
      follow();
      loosen();
      expect([settings[LIBERAL], settings[RESETS], control("loosened")]).toEqual(loose);
    }
    subject.close();
  });

  test("reports trouble with its programs while it lasts", () => {
    let tell: (reason: string | undefined) => void = () => expect.unreachable();
    const hooks = spyOn(underlays, "UnderlayHooks").mockImplementation(((...given: unknown[]) => {
      tell = given[3] as typeof tell;
      return { close() {} };
    }) as never);
    spies.push(hooks);
    const { subject } = cache();
    tell("no clsact");
    expect(subject.report().Trouble).toBe("no clsact");
    tell(undefined);
    expect(subject.report().Trouble).toBeUndefined();
    subject.close();
  });

  test("forgets all flows at the start, and after each change of rules, of the table and of its number", () => {
    const generations = [control("generation")];
    const { subject } = cache();
    const next = () => {
      generations.push(control("generation"));
      return new Set(generations).size;
    };
    expect(next()).toBe(2);
    subject.rulesChanged();
    expect(next()).toBe(3);
    subject.tableChanged();
    expect(next()).toBe(4);
    subject.renumber(8);
    expect(next()).toBe(5);
    expect(next()).toBe(5);
    subject.close();
  });

  test("loads its programs where they are first needed, once", () => {
    using load = spyOn(programs, "loadProgram");
    const { subject } = cache();
    subject.renumber(8);
    expect(load.mock.calls.length).toBe(0);
    const { confirm } = subject.ports;
    expect(subject.ports.confirm()).toBe(confirm());
    expect(load.mock.calls.map(([name]) => name)).toEqual(["weave_confirm"]);
    subject.close();
  });

  test("forgets the paths to and from former neighbours", () => {
    const neighbours = new Set([1, 2]);
    const table = () => ({ ...datapath(), table: { neighbours } }) as never;
    const subject = new FlowCache(nl, maps, table(), { port: 6_784, self: 7 });
    for (const address of [1, 2, 3]) {
      maps.to.set(address, new Uint8Array(OUT.size));
      maps.from.set(address, new Uint8Array(FROM.size));
    }
    const known = () =>
      [maps.to, maps.from].map((paths) =>
        paths
          .entries()
          .map(([address]) => address)
          .sort(),
      );
    // They have no route in this namespace.
    subject.tableChanged();
    expect(known()).toEqual([
      [1, 2],
      [1, 2],
    ]);
    neighbours.delete(1);
    subject.tableChanged();
    expect(known()).toEqual([[2], [2]]);
    subject.close();
  });

  test("caches for ports of containers without a queueing discipline, and counts what they have", () => {
    const { subject } = cache();
    const link = (index: number, change: object = {}) => ({
      index,
      kind: "veth",
      peerNetns: 1,
      qdisc: "noqueue",
      ...change,
    });
    const follow = (...links: object[]) => {
      subject.ports.follow(links as never);
      return [...subject.traffic().keys()].sort();
    };
    expect(
      follow(
        link(3),
        link(4),
        link(5, { qdisc: "tbf" }),
        link(6, { peerNetns: undefined }),
        link(7, { kind: "vxlan" }),
      ),
    ).toEqual([3, 4]);
    maps.ports.set(3, { sentPackets: 1n, sentBytes: 20n, receivedPackets: 3n, receivedBytes: 400n });
    maps.ports.set(4, { sentPackets: 5n, sentBytes: 60n, receivedPackets: 7n, receivedBytes: 800n });
    expect(follow(link(3), link(8))).toEqual([3, 8]);
    // A port that stays keeps its counters.
    expect(subject.report()).toEqual({
      Filtered: false,
      Ports: 2,
      SentPackets: 1,
      SentBytes: 20,
      ReceivedPackets: 3,
      ReceivedBytes: 400,
    });
    maps.ports.set(8, { sentPackets: 5n, sentBytes: 60n, receivedPackets: 7n, receivedBytes: 800n });
    subject.trouble = "no link";
    expect(subject.report()).toEqual({
      ...{
        Filtered: false,
        Ports: 2,
        SentPackets: 6,
        SentBytes: 80,
        ReceivedPackets: 10,
        ReceivedBytes: 1_200,
        Trouble: "no link",
      },
    });
    subject.close();
  });

  test("of a start that failed is undone: all flows take the slow path, and settings are back", () => {
    const { subject, loosen, follow } = cache();
    follow();
    loosen();
    const before = control("generation");
    subject.undo();
    expect([
      control("mode"),
      control("generation") === before,
      settings[LIBERAL],
      control("loosened"),
    ]).toEqual([0, false, "0", 0]);
    subject.close();
  });

  test("finds none of a router before us where there is no bridge, or no program on it", () => {
    expect([findFlowMaps(nl), removeFlowCache(nl)]).toEqual([undefined, false]);
    linkAdd(nl, { kind: "bridge", name: "weave", up: true });
    expect([findFlowMaps(nl), removeFlowCache(nl)]).toEqual([undefined, false]);
  });

  test("puts back only what it has changed, and what nobody has changed since", () => {
    settings = { [LIBERAL]: "0", [RESETS]: "0" };
    const loose = new LooseConntrack(maps.control);
    loose.apply([{ object: "o", wrong: "w", sysctl: { name: RESETS, value: "1" } }] as never);
    expect([settings[RESETS], control("loosened")]).toEqual(["1", 2]);
    loose.apply([{ object: "o", wrong: "w", sysctl: { name: LIBERAL, value: "1" } }] as never);
    expect(control("loosened")).toBe(3);
    settings[RESETS] = "2";
    restoreConntrack(maps.control);
    expect([settings[LIBERAL], settings[RESETS], control("loosened")]).toEqual(["0", "2", 0]);
    settings[LIBERAL] = "1";
    restoreConntrack(maps.control);
    expect(settings[LIBERAL]).toBe("1");
  });
});
