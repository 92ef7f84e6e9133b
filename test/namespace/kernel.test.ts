// The lower floors against the real kernel.
import { afterAll, beforeAll, describe, expect, spyOn, test } from "bun:test";
import { closeSync, openSync, readdirSync, readlinkSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { formatCidr, formatIPv4, parseCidr, parseIPv4 } from "../../lib/address/ipv4.ts";
import { Assembler, R0, R1, R5 } from "../../lib/bpf/assembler.ts";
import { BpfMap, U32, U64 } from "../../lib/bpf/map.ts";
import { loadProgram, programMapIds, testRun, VerifierError } from "../../lib/bpf/program.ts";
import { tcxPrograms } from "../../lib/bpf/tcx.ts";
import { AlreadyAttachedError, attach } from "../../lib/host/attach.ts";
import { attachedAddresses } from "../../lib/host/containers.ts";
import { detach } from "../../lib/host/detach.ts";
import { inspect } from "../../lib/host/inspect.ts";
import { findProgram, hasTcx, hook, unhookOther } from "../../lib/host/ports/hook.ts";
import { makeBridge } from "../../lib/host/reconcile/bridge.ts";
import { BusyError, WorkThread } from "../../lib/host/workthread.ts";
import { addressAdd, addressList } from "../../lib/netlink/address.ts";
import { legacyTables, readLegacyTable, replaceLegacyTable } from "../../lib/netlink/iptables/socket.ts";
import { linkDelete } from "../../lib/netlink/link/delete.ts";
import { linkAdd, linkByName, linkList, linkSet } from "../../lib/netlink/link.ts";
import { NetlinkError } from "../../lib/netlink/message.ts";
import { RouteMonitor } from "../../lib/netlink/monitor.ts";
import { NUD_PERMANENT, neighbourList, neighbourSet } from "../../lib/netlink/neighbour.ts";
import { tableReplace } from "../../lib/netlink/nftables/replace.ts";
import { tableDelete, tableList } from "../../lib/netlink/nftables/table.ts";
import { routeAdd, routeDelete, routeList, ruleAdd, ruleDelete, ruleList } from "../../lib/netlink/route.ts";
import { NETLINK_NETFILTER, NETLINK_ROUTE, NetlinkSocket } from "../../lib/netlink/socket.ts";
import { openTap } from "../../lib/netlink/tap.ts";
import {
  bpfFilterDelete,
  bpfFilterList,
  bpfFilterReplace,
  clsactDelete,
  clsactEnsure,
} from "../../lib/netlink/trafficcontrol.ts";
import { NETLINK_XFRM } from "../../lib/netlink/xfrm/message.ts";
import { policyDelete, policyList, policySet } from "../../lib/netlink/xfrm/policy.ts";
import { stateAdd, stateDelete, stateList } from "../../lib/netlink/xfrm/state.ts";
import { ENOBUFS } from "../../lib/sys/errno.ts";
import { inNetns, isOwnNetns, NetnsError, OWN_NETNS } from "../../lib/sys/netns.ts";
import { AF_INET, openSocket, SOCK_DGRAM, sendDatagram, sockaddrIn } from "../../lib/sys/socket.ts";
import { eventually, Hosts, must } from "../support/hosts.ts";

let hosts: Hosts;
let host: string;
let pod: string;
let nl: NetlinkSocket;

beforeAll(async () => {
  hosts = await Hosts.create("kern", 1);
  host = `/run/netns/${hosts.host(1).netns}`;
  pod = await hosts.pod("pod");
  nl = inNetns(host, () => new NetlinkSocket(NETLINK_ROUTE));
});

afterAll(() => {
  nl.close();
  hosts.disposeSync();
});

describe("inNetns", () => {
  test("runs inside and comes back", () => {
    const names = () => linkList(new NetlinkSocket(NETLINK_ROUTE)).map(({ name }) => name);
    const before = names();
    expect(inNetns(pod, names)).toEqual(["lo"]);
    expect(names()).toEqual(before);
  });

  test("comes back when the function throws, and refuses asynchronous ones", () => {
    expect(() =>
      inNetns(pod, () => {
        throw new Error("inside");
      }),
    ).toThrow("inside");
    expect(isOwnNetns("/proc/self/ns/net")).toBe(true);
    expect(() => inNetns(pod, async () => {})).toThrow(TypeError);
    expect(isOwnNetns("/proc/self/ns/net")).toBe(true);
  });

  test.each(["/run/netns/there-is-none", "/etc/hostname"])("%s is none", (path) => {
    expect(() => inNetns(path, () => {})).toThrow();
    expect(isOwnNetns("/proc/self/ns/net")).toBe(true);
    if (path.startsWith("/run")) expect(() => inNetns(path, () => {})).toThrow(NetnsError);
  });
});

describe("xfrm", () => {
  const flow = {
    direction: "out" as const,
    source: parseIPv4("10.99.0.1"),
    destination: parseIPv4("10.99.0.2"),
    port: 6784,
  };
  let xfrm: NetlinkSocket;
  beforeAll(() => {
    xfrm = inNetns(host, () => new NetlinkSocket(NETLINK_XFRM));
  });
  afterAll(() => xfrm.close());

  /** Sends a datagram to that port of another host; what the kernel says. */
  const send = (port: number) =>
    inNetns(host, () => {
      const fd = openSocket("test", AF_INET, SOCK_DGRAM, 0);
      try {
        sendDatagram("sending", fd, Uint8Array.of(1), sockaddrIn(Uint8Array.of(10, 99, 0, 2), port));
        return "sent";
      } catch (error) {
        return String(error);
      } finally {
        closeSync(fd);
      }
    });

  test("a policy that blocks lets nothing through to that port, and is replaced, listed and removed", () => {
    expect(send(6784)).toBe("sent");
    policySet(xfrm, { ...flow, priority: 6784, action: "block" });
    expect(send(6784)).toContain("not permitted");
    expect(send(6785)).toBe("sent");
    expect(policyList(xfrm)).toEqual([{ ...flow, priority: 6784, blocks: true, spi: undefined }]);
    policySet(xfrm, { ...flow, priority: 6784, action: { spi: 0x1234, reqid: 6784 } });
    expect(policyList(xfrm)).toEqual([{ ...flow, priority: 6784, blocks: false, spi: 0x1234 }]);
    policyDelete(xfrm, flow);
    policyDelete(xfrm, flow);
    expect(send(6784)).toBe("sent");
    expect(policyList(xfrm)).toEqual([]);
  });

  test("associations are made once, listed, removed; or refused with the kernel's reason", () => {
    const state = { source: flow.source, destination: flow.destination, spi: 0x1234, reqid: 6784 };
    const add = () => stateAdd(xfrm, { ...state, key: new Uint8Array(36) });
    try {
      expect(add()).toBe(true);
      expect(add()).toBe(false);
      expect(stateList(xfrm)).toEqual([state]);
    } catch (error) {
      // A kernel without ESP.
      expect(String(error)).toMatch(
        /ESP association 10\.99\.0\.1 to 10\.99\.0\.2: .*(AEAD|algorithm|support)/i,
      );
    }
    stateDelete(xfrm, state);
    expect(stateList(xfrm)).toEqual([]);
  });
});

describe("rtnetlink", () => {
  test("errors name what was attempted, on what, and the kernel's own explanation", () => {
    linkAdd(nl, { kind: "vxlan", name: "vx1", port: 6790, up: true });
    expect(() => linkAdd(nl, { kind: "vxlan", name: "vx1", port: 6791 })).toThrow(
      "link add vx1: File exists",
    );
    expect(() => linkAdd(nl, { kind: "vxlan", name: "vx2", port: 6790, up: true })).toThrow(
      "A VXLAN device with the specified VNI already exists",
    );
    expect(linkDelete(nl, "vx1")).toBe(true);
    expect(linkDelete(nl, "vx1")).toBe(false);
    expect(linkByName(nl, "vx1")).toBeUndefined();
  });

  test("a TAP link lasts as long as its file", () => {
    const fd = inNetns(host, () => openTap("tap7"));
    expect(linkByName(nl, "tap7")?.kind).toBe("tun");
    expect(() => inNetns(host, () => openTap("tap7"))).toThrow("tap add tap7");
    closeSync(fd);
    expect(linkByName(nl, "tap7")).toBeUndefined();
  });

  test("a link moves into another namespace", () => {
    linkAdd(nl, { kind: "veth", name: "stay0", peer: { name: "move0" } });
    const fd = openSync(pod, "r");
    linkSet(nl, "move0", linkByName(nl, "move0")?.index ?? 0, { netnsFd: fd });
    closeSync(fd);
    expect(linkByName(nl, "move0")).toBeUndefined();
    expect(inspect(pod, "move0")?.link.kind).toBe("veth");
    linkDelete(nl, "stay0");
  });

  test("addresses, routes, rules, neighbours", () => {
    linkAdd(nl, { kind: "bridge", name: "br1", up: true });
    const index = linkByName(nl, "br1")?.index ?? 0;
    expect(addressAdd(nl, "br1", index, parseCidr("10.77.0.1/24"))).toBe(true);
    expect(addressAdd(nl, "br1", index, parseCidr("10.77.0.1/24"))).toBe(false);
    expect(addressList(nl, index)).toEqual([{ index, cidr: parseCidr("10.77.0.1/24") }]);
    const route = {
      destination: parseCidr("10.78.0.0/16"),
      gateway: parseCidr("10.77.0.2/32").address,
      link: index,
    };
    expect([routeAdd(nl, route), routeAdd(nl, route)]).toEqual([true, false]);
    expect(routeList(nl)).toContainEqual({ ...route, table: 254, protocol: 3 });
    expect([routeDelete(nl, route), routeDelete(nl, route)]).toEqual([true, false]);
    const rule = { priority: 100, mark: 7, table: 4000 };
    expect([ruleAdd(nl, rule), ruleAdd(nl, rule)]).toEqual([true, false]);
    expect(ruleList(nl)).toContainEqual(rule);
    expect([ruleDelete(nl, rule), ruleDelete(nl, rule)]).toEqual([true, false]);
    neighbourSet(nl, index, parseCidr("10.77.0.9/32").address, "5e:00:00:00:00:09");
    expect(neighbourList(nl)).toContainEqual({
      link: index,
      address: parseCidr("10.77.0.9/32").address,
      mac: "5e:00:00:00:00:09",
      state: NUD_PERMANENT,
    });
    linkDelete(nl, "br1");
  });

  test("a link monitor tells of changes without anybody waiting", async () => {
    const seen: string[] = [];
    const watch = inNetns(host, () => new RouteMonitor((error) => seen.push(String(error))));
    watch.add({
      changed: ({ link }) => link && seen.push(`${link.removed ? "-" : "+"}${link.name}`),
      lost: () => seen.push("resync"),
    });
    linkAdd(nl, { kind: "bridge", name: "seen0" });
    linkDelete(nl, "seen0");
    await eventually(
      "both events",
      () => seen,
      () => seen.includes("+seen0") && seen.includes("-seen0"),
    );
    watch.stop();
  });
});

test("a link monitor that was too slow is told to look anew, goes on, and leaves no socket open", async () => {
  // Each by its inode: others of earlier tests may be closed meanwhile.
  const openSockets = () =>
    readdirSync("/proc/self/fd").flatMap((fd) => {
      try {
        const target = readlinkSync(`/proc/self/fd/${fd}`);
        return target.startsWith("socket:") ? [target] : [];
      } catch {
        return [];
      }
    });
  const before = new Set(openSockets());
  const seen: string[] = [];
  const watch = inNetns(host, () => new RouteMonitor((error) => seen.push(String(error))));
  watch.add({
    changed: ({ link }) => link && seen.push(`+${link.name}`),
    lost: () => seen.push("resync"),
  });
  linkAdd(nl, { kind: "bridge", name: "busy0" });
  const index = linkByName(nl, "busy0")?.index ?? 0;
  // Nobody reads while this goes on, and the kernel keeps only so much.
  for (let i = 0; i < 4000; i++) linkSet(nl, "busy0", index, { mtu: 1000 + (i % 2) });
  await eventually(
    "the resync",
    () => seen,
    () => seen.includes("resync"),
  );
  linkAdd(nl, { kind: "bridge", name: "busy1" });
  await eventually(
    "what comes after it",
    () => seen,
    () => seen.includes("+busy1"),
  );
  linkDelete(nl, "busy1");
  watch.stop();
  await eventually(
    "all its sockets are closed",
    () => openSockets().filter((socket) => !before.has(socket)),
    (left) => left.length === 0,
  );
  linkDelete(nl, "busy0");
});

describe("nftables", () => {
  const table = {
    family: "ip",
    name: "weave-test",
    chains: [
      { name: "c", base: { type: "filter", hook: "input", priority: 0, policy: "accept" }, rules: [] },
    ],
  } as const;

  test("a table is replaced as a whole, or not at all", () => {
    using nf = inNetns(host, () => new NetlinkSocket(NETLINK_NETFILTER));
    tableReplace(nf, table);
    const impossible = {
      ...table,
      chains: [
        ...table.chains,
        { name: "d", base: { ...table.chains[0].base, type: "nat", hook: "forward" }, rules: [] },
      ],
    } as const;
    expect(() => tableReplace(nf, impossible)).toThrow("nft add chain weave-test d: Operation not supported");
    expect(tableList(nf, "ip")).toContain("weave-test");
    expect([tableDelete(nf, table), tableDelete(nf, table)]).toEqual([true, false]);
  });
});

describe("iptables, the older kind", () => {
  test("a table is read, and put back as it was, whatever is in it", async () => {
    const run = (command: string[], stdin?: string) =>
      must(["ip", "netns", "exec", hosts.host(1).netns, ...command], stdin === undefined ? {} : { stdin });
    const vector = await Bun.file(join(import.meta.dir, "../vectors/original/leftovers.json")).json();
    await run(["ipset", "restore"], vector.ipset);
    await run(["iptables-legacy-restore"], vector.iptables);
    const saved = async () => (await run(["iptables-legacy-save"])).replace(/^#.*$/gm, "");
    const before = await saved();
    expect(before).toContain("-A WEAVE-NPC-INGRESS ");
    inNetns(host, () => {
      expect(legacyTables().sort()).toEqual(["filter", "mangle", "nat"]);
      for (const name of legacyTables()) replaceLegacyTable(readLegacyTable(name));
    });
    expect(await saved()).toBe(before);
    await run(["iptables-legacy-restore"], "*filter\nCOMMIT\n*nat\nCOMMIT\n*mangle\nCOMMIT\n");
  });
});

describe("eBPF", () => {
  test("maps", () => {
    const map = BpfMap.create({ name: "test", type: "hash", key: U32, value: U64, maxEntries: 2 });
    map.set(1, 10n);
    map.set(2, 20n);
    expect(() => map.set(3, 30n)).toThrow("eBPF map update test");
    expect(map.get(1)).toBe(10n);
    expect(map.get(9)).toBeUndefined();
    expect(map.entries().sort()).toEqual([
      [1, 10n],
      [2, 20n],
    ]);
    expect([map.delete(1), map.delete(1)]).toEqual([true, false]);
    map.close();
  });

  test.each(["hash", "array", "lruHash"] as const)("a map (%s) of many entries is read whole", (type) => {
    const count = 50_000;
    const map = BpfMap.create({ name: "many", type, key: U32, value: U64, maxEntries: count });
    expect(new Set(map.entries().map(([, value]) => value))).toEqual(new Set(type === "array" ? [0n] : []));
    const step = 97;
    for (let key = 0; key < count; key += step) map.set(key, BigInt(key + 1));
    const written = map.entries().filter(([, value]) => value !== 0n);
    expect(written.sort(([a], [b]) => a - b)).toEqual(
      Array.from({ length: Math.ceil(count / step) }, (_, i) => [i * step, BigInt(i * step + 1)]),
    );
    map.close();
  });

  test("programs run, and refused ones come with the verifier's reason", () => {
    const drop = loadProgram("drop", new Assembler().mov(R0, { imm: 2 }).exit().assemble());
    expect(testRun(drop, new Uint8Array(64)).verdict).toBe(2);
    drop.close();
    const load = () => loadProgram("bad", new Assembler().mov(R0, R5).exit().assemble());
    expect(load).toThrow(VerifierError);
    expect(load).toThrow("R5 !read_ok");
  });

  test("programs on a link", () => {
    linkAdd(nl, { kind: "bridge", name: "tc0" });
    const index = linkByName(nl, "tc0")?.index ?? 0;
    const map = BpfMap.create({ name: "used", type: "array", key: U32, value: U32, maxEntries: 1 });
    const program = loadProgram(
      "pass",
      new Assembler().loadMap(R1, map.fd).mov(R0, { imm: 0 }).exit().assemble(),
    );
    clsactEnsure(nl, "tc0", index);
    clsactEnsure(nl, "tc0", index);
    for (let i = 0; i < 2; i++) bpfFilterReplace(nl, "tc0", index, "egress", program);
    const found = bpfFilterList(nl, index, "egress");
    expect(found.map(({ name }) => name)).toEqual(["pass"]);
    expect(programMapIds(found[0]?.id ?? 0).length).toBe(1);
    bpfFilterDelete(nl, "tc0", index, "egress");
    expect(bpfFilterList(nl, index, "egress")).toEqual([]);
    clsactDelete(nl, "tc0", index);
    clsactDelete(nl, "tc0", index);
    program.close();
    map.close();
    linkDelete(nl, "tc0");
  });
});

test("a program by TCX leaves the queueing discipline of a link to others", async () => {
  linkAdd(nl, { kind: "bridge", name: "tcx0" });
  const link = { name: "tcx0", index: linkByName(nl, "tcx0")?.index ?? 0 };
  const code = new Assembler().mov(R0, { imm: -1 }).exit().assemble();
  const [first, second] = [loadProgram("weave_port", code), loadProgram("weave_port_own", code)];
  const inHost = <T>(fn: () => T) => inNetns(host, fn);
  const found = () => {
    const { program, how } = inHost(() => findProgram(nl, link, "ingress")) ?? {};
    program?.close();
    return [program?.name, how];
  };
  try {
    // Kernels before 6.6 do without.
    if (!inHost(() => hasTcx(link))) return;
    inHost(() => hook("tcx", nl, link, "ingress", first));
    expect(found()).toEqual(["weave_port", "tcx"]);
    inHost(() => hook("tcx", nl, link, "ingress", second));
    expect(found()).toEqual(["weave_port_own", "tcx"]);
    await hosts.host(1).must(["tc", "qdisc", "add", "dev", "tcx0", "ingress"]);
    await hosts.host(1).must(["tc", "qdisc", "del", "dev", "tcx0", "ingress"]);
    inHost(() => hook("tc", nl, link, "ingress", first));
    inHost(() => unhookOther("tc", nl, link, "ingress"));
    expect(found()).toEqual(["weave_port", "tc"]);
    expect(inHost(() => tcxPrograms(link.index, "ingress"))).toEqual([]);
    inHost(() => hook("tcx", nl, link, "ingress", first));
    inHost(() => unhookOther("tcx", nl, link, "ingress"));
    expect(found()).toEqual(["weave_port", "tcx"]);
  } finally {
    for (const program of [first, second]) program.close();
    linkDelete(nl, "tcx0");
  }
});

describe("attach", () => {
  const attachment = () => ({
    netns: pod,
    containerId: "abcdef0123456789",
    ifName: "eth0",
    addresses: [parseCidr("10.32.0.9/12")],
    gateway: parseCidr("10.32.0.1/12").address,
    routes: [{ destination: parseCidr("0.0.0.0/0") }],
  });
  const attachHere = (change = {}) => inNetns(host, () => attach({ ...attachment(), ...change }));
  const ports = () => linkList(nl).filter(({ name }) => name.startsWith("vethwepl"));

  test("needs the bridge, and says so", () => {
    expect(() => attachHere()).toThrow('bridge "weave" not present; did you launch weave?');
    expect(inspect(pod, "eth0")).toBeUndefined();
  });

  test("makes a link, once", () => {
    inNetns(host, () => makeBridge(nl, { address: "5e:00:00:00:00:01", mtu: 1376 }));
    expect(attachHere()).toMatchObject({ hostName: "vethweplabcdef0", mtu: 1376 });
    expect(inspect(pod, "eth0")?.addresses).toEqual([parseCidr("10.32.0.9/12")]);
    expect(() => attachHere()).toThrow(AlreadyAttachedError);
    // A second link of the same container gets another name outside.
    expect(
      attachHere({ ifName: "net1", addresses: [parseCidr("10.32.0.10/12")], routes: [] }).hostName,
    ).not.toBe("vethweplabcdef0");
    const detachHere = (...names: string[]) =>
      inNetns(host, () => detach(names.map((ifName) => ({ netns: pod, ifName }))));
    expect(detachHere("eth0", "none", "net1")).toEqual([true, false, true]);
    expect(detachHere("eth0")).toEqual([false]);
    expect(ports()).toEqual([]);
  });

  test.each([
    [true, {}],
    [true, { hairpin: true }],
    [false, { hairpin: false }],
  ])("leaves hairpin mode %p with %p", (hairpin, change) => {
    attachHere(change);
    expect(ports().map(({ bridgePort }) => bridgePort?.hairpin)).toEqual([hairpin]);
    expect(inNetns(host, () => detach([{ netns: pod, ifName: "eth0" }]))).toEqual([true]);
  });

  test.each([
    ["an address that cannot be", { addresses: [{ address: 0x0a200009, prefix: 40 }] }],
    ["an MTU that cannot be", { mtu: 20 }],
    ["a name that cannot be", { ifName: "a/b" }],
  ])("rolls back: %s", (_what, change) => {
    expect(() => attachHere(change)).toThrow();
    expect(ports()).toEqual([]);
    expect(inspect(pod, "eth0")).toBeUndefined();
  });

  test("extends a link that another program makes at the same moment, once that is whole", () => {
    const { request } = NetlinkSocket.prototype;
    const [first, second] = ["10.32.0.10/12", "10.32.0.9/12"] as const;
    let others = 1;
    const racing = spyOn(NetlinkSocket.prototype, "request").mockImplementation(function (
      this: NetlinkSocket,
      asked,
    ) {
      if (asked.operation.startsWith("link add") && others-- > 0)
        attachHere({ extend: true, addresses: [parseCidr(first)] });
      return request.call(this, asked);
    });
    try {
      attachHere({ extend: true, addresses: [parseCidr(second)] });
      expect(() => attachHere()).toThrow(AlreadyAttachedError);
    } finally {
      racing.mockRestore();
    }
    expect(ports().length).toBe(1);
    expect(inspect(pod, "eth0")?.addresses.map(formatCidr)).toEqual([first, second]);
    expect(inNetns(host, () => detach([{ netns: pod, ifName: "eth0" }]))).toEqual([true]);
  });

  test("rolls back, whichever request the kernel refuses", () => {
    const { request } = NetlinkSocket.prototype;
    let left = 0;
    const refused: string[] = [];
    const refusing = spyOn(NetlinkSocket.prototype, "request").mockImplementation(function (
      this: NetlinkSocket,
      asked,
    ) {
      if (--left === 0) {
        refused.push(asked.operation);
        throw new NetlinkError(asked.operation, ENOBUFS);
      }
      return request.call(this, asked);
    });
    const together = spyOn(NetlinkSocket.prototype, "requests").mockImplementation(function (
      this: NetlinkSocket,
      asked,
    ) {
      for (const each of asked) this.request(each);
    });
    try {
      for (let n = 1; ; n++) {
        left = n;
        const before = refused.length;
        try {
          attachHere({ multicastRoute: true });
        } catch {}
        if (refused.length === before) break;
        left = 0;
        expect([refused.at(-1), ports(), inspect(pod, "eth0")]).toEqual([refused.at(-1), [], undefined]);
      }
    } finally {
      refusing.mockRestore();
      together.mockRestore();
    }
    expect(refused).toEqual(
      expect.arrayContaining(["link add vethweplabcdef0", "bridge port set vethweplabcdef0"]),
    );
    expect(inNetns(host, () => detach([{ netns: pod, ifName: "eth0" }]))).toEqual([true]);
  });

  test("an address is not known to be free while an older container's link may have it", () => {
    const link = (alias?: string) => ({ netns: undefined, ifName: "eth0", alias });
    const gone = (alias?: string) => inNetns(host, () => detach([link(alias)]));
    expect([gone("net/abc/eth0"), gone()]).toEqual([[true], [false]]);
    // Versions without aliases.
    linkAdd(nl, { kind: "veth", name: "vethweplold", peer: { name: "peerold" } });
    expect(gone("net/abc/eth0")).toEqual([false]);
    linkDelete(nl, "vethweplold");
  });

  test("a container that nobody can look into is not gone", async () => {
    const hidden = await hosts.pod("hidden");
    const bridge = linkByName(nl, "weave")?.index ?? 0;
    const held = openSync(hidden, "r");
    attachHere({ netns: hidden });
    attachHere({ containerId: "seen", addresses: [parseCidr("10.32.0.10/12")] });
    const sighting = () => {
      const { addresses, complete } = inNetns(host, () => attachedAddresses(nl));
      return [addresses.map(({ address }) => formatIPv4(address)).sort(), complete];
    };
    expect(sighting()).toEqual([["10.32.0.10", "10.32.0.9"], true]);
    await must(["umount", "-l", hidden]);
    // Others can still be looked into, which says nothing of this one.
    expect(sighting()).toEqual([["10.32.0.10"], false]);
    expect(inNetns(host, () => detach([{ netns: pod, ifName: "eth0" }]))).toEqual([true]);
    expect(sighting()).toEqual([[], false]);
    expect(ports().map(({ master }) => master)).toEqual([bridge]);
    closeSync(held);
    await eventually(
      "its link goes with it",
      async () => ports(),
      (left) => left.length === 0,
    );
    expect(sighting()).toEqual([[], true]);
  });

  test("refuses the host's own namespace", () => {
    expect(() => attachHere({ netns: host })).toThrow("is the network namespace of the host");
    linkSet(nl, "weave", linkByName(nl, "weave")?.index ?? 0, { up: false });
    linkDelete(nl, "weave");
  });
});

describe("the thread for containers", () => {
  const program = (name: string, text: string) => {
    const file = join(tmpdir(), `weave-${process.pid}-${name}.ts`);
    writeFileSync(file, text);
    return { url: pathToFileURL(file), [Symbol.dispose]: () => rmSync(file) };
  };

  test("errors keep their kind", async () => {
    const work = new WorkThread();
    await expect(work.inspect("/run/netns/there-is-none", "eth0")).rejects.toMatchObject({
      name: "NetnsError",
      kind: "missing",
    });
    await expect(work.inspect(OWN_NETNS, "eth0")).rejects.toMatchObject({ kind: "own" });
    expect(await work.detach({ netns: "/run/netns/there-is-none", ifName: "eth0" })).toBe(false);
  });

  test("one that hangs is given up, with all that waits for it, and begun again", async () => {
    using hangs = program("hangs", "await new Promise(() => setInterval(() => {}, 1000));");
    const work = new WorkThread(hangs.url, 200);
    for (let i = 0; i < 2; i++) {
      const calls = [work.inspect(OWN_NETNS, "a"), work.inspect(OWN_NETNS, "b")];
      const reason = expect.any(BusyError);
      const outcomes: unknown = [1, 2].map(() => ({ status: "rejected", reason }));
      expect(await Promise.allSettled(calls)).toEqual(outcomes as never);
    }
  });

  test("one that was stopped refuses the calls that wait, and every later one, and is not begun again", async () => {
    using hangs = program("stopped", "await new Promise(() => setInterval(() => {}, 1000));");
    const work = new WorkThread(hangs.url, 60_000);
    const waiting = work.inspect(OWN_NETNS, "a");
    work.stop();
    await expect(waiting).rejects.toThrow("the router is stopping");
    await expect(work.inspect(OWN_NETNS, "a")).rejects.toThrow("the router is stopping");
    expect(work.notes()).toEqual([]);
  });

  test("one that ends is begun again", async () => {
    using ends = program(
      "ends",
      'import { parentPort } from "node:worker_threads";\nparentPort?.on("message", () => process.exit(3));',
    );
    const work = new WorkThread(ends.url, 60_000);
    for (let i = 0; i < 2; i++) await expect(work.inspect(OWN_NETNS, "a")).rejects.toThrow("has ended");
    expect(work.notes()).toEqual([
      expect.stringContaining("has failed 2 times, the last: container work: the thread has ended"),
    ]);
    // Not for ever, as fast as anybody asks.
    for (let i = 0; i < 3; i++) await expect(work.inspect(OWN_NETNS, "a")).rejects.toThrow("has ended");
    await expect(work.inspect(OWN_NETNS, "a")).rejects.toThrow("container work fails again and again");
  });
});
