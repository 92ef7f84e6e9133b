// Links and ports of one host against the kernel, in network namespaces of this process: what is made, put right, and left alone.
// Each test has a namespace of its own, which ends with it.
import { beforeAll, describe, expect, test } from "bun:test";
import { fstatSync, readFileSync } from "node:fs";
import { liftMemoryLimit } from "../../lib/bpf/bpf.ts";
import { openProgram } from "../../lib/bpf/program.ts";
import { SimulatedClock } from "../../lib/clock/simulated.ts";
import type { HostPort } from "../../lib/host/hostports/mapping.ts";
import { removeHostPorts } from "../../lib/host/hostports/remove.ts";
import { HostPortResource } from "../../lib/host/hostports/resource.ts";
import { HOST_PORTS, keyOf, setOf } from "../../lib/host/hostports/table.ts";
import { Ports, type PortsConfig } from "../../lib/host/ports/ports.ts";
import { keeper } from "../../lib/host/reconcile/resource.ts";
import { logTo } from "../../lib/log/log.ts";
import { linkDelete } from "../../lib/netlink/link/delete.ts";
import { linkAdd, linkByName, linkList, linkSet } from "../../lib/netlink/link.ts";
import { hasElement } from "../../lib/netlink/nftables/element.ts";
import { tableReplace } from "../../lib/netlink/nftables/replace.ts";
import { tableDelete, tableList } from "../../lib/netlink/nftables/table.ts";
import { routesSetMtu } from "../../lib/netlink/routemtu.ts";
import { NETLINK_NETFILTER, NetlinkSocket } from "../../lib/netlink/socket.ts";
import { bpfFilterDelete, bpfFilterList } from "../../lib/netlink/trafficcontrol.ts";
import { linkAddress, TapLink, VxlanLink } from "../../lib/overlay/datapath/links.ts";
import { closeMaps, createMaps, MAC_VALUE } from "../../lib/overlay/datapath/maps.ts";
import { inNewNetns } from "../../lib/sys/netns.ts";
import { indexOf, inHost, ip, isRoot } from "../support/newnetns.ts";

beforeAll(() => liftMemoryLimit());

describe.if(isRoot)("the MTU of routes", () => {
  /** A container's link, by which its routes go; the routes as `ip` shows them, without what the kernel adds. */
  function container(nl: NetlinkSocket) {
    linkAdd(nl, { kind: "veth", name: "eth0", up: true, peer: { name: "peer" } });
    linkSet(nl, "peer", indexOf(nl, "peer"), { up: true });
    ip("addr", "add", "10.32.0.1/12", "dev", "eth0");
    const routes = () =>
      ip("route", "show", "dev", "eth0")
        .trim()
        .split("\n")
        .map((line) => line.replace(/ (proto kernel|scope link|src \S+)/g, "").trim());
    return { link: indexOf(nl, "eth0"), routes };
  }

  test("is set on all by the link, which is counted, and removed again", () => {
    inHost((nl) => {
      const { link, routes } = container(nl);
      expect(routesSetMtu(nl, link, 1_300)).toBe(1);
      expect(routes()).toEqual(["10.32.0.0/12 mtu 1300"]);
      expect(routesSetMtu(nl, link, 1_300)).toBe(0);
      expect(routesSetMtu(nl, link, 1_310)).toBe(1);
      expect(routesSetMtu(nl, link, undefined)).toBe(1);
      expect([routesSetMtu(nl, link, undefined), routes()]).toEqual([0, ["10.32.0.0/12"]]);
    });
  });

  test("of the default route counts for multicast by a route of its own, once", () => {
    inHost((nl) => {
      const { link, routes } = container(nl);
      ip("route", "add", "default", "via", "10.32.0.9");
      expect(routesSetMtu(nl, link, 1_300)).toBe(3);
      expect(routes().sort()).toEqual([
        "10.32.0.0/12 mtu 1300",
        "224.0.0.0/4 mtu 1300",
        "default via 10.32.0.9 mtu 1300",
      ]);
      expect(routesSetMtu(nl, link, 1_300)).toBe(0);
      expect(routesSetMtu(nl, link, 1_200)).toBe(3);
    });
  });

  test("that is locked stays; gateways, other metrics and flags stay with the rest", () => {
    inHost((nl) => {
      const { link, routes } = container(nl);
      ip("route", "add", "10.9.0.0/16", "via", "10.32.0.9", "mtu", "lock", "1200");
      ip("route", "add", "10.8.0.0/16", "via", "192.0.2.1", "dev", "eth0", "onlink", "advmss", "1000");
      expect(routesSetMtu(nl, link, 1_300)).toBe(2);
      expect(routes().sort()).toEqual([
        "10.32.0.0/12 mtu 1300",
        "10.8.0.0/16 via 192.0.2.1 onlink mtu 1300 advmss 1000",
        "10.9.0.0/16 via 10.32.0.9 mtu lock 1200",
      ]);
      routesSetMtu(nl, link, undefined);
      expect(routes()).toContain("10.8.0.0/16 via 192.0.2.1 onlink advmss 1000");
    });
  });

  test("of another link, of another table and of several links stays", () => {
    inHost((nl) => {
      const { link } = container(nl);
      linkAdd(nl, { kind: "veth", name: "eth1", up: true, peer: { name: "peer1" } });
      linkSet(nl, "peer1", indexOf(nl, "peer1"), { up: true });
      ip("addr", "add", "10.99.0.1/24", "dev", "eth1");
      ip("route", "add", "10.7.0.0/16", "via", "10.32.0.9", "table", "77");
      ip("route", "add", "10.6.0.0/16", "nexthop", "via", "10.32.0.9", "nexthop", "via", "10.99.0.9");
      expect(routesSetMtu(nl, link, 1_300)).toBe(1);
      expect(ip("route", "show", "table", "all").match(/mtu 1300/g)?.length).toBe(1);
    });
  });
});

