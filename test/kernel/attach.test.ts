// Containers on the bridge, in namespaces of this process: attached, given more addresses, told the MTU, detached again.
import { describe, expect, spyOn, test } from "bun:test";
import { closeSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { parseCidr, parseIPv4 } from "../../lib/address/ipv4.ts";
import { SimulatedClock } from "../../lib/clock/simulated.ts";
import {
  AlreadyAttachedError,
  type Attached,
  type Attachment,
  attach,
  NoGatewayError,
} from "../../lib/host/attach.ts";
import { attachedAddresses, attachedContainers, findNetns, inspectPorts } from "../../lib/host/containers.ts";
import { beginDetach, detach, detachAddresses } from "../../lib/host/detach.ts";
import { addEndpoint, tuneEndpoint } from "../../lib/host/endpoint.ts";
import * as hostends from "../../lib/host/hostend.ts";
import { applyMtu, mtuAlias, networkMtuOf } from "../../lib/host/mtu.ts";
import { vethName } from "../../lib/host/names.ts";
import { parseSender } from "../../lib/host/ports/binding.ts";
import { findProgram } from "../../lib/host/ports/hook.ts";
import { closePortMaps, mapsOf } from "../../lib/host/ports/maps.ts";
import { Ports } from "../../lib/host/ports/ports.ts";
import { BridgeResource } from "../../lib/host/reconcile/bridge.ts";
import { keeper } from "../../lib/host/reconcile/resource.ts";
import { sysctlSet } from "../../lib/host/sysctl.ts";
import { silentLog } from "../../lib/log/log.ts";
import { addressAdd, addressList } from "../../lib/netlink/address.ts";
import { linkDelete } from "../../lib/netlink/link/delete.ts";
import { linkAdd, linkByName, linkList, linkSet } from "../../lib/netlink/link.ts";
import { routeList } from "../../lib/netlink/route.ts";
import { NETLINK_NETFILTER, NETLINK_ROUTE, NetlinkSocket } from "../../lib/netlink/socket.ts";
import { bpfFilterList } from "../../lib/netlink/trafficcontrol.ts";
import { closeMaps, createMaps, MAC_VALUE } from "../../lib/overlay/datapath/maps.ts";
import {
  AF_PACKET,
  bindSocket,
  openSocket,
  receiveDatagram,
  SOCK_NONBLOCK,
  SOCK_RAW,
  sockaddrLinkLayer,
} from "../../lib/sys/socket.ts";
import {
  type BareContainer,
  bareContainer,
  inContainer,
  indexOf,
  inHost,
  ip,
  isRoot,
} from "../support/newnetns.ts";

/** linux/if_ether.h */
const ETH_P_ARP = 0x0806;
const ID = "c0ffee0123456789";
const OUTER = vethName(ID);
const cidrs = (...texts: string[]) => texts.map(parseCidr);

/** A host with a bridge, and containers; `act` gets functions that attach to it. */
function onHost(act: (host: ReturnType<typeof tools>) => void, bridge: object = {}): void {
  inHost((nl) => {
    linkAdd(nl, { kind: "bridge", name: "weave", up: true });
    linkSet(nl, "weave", indexOf(nl, "weave"), { mtu: 1_400, ...bridge });
    using one = bareContainer();
    using two = bareContainer();
    act(tools(nl, one, two));
  });
}

function tools(nl: NetlinkSocket, one: BareContainer, two: BareContainer) {
  const give = (change: Partial<Attachment> = {}): Attached =>
    attach({
      ...{ netns: one.pid, network: "net", containerId: ID, ifName: "eth0" },
      ...{ addresses: cidrs("10.32.0.5/12"), routes: [] },
      ...change,
    });
  const outer = (name = OUTER) => linkByName(nl, name);
  const inner = (container = one, name = "eth0") =>
    inContainer(container, (inside) => linkByName(inside, name));
  const addresses = (container = one, name = "eth0") =>
    inContainer(container, (inside) =>
      addressList(inside, linkByName(inside, name)?.index ?? 0).map(({ cidr }) => cidr),
    );
  const routes = (container = one) =>
    inContainer(container, () =>
      ip("route", "show")
        .trim()
        .split("\n")
        .map((line) => line.replace(/ (proto kernel|scope link|src \S+)/g, "").trim())
        .filter(Boolean),
    );
  const veths = () => linkList(nl).filter(({ kind }) => kind === "veth");
  const bridge = () => linkByName(nl, "weave")?.index ?? -1;
  return { nl, one, two, give, outer, inner, addresses, routes, veths, bridge };
}

/** The programs of a router on this host. */
function guarded(nl: NetlinkSocket) {
  const nf = new NetlinkSocket(NETLINK_NETFILTER);
  const maps = createMaps();
  const ports = new Ports(
    nl,
    nf,
    {
      ...{ antiSpoof: true, macs: maps.macs, self: 1, leaveQdisc: false, overlayPorts: [] },
      value: { peerAt: MAC_VALUE.peer, timeAt: MAC_VALUE.seen },
    },
    new SimulatedClock(1_000_000),
    silentLog,
  );
  const look = () => {
    const links = linkList(nl);
    const bridge = links.find(({ name }) => name === "weave");
    if (bridge) ports.follow(links, bridge, () => false);
  };
  look();
  return {
    ...{ ports, look },
    [Symbol.dispose]() {
      ports.stop();
      nf.close();
      closeMaps(maps);
    },
  };
}

describe.if(isRoot)("attaching", () => {
  test("makes a link from the bridge, up at both ends, with its address and its owner's name", () => {
    onHost(({ give, outer, inner, addresses, routes, bridge }) => {
      const got = give({ addresses: cidrs("10.32.0.5/12", "10.99.0.5/24") });
      const [there, here] = [outer(), inner()];
      expect(there).toMatchObject({ up: true, mtu: 1_400, master: bridge(), alias: `net/${ID}/eth0` });
      expect(there?.bridgePort).toMatchObject({ hairpin: true });
      expect(here).toMatchObject({ up: true, mtu: 1_400, peerIndex: there?.index ?? -1 });
      expect(addresses()).toEqual(cidrs("10.32.0.5/12", "10.99.0.5/24"));
      expect(routes().sort()).toEqual(["10.32.0.0/12 dev eth0", "10.99.0.0/24 dev eth0"]);
      expect(got).toEqual({
        ...{ hostName: OUTER, hostMac: there?.address ?? "", mac: here?.address ?? "" },
        ...{ mtu: 1_400, gateway: undefined },
      });
    });
  });

  test("makes links with one queue each: the kernel waits for each that it takes away again", () => {
    onHost(({ one, give }) => {
      give();
      const shown = [
        ip("-d", "link", "show", OUTER),
        inContainer(one, () => ip("-d", "link", "show", "eth0")),
      ];
      for (const link of shown) expect(link).toContain("numtxqueues 1 numrxqueues 1 ");
    });
  });

  test("announces new addresses to the network, at once, and none that were there", () => {
    onHost(({ give, bridge, two }) => {
      const fd = openSocket("packets", AF_PACKET, SOCK_RAW | SOCK_NONBLOCK, 0);
      try {
        bindSocket("packets", fd, sockaddrLinkLayer(bridge(), ETH_P_ARP));
        const buffer = new Uint8Array(100);
        /** Addresses that are announced until a given one is. */
        const announcedUntil = (last: string) => {
          const found = new Set<string>();
          for (let i = 0; i < 30_000 && !found.has(last); i++) {
            const frame = receiveDatagram("ARP", fd, buffer, false);
            if (!frame) Bun.sleepSync(1);
            // RFC 826: the sender's address is the target's, too.
            else if (frame.subarray(28, 32).toHex() === frame.subarray(38, 42).toHex())
              found.add(frame.subarray(28, 32).join("."));
          }
          return [...found].sort();
        };
        /** Another container, whose announcement tells that those before it have arrived. */
        const mark = (change: Partial<Attachment>) =>
          give({ netns: two.pid, containerId: "mark", ...change });
        give({ addresses: cidrs("10.32.0.5/12", "10.99.0.5/24") });
        mark({ addresses: cidrs("10.32.0.8/12") });
        expect(announcedUntil("10.32.0.8")).toEqual(["10.32.0.5", "10.32.0.8", "10.99.0.5"]);
        give({ addresses: cidrs("10.32.0.5/12"), extend: true });
        mark({ addresses: cidrs("10.32.0.9/12"), extend: true });
        expect(announcedUntil("10.32.0.9")).toEqual(["10.32.0.8", "10.32.0.9"]);
        give({ addresses: cidrs("10.32.0.6/12"), extend: true });
        expect(announcedUntil("10.32.0.6")).toContain("10.32.0.6");
      } finally {
        closeSync(fd);
      }
    });
  });

  test("takes an Ethernet address, a smaller MTU, no hairpin and multicast where they are asked for", () => {
    onHost(({ give, outer, inner, routes }) => {
      give({ mac: "02:00:00:00:00:05", mtu: 1_300, hairpin: false, multicastRoute: true });
      expect(inner()).toMatchObject({ address: "02:00:00:00:00:05", mtu: 1_300 });
      expect([outer()?.mtu, outer()?.bridgePort?.hairpin]).toEqual([1_300, false]);
      expect(routes()).toContain("224.0.0.0/4 dev eth0");
      detach([{ netns: undefined, ifName: "eth0", alias: outer()?.alias }]);
      expect(give({ mtu: 9_000 }).mtu).toBe(1_400);
    });
  });

  test("sets routes by the gateway, by their own, and makes one that is not on the link reachable", () => {
    onHost(({ give, routes }) => {
      const gateway = parseIPv4("10.32.0.1");
      const [far, own, any] = cidrs("10.50.0.0/16", "10.60.0.0/16", "0.0.0.0/0");
      if (!far || !own || !any) return;
      give({
        gateway,
        routes: [
          { destination: any },
          { destination: own, gateway: parseIPv4("192.0.2.1"), mtu: 1_000 },
          { destination: far, scope: 253 },
        ],
      });
      expect(routes().sort()).toEqual([
        "10.32.0.0/12 dev eth0",
        "10.50.0.0/16 dev eth0",
        "10.60.0.0/16 via 192.0.2.1 dev eth0 mtu 1000",
        "192.0.2.1 dev eth0",
        "default via 10.32.0.1 dev eth0",
      ]);
    });
  });

  test("by the bridge's address: that of the container's subnet; without one there is no gateway", () => {
    onHost(({ nl, one, give, veths, inner, bridge }) => {
      expect(() => give({ gateway: "bridge" })).toThrow(NoGatewayError);
      expect([veths(), inner()]).toEqual([[], undefined]);
      for (const cidr of cidrs("10.99.0.1/24", "10.32.0.1/12")) addressAdd(nl, "weave", bridge(), cidr);
      expect(give({ gateway: "bridge" }).gateway).toBe(parseIPv4("10.32.0.1"));
      detach([{ netns: one.pid, ifName: "eth0" }]);
      expect(give({ gateway: "bridge", addresses: cidrs("172.16.0.1/16") }).gateway).toBe(
        parseIPv4("10.99.0.1"),
      );
    });
  });

  test("where the name of the link is taken, by another; it names its owner all the same", () => {
    onHost(({ give, two, veths }) => {
      give();
      const other = give({ netns: two.pid, containerId: `${ID}-other` });
      expect(other.hostName).not.toBe(OUTER);
      expect(veths().map(({ alias }) => alias)).toEqual([`net/${ID}/eth0`, `net/${ID}-other/eth0`]);
    });
  });

  test("leaves nothing where the container has such a link, or the kernel refuses a part", () => {
    onHost(({ give, inner, one, two, veths }) => {
      give();
      expect(() => give()).toThrow(AlreadyAttachedError);
      const destination = parseCidr("10.50.0.0/16");
      // No gateway without a route to it.
      const bad = [{ destination, table: 77, gateway: parseIPv4("10.32.0.1"), mtu: 1_000, scope: 254 }];
      expect(() => give({ netns: two.pid, containerId: "c2", routes: bad })).toThrow();
      expect([veths().length, inner(two)]).toEqual([1, undefined]);
      expect(() => give({ netns: process.pid })).toThrow();
      expect(inner(one)).toBeDefined();
    });
  });

  test("gives an attached container more addresses, in its link, where it may", () => {
    onHost(({ nl, give, one, two, addresses, veths }) => {
      give();
      const more = give({ addresses: cidrs("10.32.0.6/12", "10.32.0.5/12"), extend: true });
      expect(addresses()).toEqual(cidrs("10.32.0.5/12", "10.32.0.6/12"));
      expect([more.hostName, more.mtu, veths().length]).toEqual(["", 1_400, 1]);
      // A link of that name which is not on the network.
      linkAdd(nl, { kind: "veth", name: "other", peer: { name: "otherx" } });
      inContainer(two, (inside) => linkAdd(inside, { kind: "veth", name: "eth0", peer: { name: "x" } }));
      expect(() => give({ netns: two.pid, extend: true })).toThrow(
        `/proc/${two.pid}/ns/net has an interface eth0 that is not on the network; rename or remove it`,
      );
      expect(inContainer(one, (inside) => routeList(inside).length)).toBeGreaterThan(0);
    });
  });

  test("gives them to a link that another program makes just after it was looked for", () => {
    onHost(({ give, addresses, veths }) => {
      const { hostEnd } = hostends;
      using looked = spyOn(hostends, "hostEnd").mockImplementationOnce((...args) => {
        const found = hostEnd(...args);
        give();
        return found;
      });
      give({ addresses: cidrs("10.32.0.6/12"), extend: true });
      expect(looked.mock.calls.length).toBeGreaterThan(1);
      expect([addresses(), veths().length]).toEqual([cidrs("10.32.0.5/12", "10.32.0.6/12"), 1]);
    });
  });

  test("restores a link as it was, with its numbers, names and addresses", () => {
    onHost(({ give, one, outer, inner }) => {
      give({ hairpin: false });
      const [was, inside] = [outer(), inner()];
      if (!was || !inside) return expect.unreachable();
      const end = ({ name, index, address = "" }: typeof was) => ({ name, index, address });
      const ends = { outer: { ...end(was), alias: was.alias }, inner: end(inside) };
      detach([{ netns: one.pid, ifName: "eth0" }]);
      expect(outer()).toBeUndefined();
      give({ ends });
      expect(outer()).toMatchObject({ index: was.index, address: was.address ?? "", alias: was.alias ?? "" });
      expect(inner()).toMatchObject({ index: inside.index, address: inside.address ?? "" });
    });
  });
});

describe.if(isRoot)("detaching", () => {
  test("removes the link, by the container or by the alias of its host's end", () => {
    onHost(({ give, one, two, veths }) => {
      give();
      give({ netns: two.pid, containerId: "c2" });
      const alias = "net/c2/eth0";
      expect(detach([{ netns: one.pid, ifName: "eth0" }])).toEqual([true]);
      expect(veths().map((each) => each.alias)).toEqual([alias]);
      expect(detach([{ netns: undefined, ifName: "eth0", alias: "net/other/eth0" }])).toEqual([true]);
      expect(veths().length).toBe(1);
      expect(detach([{ netns: 2 ** 22 + 1, ifName: "eth0", alias }])).toEqual([true]);
      expect(veths()).toEqual([]);
      // What is gone is gone; of what is not named, that cannot be told.
      expect(
        detach([
          { netns: one.pid, ifName: "eth0", alias },
          { netns: one.pid, ifName: "eth0" },
        ]),
      ).toEqual([true, false]);
    });
  });

  test("leaves the link of a container whose namespace has the path of one before; the network may be renamed", () => {
    onHost(({ give, one, two, veths }) => {
      give();
      give({ netns: two.pid, containerId: "before" });
      const before = "net/before/eth0";
      // The one before is gone: its link goes by its alias.
      expect(detach([{ netns: one.pid, ifName: "eth0", alias: before }])).toEqual([true]);
      expect(veths().map(({ alias }) => alias)).toEqual([`net/${ID}/eth0`]);
      expect(detach([{ netns: one.pid, ifName: "eth0", alias: before }])).toEqual([true]);
      expect(veths().length).toBe(1);
      expect(detach([{ netns: one.pid, ifName: "eth0", alias: `after/${ID}/eth0` }])).toEqual([true]);
      expect(veths()).toEqual([]);
    });
  });

  test("is not certain while a link of an older version has no name; links of others stay", () => {
    onHost(({ nl, one, veths }) => {
      const absent = { netns: undefined, ifName: "eth0", alias: "net/gone/eth0" };
      linkAdd(nl, { kind: "veth", name: "vethwepl77", peer: { name: "x" } });
      expect(detach([absent])).toEqual([false]);
      linkSet(nl, "vethwepl77", indexOf(nl, "vethwepl77"), { alias: "net/c7/eth0" });
      expect(detach([absent])).toEqual([true]);
      expect(veths().length).toBe(2);
      const [failed] = detach([{ netns: process.pid, ifName: "eth0" }]);
      expect(failed).toBeInstanceOf(Error);
      expect(detach([{ netns: one.pid, ifName: "lo" }])).toEqual([false]);
    });
  });

  test("marks links first; the rest may be left to another process", () => {
    onHost(({ give, one, outer, nl, veths }) => {
      give();
      const { outcomes, finish } = beginDetach([{ netns: one.pid, ifName: "eth0" }]);
      expect([outcomes, outer()?.leaving, attachedContainers(nl)]).toEqual([[true], true, []]);
      finish();
      finish();
      expect(veths()).toEqual([]);
      beginDetach([]).finish();
    });
  });

  test("of addresses tells which the link had, and removes the link with the last one", () => {
    onHost(({ give, one, two, addresses, veths }) => {
      give({ addresses: cidrs("10.32.0.5/12", "10.32.0.6/12") });
      expect(detachAddresses(one.pid, "eth0", cidrs("10.32.0.6/12", "10.32.0.7/12"))).toEqual(
        cidrs("10.32.0.6/12"),
      );
      expect([addresses(), veths().length]).toEqual([cidrs("10.32.0.5/12"), 1]);
      expect(detachAddresses(one.pid, "eth0", cidrs("10.32.0.5/12"))).toEqual(cidrs("10.32.0.5/12"));
      expect(veths()).toEqual([]);
      expect(detachAddresses(one.pid, "eth0", cidrs("10.32.0.5/12"))).toEqual([]);
      inContainer(two, (inside) => linkAdd(inside, { kind: "veth", name: "eth0", peer: { name: "x" } }));
      expect(() => detachAddresses(two.pid, "eth0", cidrs("10.32.0.5/12"))).toThrow(
        `interface eth0 in /proc/${two.pid}/ns/net is not on the network`,
      );
    });
  });
});

describe.if(isRoot)("the first address of a subnet", () => {
  test("leaves the link without the others, and routes are told the MTU still", () => {
    onHost(
      ({ give, one, addresses, routes }) => {
        give({ addresses: cidrs("10.32.0.5/12", "10.32.0.6/12", "10.32.0.7/12") });
        // As links have it that an older version attached.
        inContainer(one, () => sysctlSet("net/ipv4/conf/eth0/promote_secondaries", "0"));
        expect(detachAddresses(one.pid, "eth0", cidrs("10.32.0.5/12"))).toEqual(cidrs("10.32.0.5/12"));
        expect(addresses()).toEqual(cidrs("10.32.0.6/12", "10.32.0.7/12"));
        expect(routes()).toEqual(["10.32.0.0/12 dev eth0 mtu 1300"]);
        const both = cidrs("10.32.0.6/12", "10.32.0.7/12");
        expect(detachAddresses(one.pid, "eth0", both)).toEqual(both);
      },
      { alias: "network mtu 1300" },
    );
  });

  test("may be removed by the container itself, too", () => {
    onHost(({ give, one, addresses }) => {
      give({ addresses: cidrs("10.32.0.5/12", "10.32.0.6/12") });
      inContainer(one, () => ip("address", "delete", "10.32.0.5/12", "dev", "eth0"));
      expect(addresses()).toEqual(cidrs("10.32.0.6/12"));
    });
  });
});

describe.if(isRoot)("where ports are bound to their addresses", () => {
  test("a link is bound before it is on the network, is given more, and keeps none that it loses", () => {
    onHost((host) => {
      const { nl, one, give, outer } = host;
      using _programs = guarded(nl);
      const allowed = [parseSender("10.40.0.0/24")];
      give({ addresses: cidrs("10.32.0.5/12", "10.32.0.6/12"), allowed });
      const port = outer()?.index ?? 0;
      const bridge = linkByName(nl, "weave");
      const found = bridge && findProgram(nl, bridge, "egress");
      const maps = found && mapsOf(found.program);
      if (!maps) return expect.unreachable();
      const bound = (...texts: string[]) =>
        texts.filter((text) => maps.bindings.get({ port, ...parseSender(text) }) !== undefined);
      const own = ["10.32.0.5", "10.32.0.6", "10.32.0.7", "10.40.0.0/24"];
      expect(bound(...own)).toEqual(["10.32.0.5", "10.32.0.6", "10.40.0.0/24"]);
      expect(maps.ports.get(port)).toMatchObject({ mac: host.inner()?.address ?? "" });
      expect(bpfFilterList(nl, port, "ingress").length).toBe(1);
      give({ addresses: cidrs("10.32.0.7/12"), extend: true });
      expect(bound(...own)).toEqual(own);
      detachAddresses(one.pid, "eth0", cidrs("10.32.0.6/12", "10.32.0.9/12"));
      expect(bound(...own)).toEqual(["10.32.0.5", "10.32.0.7", "10.40.0.0/24"]);
      closePortMaps(maps);
      found.program.close();
    });
  });
});

describe.if(isRoot)("the MTU of the network", () => {
  test("is in the bridge's alias, within what IPv4 and links allow", () => {
    onHost(({ nl }) => {
      const bridge = linkByName(nl, "weave");
      if (!bridge) return;
      const read = (alias: string | undefined) => networkMtuOf({ ...bridge, alias });
      expect([undefined, "", "network mtu ", "network mtu x", "mtu 1300"].map(read)).toEqual(
        Array(5).fill(undefined),
      );
      expect([575, 576, 1_300, 65_535, 65_536, 1_300.5].map((mtu) => read(`network mtu ${mtu}`))).toEqual([
        ...[undefined, 576, 1_300, 65_535, undefined, undefined],
      ]);
      expect([mtuAlias(undefined), read(mtuAlias(1_400))]).toEqual(["", 1_400]);
    });
  });

  test("of the bridge is not that of the container with the least, nor another when the last one goes", () => {
    inHost((nl) => {
      const settings = { address: "02:00:00:00:00:01", mtu: 1_500, up: true };
      const bridge = keeper(new BridgeResource(nl, settings));
      expect(bridge.reconcile(() => true).map(({ wrong }) => wrong)).toEqual(["missing"]);
      using one = bareContainer();
      const attachment = { netns: one.pid, containerId: ID, ifName: "eth0", routes: [], mtu: 1_200 };
      attach({ ...attachment, addresses: cidrs("10.32.0.5/12") });
      expect(linkByName(nl, "weave")?.mtu).toBe(1_500);
      detach([{ netns: one.pid, ifName: "eth0" }]);
      expect(bridge.reconcile(() => true)).toEqual([]);
    });
  });

  test("is told to containers as they are attached, where it is less than their link's", () => {
    onHost(
      ({ give, one, two, routes }) => {
        give();
        give({ netns: two.pid, containerId: "c2", mtu: 1_200 });
        expect([routes(one), routes(two)]).toEqual([
          ["10.32.0.0/12 dev eth0 mtu 1300"],
          ["10.32.0.0/12 dev eth0"],
        ]);
      },
      { alias: "network mtu 1300" },
    );
  });

  test("changes links that had the one before, and no others; routes are told what the network carries", () => {
    onHost(({ nl, give, one, two, outer, inner, routes }) => {
      give();
      give({ netns: two.pid, containerId: "c2", mtu: 1_200 });
      const second = vethName("c2");
      linkSet(nl, "weave", indexOf(nl, "weave"), { mtu: 1_450 });
      applyMtu(nl, { from: 1_400, link: 1_450, network: 1_350 });
      expect([outer()?.mtu, inner()?.mtu, outer(second)?.mtu, inner(two)?.mtu]).toEqual([
        1_450, 1_450, 1_200, 1_200,
      ]);
      expect([routes(one), routes(two)]).toEqual([
        ["10.32.0.0/12 dev eth0 mtu 1350"],
        ["10.32.0.0/12 dev eth0"],
      ]);
      applyMtu(nl, { from: 1_450, link: 1_450, network: undefined });
      expect([outer()?.mtu, routes(one)]).toEqual([1_450, ["10.32.0.0/12 dev eth0"]]);
    });
  });
});

describe.if(isRoot)("routes of a routing daemon in a container", () => {
  test("are not read, however many there are", () => {
    onHost(({ nl, give, one, outer }) => {
      give({ routes: [{ destination: parseCidr("0.0.0.0/0"), gateway: parseIPv4("10.32.0.1") }] });
      const daemon = Array.from(
        { length: 5_000 },
        (_, i) => `route add 198.51.${i >> 8}.${i & 255}/32 via 10.32.0.9 proto bird\n`,
      );
      const file = join(mkdtempSync(join(tmpdir(), "weave-routes-")), "batch");
      writeFileSync(file, daemon.join(""));
      inContainer(one, () => ip("-batch", file));
      rmSync(dirname(file), { recursive: true });
      const messages = spyOn(NetlinkSocket.prototype, "dump");
      try {
        const port = outer();
        const found = inspectPorts(nl, port ? [port] : []).get(port?.index ?? 0);
        expect(found?.routes.map(({ destination }) => destination.prefix)).toEqual([0]);
        const read = messages.mock.results.map(({ value }) => (value as readonly unknown[]).length);
        expect(Math.max(...read)).toBeLessThan(100);
      } finally {
        messages.mockRestore();
      }
    });
  });
});

describe.if(isRoot)("a link that goes while the MTU is raised", () => {
  /** Removes the first link that it is to change. */
  class Racing extends NetlinkSocket {
    override request(request: Parameters<NetlinkSocket["request"]>[0]) {
      if (request.operation === `link set ${OUTER}`) linkDelete(this, OUTER);
      return super.request(request);
    }
  }

  test("is none of the others' concern", () => {
    onHost(({ nl, give, two, outer, inner }) => {
      give();
      give({ netns: two.pid, containerId: "c2" });
      linkSet(nl, "weave", indexOf(nl, "weave"), { mtu: 1_450 });
      using racing = new Racing(NETLINK_ROUTE);
      applyMtu(racing, { from: 1_400, link: 1_450, network: undefined });
      expect([outer(), outer(vethName("c2"))?.mtu, inner(two)?.mtu]).toEqual([undefined, 1_450, 1_450]);
    });
  });
});

describe.if(isRoot)("the endpoint of a network of Docker", () => {
  const ID_OF_ENDPOINT = "e0123456789abcdef";
  const inner = "vethwge01234567";

  test("is a link with both ends here, the host's on the bridge; in place of one that was left", () => {
    onHost(({ nl, bridge, veths }) => {
      const made = addEndpoint({ id: ID_OF_ENDPOINT, addresses: [] });
      expect(made).toMatchObject({ outer: "vethweple012345", alias: `/${ID_OF_ENDPOINT}/${made.inner}` });
      expect(inner.startsWith(made.inner.slice(0, 10))).toBe(true);
      expect(linkByName(nl, made.inner)).toMatchObject({ address: made.mac, mtu: 1_400, master: undefined });
      expect(linkByName(nl, made.outer)).toMatchObject({ alias: made.alias, master: bridge(), up: true });
      const again = addEndpoint({ id: ID_OF_ENDPOINT, mac: "02:00:00:00:00:05", addresses: [] });
      expect([again.mac, linkByName(nl, again.inner)?.address, veths().length]).toEqual([
        "02:00:00:00:00:05",
        "02:00:00:00:00:05",
        2,
      ]);
    });
  });

  test("has another name where one is taken, and needs the bridge", () => {
    onHost(({ nl, veths }) => {
      linkAdd(nl, { kind: "veth", name: "vethweple012345", peer: { name: "x" } });
      expect(addEndpoint({ id: ID_OF_ENDPOINT, addresses: [] }).outer).not.toBe("vethweple012345");
      linkDelete(nl, "weave");
      expect(() => addEndpoint({ id: "other", addresses: [] })).toThrow();
      expect(veths().length).toBe(4);
    });
  });

  test("is bound to its addresses where ports are", () => {
    onHost(({ nl }) => {
      using _programs = guarded(nl);
      const { outer } = addEndpoint({ id: ID_OF_ENDPOINT, addresses: cidrs("10.32.0.8/12") });
      const [port, bridge] = [indexOf(nl, outer), linkByName(nl, "weave")];
      const found = bridge && findProgram(nl, bridge, "egress");
      const maps = found && mapsOf(found.program);
      if (!maps) return expect.unreachable();
      const bound = (text: string) => maps.bindings.get({ port, ...parseSender(text) }) !== undefined;
      expect([bound("10.32.0.8"), bound("10.32.0.9")]).toEqual([true, false]);
      closePortMaps(maps);
      found.program.close();
    });
  });

  test("is told the MTU of the network once it was moved; until then there is nothing to tune", () => {
    onHost(
      ({ one, nl, routes }) => {
        const made = addEndpoint({ id: ID_OF_ENDPOINT, addresses: cidrs("10.32.0.8/12") });
        expect([tuneEndpoint(made.outer), tuneEndpoint("none")]).toEqual([undefined, undefined]);
        ip("link", "set", made.inner, "netns", `${one.pid}`, "name", "ethwe0");
        inContainer(one, () => {
          ip("link", "set", "ethwe0", "up");
          ip("addr", "add", "10.32.0.8/12", "dev", "ethwe0");
        });
        expect(tuneEndpoint(made.outer)).toBe("ethwe0");
        expect(routes()).toEqual(["10.32.0.0/12 dev ethwe0 mtu 1300"]);
        expect(linkByName(nl, made.outer)?.up).toBe(true);
      },
      { alias: "network mtu 1300" },
    );
  });
});

describe.if(isRoot)("attached containers", () => {
  test("are seen with what they have", () => {
    onHost(({ nl, give, inner, one }) => {
      give({ routes: [{ destination: parseCidr("10.50.0.0/16"), gateway: parseIPv4("10.32.0.9") }] });
      inContainer(one, () => ip("route", "add", "10.70.0.0/16", "via", "10.32.0.9", "proto", "bird"));
      const [container, ...others] = attachedContainers(nl);
      expect(others).toEqual([]);
      expect(container).toMatchObject({
        mac: inner()?.address ?? "",
        addresses: cidrs("10.32.0.5/12"),
        owner: { network: "net", containerId: ID, ifName: "eth0" },
      });
      expect(container?.routes.map(({ destination }) => destination)).toEqual(cidrs("10.50.0.0/16"));
      expect(container?.addresses6[0]).toBeDefined();
      expect(container && findNetns(container)).toBe(container?.netns ?? "");
      expect(container && findNetns({ ...container, netns: "/run/netns/none" })).toContain("/ns/net");
      expect(container && findNetns({ ...container, inode: "1" })).toBeUndefined();
      expect(container && findNetns({ ...container, cookie: 1n })).toBeUndefined();
    });
  });

  test("hold their addresses; nothing is missed unless an end cannot be seen", () => {
    onHost(({ nl, give, bridge }) => {
      expect(attachedAddresses(nl)).toEqual({ addresses: [], complete: true });
      give();
      // One whose other end Docker has not moved yet, and one that is on no bridge.
      linkAdd(nl, { kind: "veth", name: "vethwepl9", peer: { name: "vethwepg9" } });
      linkSet(nl, "vethwepl9", indexOf(nl, "vethwepl9"), { master: bridge() });
      linkAdd(nl, { kind: "veth", name: "other", peer: { name: "otherx" } });
      const owner = { network: "net", containerId: ID, ifName: "eth0" };
      expect(attachedAddresses(nl)).toEqual({
        addresses: cidrs("10.32.0.5/12").map((cidr) => ({ ...cidr, owner })),
        complete: true,
      });
    });
  });

  test("are found by the last known path first; a port whose link has gone is that", () => {
    onHost(({ nl, give, one, outer, veths }) => {
      give();
      const port = outer();
      if (!port) return expect.unreachable();
      const path = `/proc/${one.pid}/ns/net`;
      expect(inspectPorts(nl, [{ ...port, netns: path }]).get(port.index)).toMatchObject({ netns: path });
      expect(inspectPorts(nl, [{ ...port, netns: "/run/netns/none" }]).get(port.index)).toBeDefined();
      expect(inspectPorts(nl, [{ ...port, peerIndex: 4_711 }])).toEqual(new Map([[port.index, undefined]]));
      expect(inspectPorts(nl, [{ ...port, peerNetns: 4_711 }])).toEqual(new Map());
      expect(veths().length).toBe(1);
    });
  });
});