/** Whether IPv6 is enabled on a link, which then generates addresses and announces them. */
const hasIPv6 = (link: string) =>
  readFileSync(`/proc/sys/net/ipv6/conf/${link}/disable_ipv6`, "utf8") !== "1\n";

describe.if(isRoot)("the VXLAN link", () => {
  const ADDRESS = linkAddress("02:00:00:00:00:01", "vxlan-6784");
  function vxlan(nl: NetlinkSocket, enabled = true) {
    linkAdd(nl, { kind: "bridge", name: "weave", up: true });
    const subject = new VxlanLink(
      nl,
      6_784,
      () => 1_400,
      ADDRESS,
      enabled,
      () => {},
    );
    const kept = keeper(subject);
    const reconcile = () => kept.reconcile(() => true).map(({ object, wrong }) => `${object}: ${wrong}`);
    return { subject, reconcile };
  }

  test("is made as a port of the bridge, and put right where others change it", () => {
    inHost((nl) => {
      const { subject, reconcile } = vxlan(nl);
      expect(reconcile()).toEqual(["link vxlan-6784: missing"]);
      const link = linkByName(nl, "vxlan-6784");
      expect(link).toMatchObject({
        ...{ kind: "vxlan", up: true, mtu: 1_400, address: ADDRESS, master: indexOf(nl, "weave") },
        vxlan: { external: true, port: 6_784, learning: false },
      });
      expect(hasIPv6("vxlan-6784")).toBe(false);
      expect([reconcile(), subject.without]).toEqual([[], undefined]);
      linkSet(nl, "vxlan-6784", link?.index ?? 0, { mtu: 1_300, name: "other" });
      expect(reconcile()).toEqual(["link vxlan-6784: renamed to other, of MTU 1300 instead of 1400"]);
      // It was set down to be renamed.
      expect(linkByName(nl, "vxlan-6784")).toMatchObject({ index: link?.index, up: true, mtu: 1_400 });
      expect(reconcile()).toEqual([]);
      linkDelete(nl, "vxlan-6784");
      expect([reconcile(), reconcile()]).toEqual([["link vxlan-6784: missing"], []]);
    });
  });

  test("is removed where it was made here, and where there is to be none", () => {
    inHost((nl) => {
      const first = vxlan(nl);
      first.reconcile();
      // One that is adopted stays.
      const adopted = new VxlanLink(
        nl,
        6_784,
        () => 1_400,
        ADDRESS,
        true,
        () => {},
      );
      keeper(adopted).reconcile(() => true);
      adopted.remove();
      expect(linkByName(nl, "vxlan-6784")).toBeDefined();
      const none = new VxlanLink(
        nl,
        6_784,
        () => 1_400,
        ADDRESS,
        false,
        () => {},
      );
      expect(none.without?.reason).toContain("--no-fastdp");
      const kept = keeper(none);
      const wrong = () => kept.reconcile(() => true).map((change) => change.wrong);
      expect([wrong(), wrong()]).toEqual([["not needed"], []]);
      first.reconcile();
      first.subject.remove();
      expect(linkByName(nl, "vxlan-6784")).toBeUndefined();
    });
  });

  test("has somebody else's link in its way", () => {
    inHost((nl) => {
      const { reconcile } = vxlan(nl);
      linkAdd(nl, { kind: "veth", name: "vxlan-6784", peer: { name: "x" } });
      expect(reconcile).toThrow("link vxlan-6784 is in the way: not an external VXLAN link on UDP port 6784");
      expect(linkByName(nl, "vxlan-6784")?.kind).toBe("veth");
    });
  });

  test("whose port another link has is trouble, at a start and after it, until the port is free", () => {
    inHost((nl) => {
      linkAdd(nl, { kind: "vxlan", name: "theirs", port: 6_784, up: true });
      const { subject, reconcile } = vxlan(nl);
      const taken =
        "no VXLAN link on UDP port 6784: link theirs has it; remove that, or choose another with --port";
      for (let i = 0; i < 2; i++) {
        expect(reconcile).toThrow(taken);
        expect([linkByName(nl, "vxlan-6784"), subject.without]).toEqual([undefined, undefined]);
      }
      linkDelete(nl, "theirs");
      expect(reconcile()).toEqual(["link vxlan-6784: missing"]);
    });
    inHost((nl) => {
      const { subject, reconcile } = vxlan(nl);
      reconcile();
      subject.started();
      linkDelete(nl, "vxlan-6784");
      linkAdd(nl, { kind: "vxlan", name: "theirs", port: 6_784, up: true });
      expect(reconcile).toThrow("link theirs has it; remove that, or choose another with --port");
      expect(subject.without).toBeUndefined();
      linkDelete(nl, "theirs");
      expect(reconcile()).toEqual(["link vxlan-6784: missing"]);
    });
  });
});

test.if(isRoot)("the TAP link lasts as long as it is open, and is made again under the same file", () => {
  inHost((nl) => {
    linkAdd(nl, { kind: "bridge", name: "weave", up: true });
    const address = linkAddress("02:00:00:00:00:01", "sleeve-6784");
    let isPort = false;
    let recreated = 0;
    const tap = new TapLink(
      nl,
      6_784,
      () => 1_400,
      address,
      () => isPort,
      () => {},
    );
    tap.recreated = () => recreated++;
    const kept = keeper(tap);
    const reconcile = () => kept.reconcile(() => true).map(({ wrong }) => wrong);
    reconcile();
    const link = () => linkByName(nl, "sleeve-6784");
    expect(link()).toMatchObject({ up: true, mtu: 1_400, address, queue: 256, master: undefined });
    expect(hasIPv6("sleeve-6784")).toBe(false);
    isPort = true;
    expect([reconcile(), link()?.master]).toEqual([["no port of weave"], indexOf(nl, "weave")]);
    expect(
      () =>
        new TapLink(
          nl,
          6_784,
          () => 1_400,
          address,
          () => true,
          () => {},
        ),
    ).toThrow("link sleeve-6784 is in use: weave may be running already");
    const { fd } = tap;
    linkDelete(nl, "sleeve-6784");
    expect(reconcile()[0]).toBe("missing");
    expect([recreated, tap.fd, fstatSync(fd).isCharacterDevice(), reconcile()]).toEqual([1, fd, true, []]);
    tap.close();
    tap.close();
    expect([link(), reconcile()]).toEqual([undefined, []]);
  });
});

describe.if(isRoot)("programs on ports of the bridge", () => {
  /** A bridge with so many ports of containers, an overlay's link and another program's link. */
  function ports(nl: NetlinkSocket, count: number, change: Partial<PortsConfig> = {}) {
    linkAdd(nl, { kind: "bridge", name: "weave", up: true });
    const bridge = indexOf(nl, "weave");
    const names = [...Array.from({ length: count }, (_, i) => `vethwepl${i}`), "eth1", "vxlan-6784"];
    for (const name of names) {
      linkAdd(nl, { kind: "veth", name, peer: { name: `${name}x` } });
      linkSet(nl, name, indexOf(nl, name), { master: bridge });
    }
    const nf = new NetlinkSocket(NETLINK_NETFILTER);
    const maps = createMaps();
    const clock = new SimulatedClock(1_000_000);
    const lines: string[] = [];
    const log = logTo((level, text) => lines.push(`${level}: ${text}`));
    const config: PortsConfig = {
      ...{ antiSpoof: false, macs: maps.macs, self: 1, leaveQdisc: false, overlayPorts: ["vxlan-6784"] },
      value: { peerAt: MAC_VALUE.peer, timeAt: MAC_VALUE.seen },
      ...change,
    };
    const subject = new Ports(nl, nf, config, clock, log);
    const hooked = (name: string, direction: "ingress" | "egress" = "ingress") =>
      bpfFilterList(nl, indexOf(nl, name), direction).map(({ id }) => {
        const program = openProgram(id);
        program.close();
        return program.name;
      });
    const follow = (returns: (port: number) => boolean = () => false) => {
      const links = linkList(nl);
      const now = links.find(({ name }) => name === "weave");
      return now
        ? subject.follow(links, now, returns).map(({ link, direction }) => `${link.name} ${direction}`)
        : [];
    };
    return {
      ...{ subject, clock, lines, names, hooked, follow, nf, config, log },
      [Symbol.dispose]() {
        subject.stop();
        nf.close();
        closeMaps(maps);
      },
    };
  }
  const PLAIN = ["weave_port"];
  const STRICT = ["weave_port_own"];

  test("are on each but the overlay's, and at egress of the bridge; new ones get them", () => {
    inHost((nl) => {
      using all = ports(nl, 2);
      const { hooked, follow, subject } = all;
      expect([hooked("vethwepl0"), hooked("vethwepl1"), hooked("eth1"), hooked("vxlan-6784")]).toEqual([
        ...[PLAIN, PLAIN, PLAIN, []],
      ]);
      expect([hooked("weave", "egress"), hooked("weave")]).toEqual([PLAIN, []]);
      linkAdd(nl, { kind: "veth", name: "vethwepl9", peer: { name: "vethwepl9x" } });
      linkSet(nl, "vethwepl9", indexOf(nl, "vethwepl9"), { master: indexOf(nl, "weave") });
      expect(subject.has(indexOf(nl, "vethwepl9"))).toBe(false);
      expect([follow(), hooked("vethwepl9")]).toEqual([[], PLAIN]);
      expect(subject.has(indexOf(nl, "vethwepl9"))).toBe(true);
    });
  });

  test("that others remove are told, and attached again where that is asked for", () => {
    inHost((nl) => {
      using all = ports(nl, 2);
      const { hooked, follow, subject } = all;
      const remove = (name: string, direction: "ingress" | "egress") =>
        bpfFilterDelete(nl, name, indexOf(nl, name), direction);
      remove("vethwepl1", "ingress");
      remove("weave", "egress");
      expect(follow()).toEqual(["weave egress", "vethwepl1 ingress"]);
      expect(hooked("vethwepl1")).toEqual([]);
      const links = linkList(nl);
      for (const [name, direction] of [
        ["vethwepl1", "ingress"],
        ["weave", "egress"],
      ] as const) {
        const link = links.find((each) => each.name === name);
        if (link) subject.rehook({ link, direction });
      }
      expect([hooked("vethwepl1"), hooked("weave", "egress"), follow()]).toEqual([PLAIN, PLAIN, []]);
    });
  });

  test("are attached to 40 ports at a time; of many, 64 are looked at in turn, and those that may have changed", () => {
    inHost((nl) => {
      using all = ports(nl, 99);
      const { hooked, follow, subject, clock, names } = all;
      const count = () => names.filter((name) => hooked(name).length > 0).length;
      expect(count()).toBe(40);
      clock.advance(1);
      expect(count()).toBe(80);
      clock.advance(1);
      expect(count()).toBe(100);
      follow();
      for (const name of ["vethwepl0", "vethwepl98"]) bpfFilterDelete(nl, name, indexOf(nl, name), "ingress");
      // The first 64 are looked at.
      expect(follow()).toEqual(["vethwepl0 ingress"]);
      expect(follow()).toEqual(["vethwepl98 ingress"]);
      expect(follow()).toEqual(["vethwepl0 ingress"]);
      subject.suspect(indexOf(nl, "vethwepl0"));
      expect(follow()).toEqual(["vethwepl0 ingress", "vethwepl98 ingress"]);
    });
  });

  test("of ports that are gone are forgotten, unless the port will be restored", () => {
    inHost((nl) => {
      using all = ports(nl, 2);
      const { follow, subject } = all;
      const [gone, restored] = [indexOf(nl, "vethwepl0"), indexOf(nl, "vethwepl1")];
      linkDelete(nl, "vethwepl0");
      linkDelete(nl, "vethwepl1");
      follow((port) => port === restored);
      expect([subject.has(gone), subject.has(restored)]).toEqual([false, true]);
    });
  });

  test("bind ports to their addresses while policies are in force", () => {
    inHost((nl) => {
      using all = ports(nl, 1);
      const { hooked, lines, subject, nf } = all;
      const policies = { family: "inet", name: "weave-npc", chains: [] } as const;
      expect(subject.notes()).toEqual([]);
      tableReplace(nf, policies);
      subject.followPolicies();
      expect([hooked("vethwepl0"), hooked("weave", "egress")]).toEqual([STRICT, STRICT]);
      expect(subject.notes()[0]).toStartWith("anti-spoofing is on");
      tableDelete(nf, policies);
      subject.followPolicies();
      expect(hooked("vethwepl0")).toEqual(PLAIN);
      expect(lines).toEqual(["info: anti-spoofing is on", "info: anti-spoofing is off"]);
    });
  });

  test("are strict without policies where that is asked for, and stay after the end", () => {
    inHost((nl) => {
      using all = ports(nl, 1, { antiSpoof: true });
      const { hooked, subject, clock } = all;
      expect(hooked("vethwepl0")).toEqual(STRICT);
      // Nobody can look into the other end: it is admitted, and said.
      expect(subject.notes()[0]).toContain("except 1 whose network namespace this router cannot see");
      subject.renumber(7);
      expect(hooked("vethwepl0")).toEqual(STRICT);
      clock.advance(10_000);
      expect(hooked("vethwepl0")).toEqual(STRICT);
    });
  });

  test("count what they drop by port and by reason", () => {
    inHost((nl) => {
      using all = ports(nl, 1);
      const { subject } = all;
      const port = indexOf(nl, "vethwepl0");
      expect([subject.dropped(port), subject.dropped(99_999), subject.droppedByReason()]).toEqual([
        ...[0, 0],
        { flood: 0, multicast: 0, spoofed: 0, protocol: 0 },
      ]);
    });
  });
});

test.if(isRoot)(
  "the address of a link is that of its peer and name, unicast and locally administered",
  () => {
    const all = ["a", "b"].flatMap((peer) =>
      ["vxlan-6784", "sleeve-6784"].map((link) => linkAddress(peer, link)),
    );
    expect(new Set(all).size).toBe(4);
    for (const address of all) expect(Number.parseInt(address.slice(0, 2), 16) & 3).toBe(2);
    expect(linkAddress("a", "vxlan-6784")).toBe(all[0] ?? "");
  },
);

test.if(isRoot)(
  "host ports of one attachment leave the kernel without a router, and those of others stay",
  () => {
    inNewNetns(() => {
      using nf = new NetlinkSocket(NETLINK_NETFILTER);
      const port = (hostPort: number, hostIp?: number): HostPort => ({
        ...{ protocol: "tcp", hostPort, address: 0x0a20_0005, port: 80 },
        ...(hostIp !== undefined && { hostIp }),
      });
      const owned = [
        { owner: "net/c1/eth0", ports: [port(80), port(81, 0xc000_0201)] },
        { owner: "net/c2/eth0", ports: [port(82), port(83, 0xc000_0201)] },
      ];
      const kept = keeper(new HostPortResource(nf, () => owned));
      const wrong = () => kept.reconcile(() => true).map((change) => change.wrong);
      expect([wrong(), wrong()]).toEqual([["missing"], []]);
      const inForce = () =>
        owned
          .flatMap(({ ports }) => ports)
          .filter((each) => hasElement(nf, HOST_PORTS, setOf(each).name, keyOf(each)))
          .map(({ hostPort }) => hostPort);
      expect(inForce()).toEqual([80, 81, 82, 83]);
      removeHostPorts("net/none/eth0");
      expect(inForce()).toEqual([80, 81, 82, 83]);
      removeHostPorts("net/c1/eth0");
      expect(inForce()).toEqual([82, 83]);
      expect([wrong(), inForce()]).toEqual([
        ["with other elements in set any, with other elements in set one"],
        [80, 81, 82, 83],
      ]);
      owned.splice(0);
      expect([wrong(), wrong(), tableList(nf, "ip").includes(HOST_PORTS.name)]).toEqual([
        ["there without host ports"],
        [],
        false,
      ]);
    });
  },
);
