// Parts of the host between kernel and router: a container's link as it is inspected and announced, routes that overlap, the MTU
// that containers are told, tables of forwarding, and links in words. The kernel's side is real, in a namespace of the test.
import { afterAll, afterEach, beforeAll, describe, expect, spyOn, test } from "bun:test";
import * as os from "node:os";
import { formatCidr, parseCidr } from "../../lib/address/ipv4.ts";
import { hostAddresses } from "../../lib/host/addresses.ts";
import { announce } from "../../lib/host/arp.ts";
import { attach } from "../../lib/host/attach.ts";
import {
  ForwardingResource,
  forwardDrops,
  forwardingDifference,
  hasForwarding,
  installedForwarding,
  removeForwarding,
} from "../../lib/host/forwarding/forwarding.ts";
import * as legacies from "../../lib/host/forwarding/legacy.ts";
import * as firewallds from "../../lib/host/forwarding/nft.ts";
import type { Forwarding } from "../../lib/host/forwarding/table.ts";
import { inspect } from "../../lib/host/inspect.ts";
import { applyLinkSettings, linkSysctls } from "../../lib/host/linksettings.ts";
import { applyMtu, mtuAlias, networkMtuOf, tellMtu } from "../../lib/host/mtu.ts";
import { isVethAlias, ownerOf, vethAlias } from "../../lib/host/names.ts";
import { overlappingRoute, refuseOverlap } from "../../lib/host/overlap.ts";
import { linkProblems, linkReport } from "../../lib/host/ports/states.ts";
import { sysctlGet, sysctlSet } from "../../lib/host/sysctl.ts";
import { addressAdd } from "../../lib/netlink/address.ts";
import { linkAdd, linkByName } from "../../lib/netlink/link.ts";
import { routeList } from "../../lib/netlink/route.ts";
import { NETLINK_ROUTE, NetlinkSocket } from "../../lib/netlink/socket.ts";
import {
  type BareContainer,
  bareContainer,
  enterNewNetns,
  inContainer,
  indexOf,
  ip,
  isRoot,
  veth,
} from "../support/newnetns.ts";

const spies: { mockRestore(): void }[] = [];
afterEach(() => {
  for (const spy of spies.splice(0)) spy.mockRestore();
});

describe.if(isRoot)("a container's link", () => {
  let nl: NetlinkSocket;
  let container: BareContainer;
  beforeAll(() => {
    enterNewNetns();
    nl = new NetlinkSocket(NETLINK_ROUTE);
    linkAdd(nl, { kind: "bridge", name: "weave", up: true });
    container = bareContainer();
    attach({
      ...{ netns: container.pid, containerId: "c1", ifName: "eth0", routes: [] },
      addresses: [parseCidr("10.32.0.1/24")],
    });
  });
  afterAll(() => {
    container[Symbol.dispose]();
    nl.close();
  });

  test("is inspected from both ends; there is none by another name", () => {
    const found = inspect(container.pid, "eth0");
    expect([found?.link.name, found?.addresses.map(formatCidr), found?.port?.name, found?.bridge]).toEqual([
      ...["eth0", ["10.32.0.1/24"], "vethweplc1", "weave"],
    ]);
    expect(found?.routes.some(({ destination }) => formatCidr(destination) === "10.32.0.0/24")).toBe(true);
    expect(inspect(container.pid, "eth1")).toBeUndefined();
    expect(inspect(container.pid, "lo")).toMatchObject({
      link: { name: "lo" },
      port: undefined,
      bridge: undefined,
    });
    ip("link", "set", "vethweplc1", "nomaster");
    expect(inspect(container.pid, "eth0")).toMatchObject({ port: { name: "vethweplc1" }, bridge: undefined });
    ip("link", "set", "vethweplc1", "master", "weave");
  });

  test("is announced by setting its Ethernet address to what it is, with what makes the kernel tell of that", () => {
    const requests = spyOn(NetlinkSocket.prototype, "requests");
    spies.push(requests);
    inContainer(container, (inside) => {
      const link = linkByName(inside, "eth0") ?? expect.unreachable();
      sysctlSet("net/ipv4/conf/eth0/arp_notify", "0");
      announce(inside, { ...link, address: undefined });
      expect(requests).not.toHaveBeenCalled();
      announce(inside, link);
      expect(requests.mock.calls.map(([all]) => all.map(({ operation }) => operation))).toEqual([
        ["IPv4 set eth0", "link set eth0"],
      ]);
      expect(sysctlGet("net/ipv4/conf/eth0/arp_notify")).toBe("1");
      expect(linkByName(inside, "eth0")?.address).toBe(link.address);
    });
  });

  test("has the settings of a link on the network, by messages as by files", () => {
    const settings = linkSysctls("eth0");
    const values = () => settings.map(({ name }) => ({ name, value: sysctlGet(name) ?? "" }));
    inContainer(container, (inside) => {
      expect(values()).toEqual(settings);
      for (const { name } of settings) sysctlSet(name, "3");
      expect(values().map(({ value }) => value)).toEqual(settings.map(() => "3"));
      applyLinkSettings(inside, { name: "eth0", index: indexOf(inside, "eth0") });
      expect(values()).toEqual(settings);
    });
  });

  test("gets another MTU at both ends where it had the former, and is told what the network carries", () => {
    const mtus = () => [
      linkByName(nl, "vethweplc1")?.mtu,
      ...inContainer(container, (inside) => [
        linkByName(inside, "eth0")?.mtu,
        ...routeList(inside, { link: indexOf(inside, "eth0") }).map(({ mtu }) => mtu),
      ]),
    ];
    const [was = 0] = mtus();
    expect(mtus()).toEqual([was, was, undefined]);
    applyMtu(nl, { from: was + 1, link: 1_300, network: undefined });
    expect(mtus()).toEqual([was, was, undefined]);
    applyMtu(nl, { from: was, link: 1_450, network: 1_376 });
    expect(mtus()).toEqual([1_450, 1_450, 1_376]);
    // The network has what links have: nothing is told.
    applyMtu(nl, { from: 1_450, link: 1_450, network: 1_450 });
    expect(mtus()).toEqual([1_450, 1_450, undefined]);
    inContainer(container, (inside) => {
      const link = linkByName(inside, "eth0") ?? expect.unreachable();
      for (const [told, mtu] of [
        [1_449, 1_449],
        [1_450, undefined],
        [1_451, undefined],
        [undefined, undefined],
      ] as const) {
        tellMtu(inside, link, told);
        expect(routeList(inside, { link: link.index }).map((route) => route.mtu)).toEqual([mtu]);
      }
    });
  });
});

test("the bridge tells the MTU of the network by its alias, within bounds; other aliases say nothing", () => {
  expect([mtuAlias(undefined), mtuAlias(1_376)]).toEqual(["", "network mtu 1376"]);
  const of = (alias: string | undefined) => networkMtuOf({ alias } as never);
  expect([
    of(undefined),
    of(""),
    of("1376"),
    of("network mtu "),
    of("network mtu x"),
    of("network mtu 1376.5"),
  ]).toEqual(Array(6).fill(undefined));
  expect([575, 576, 65_535, 65_536].map((mtu) => of(mtuAlias(mtu)))).toEqual([
    undefined,
    576,
    65_535,
    undefined,
  ]);
});

test("aliases name their owners whole, up to what the kernel takes; then by a digest", () => {
  const name = { network: "net", containerId: "c1", ifName: "eth0" };
  expect([vethAlias(name), vethAlias({ ...name, network: undefined }), ownerOf("net/a/b/eth0")]).toEqual([
    ...["net/c1/eth0", "/c1/eth0", { network: "net", containerId: "a/b", ifName: "eth0" }],
  ]);
  expect([ownerOf("/c1/eth0"), ownerOf("a/b"), ownerOf(undefined)]).toEqual([
    { network: undefined, containerId: "c1", ifName: "eth0" },
    undefined,
    undefined,
  ]);
  const long = (length: number) =>
    vethAlias({ ...name, containerId: "c".repeat(length - "net//eth0".length) });
  expect([long(255).length, long(255).startsWith("net/"), long(256)]).toEqual([
    255,
    true,
    expect.stringMatching(/^sha256:[0-9a-f]{64}$/),
  ]);
  expect([
    isVethAlias(long(256)),
    isVethAlias("net/c1/eth0"),
    isVethAlias("a/b"),
    isVethAlias(undefined),
    ownerOf(long(256)),
  ]).toEqual([true, true, false, false, undefined]);
});

describe.if(isRoot)("routes of the host", () => {
  test("overlap with the range unless they are our bridge's, or the default", () => {
    enterNewNetns();
    using nl = new NetlinkSocket(NETLINK_ROUTE);
    const range = parseCidr("10.32.0.0/12");
    veth(nl, "eth0", "10.99.0.1/24");
    ip("route", "add", "default", "via", "10.99.0.9");
    linkAdd(nl, { kind: "bridge", name: "weave", up: true, address: "02:00:00:00:00:01" } as never);
    addressAdd(nl, "weave", indexOf(nl, "weave"), parseCidr("10.32.0.1/12"));
    expect(overlappingRoute(nl, range, "02:00:00:00:00:01")).toBeUndefined();
    expect(() => refuseOverlap(nl, range, "02:00:00:00:00:01")).not.toThrow();
    ip("route", "add", "10.40.0.0/16", "via", "10.99.0.9");
    expect(overlappingRoute(nl, range, "02:00:00:00:00:01")).toBe("10.40.0.0/16");
    expect(overlappingRoute(nl, parseCidr("10.48.0.0/12"), "02:00:00:00:00:01")).toBeUndefined();
    expect(() => refuseOverlap(nl, range)).toThrow(
      "IPALLOC_RANGE 10.32.0.0/12 overlaps with existing route 10.40.0.0/16 of this host",
    );
  });

  test("addresses of the host are those of all its links", () => {
    spies.push(
      spyOn(os, "networkInterfaces").mockImplementation(
        () =>
          ({
            lo: [{ address: "127.0.0.1" }, { address: "::1" }],
            gone: undefined,
            eth0: [{ address: "10.0.0.1" }],
          }) as never,
      ),
    );
    expect(hostAddresses()).toEqual(new Set(["127.0.0.1", "::1", "10.0.0.1"]));
  });
});

describe("forwarding that other tables drop", () => {
  const nothing: Forwarding = { drops: false, jumps: [], rules: undefined };
  /** Three tables, as iptables-nft, firewalld and iptables-legacy have them. */
  function tables(...states: Partial<Forwarding>[]) {
    const did: string[] = [];
    const names = ["iptables-nft", "firewalld", "iptables-legacy"];
    const failing = new Set<string>();
    const made = names.map((name, i) => ({
      ...{ variant: name, name },
      rules: (matches: readonly object[]) => matches.map((match) => JSON.stringify(match)),
      observe: () => ({ ...nothing, ...states[i] }),
      accept: (matches: readonly object[]) => {
        did.push(`${name} accepts ${matches.length}`);
        if (failing.has(name)) throw new Error(name);
      },
      remove: () => {
        did.push(`${name} removes`);
        if (failing.has(name)) throw new Error(name);
      },
    }));
    let at = 0;
    spies.push(
      spyOn(firewallds, "nftForwarding").mockImplementation(() => made[at++ % 2] as never),
      spyOn(legacies, "legacyForwarding").mockImplementation(() => made[2] as never),
    );
    return { did, failing };
  }
  const subnets = [parseCidr("10.32.0.0/12")];
  const rules = [{ inLink: "weave" }, { outLink: "weave", destination: subnets[0] }].map((match) =>
    JSON.stringify(match),
  );

  test("is accepted where they drop, and removed where they drop no more", () => {
    const { did } = tables({ drops: true }, { jumps: [0], rules: [] }, { drops: true, jumps: [0], rules });
    const subject = new ForwardingResource({} as never, () => subnets);
    expect(subject.dropping).toEqual([]);
    const wanted = subject.desired();
    const wrong = subject.difference(wanted, subject.observe());
    expect([subject.dropping, wrong.map(({ object, wrong: what }) => `${object} is ${what}`)]).toEqual([
      ["iptables-nft", "iptables-legacy"] as never,
      [
        "chain WEAVE-FORWARD of iptables-nft is missing",
        "chain WEAVE-FORWARD of firewalld is in place, though FORWARD drops nothing any more",
      ],
    ]);
    subject.apply(wrong);
    expect(did).toEqual(["iptables-nft accepts 2", "firewalld removes"]);
  });

  test("is put right in all tables, whichever fails first", () => {
    const { did, failing } = tables({ drops: true }, { drops: true }, { rules: [] });
    failing.add("iptables-nft").add("firewalld");
    const subject = new ForwardingResource({} as never, () => []);
    expect(() => subject.apply(subject.difference(subject.desired(), subject.observe()))).toThrow(
      "iptables-nft",
    );
    expect(did).toEqual(["iptables-nft accepts 1", "firewalld accepts 1", "iptables-legacy removes"]);
  });

  test.each<[string | undefined, Partial<Forwarding>]>([
    [undefined, { drops: false }],
    ["in place, though FORWARD drops nothing any more", { jumps: [0] }],
    ["missing", { drops: true, jumps: [0] }],
    ["not jumped to from FORWARD", { drops: true, rules }],
    ["behind other rules of FORWARD", { drops: true, rules, jumps: [1] }],
    ["behind other rules of FORWARD", { drops: true, rules, jumps: [0, 2] }],
    [undefined, { drops: true, rules, jumps: [0] }],
  ])("is %p for %j", (wrong, found) => {
    expect(forwardingDifference(rules, { ...nothing, ...found })).toBe(wrong as never);
  });

  test("is told to the doctor, and removed by a reset where there is any of it", () => {
    const { did } = tables(
      { drops: true, jumps: [0], rules: ["r"] },
      { drops: true, jumps: [1], rules: ["r"] },
      { drops: true, jumps: [0], rules: [] },
    );
    expect(forwardDrops({} as never) as unknown).toEqual([
      { variant: "iptables-nft", accepts: true },
      { variant: "firewalld", accepts: false },
      { variant: "iptables-legacy", accepts: false },
    ]);
    expect([installedForwarding({} as never) as unknown, hasForwarding({} as never)]).toEqual([
      ["iptables-nft", "firewalld", "iptables-legacy"],
      true,
    ]);
    removeForwarding({} as never);
    expect(did).toEqual(["iptables-nft removes", "firewalld removes", "iptables-legacy removes"]);
    for (const spy of spies.splice(0)) spy.mockRestore();
    tables({ drops: true }, { jumps: [3] }, {});
    expect([installedForwarding({} as never) as unknown, hasForwarding({} as never)]).toEqual([
      ["firewalld"],
      true,
    ]);
    for (const spy of spies.splice(0)) spy.mockRestore();
    spies.push(
      spyOn(firewallds, "nftForwarding").mockImplementation(() => {
        throw new Error("EPERM");
      }),
    );
    expect(hasForwarding({} as never)).toBe(false);
  });
});

describe("containers' links in words", () => {
  const owner = { network: "net", containerId: "c".repeat(20), ifName: "eth0" };
  const inside = {
    netns: "/run/netns/x",
    link: { name: "eth7" },
    mac: "02:00:00:00:00:05",
    addresses: [parseCidr("10.32.0.1/24")],
  };
  const state = (change: object = {}) =>
    ({ port: { name: "vethwepl1" }, owner, inside, problem: undefined, ...change }) as never;

  test("have what is known of them", () => {
    expect(linkReport(state())).toEqual({
      ...{
        ContainerID: owner.containerId,
        Network: "net",
        Interface: "eth7",
        Netns: "/run/netns/x",
        Port: "vethwepl1",
      },
      ...{ Mac: "02:00:00:00:00:05", Addresses: ["10.32.0.1/24"] },
    });
    expect(linkReport(state({ inside: undefined, problem: "gone" }))).toEqual({
      ...{ ContainerID: owner.containerId, Network: "net", Interface: "eth0", Netns: "", Port: "vethwepl1" },
      ...{ Mac: "", Addresses: [], Problem: "gone" },
    });
    expect(linkReport(state({ owner: undefined, inside: undefined }))).toMatchObject({
      ContainerID: "",
      Network: "",
      Interface: "",
    });
  });

  test("are problems where something is wrong, of whom that is known of", () => {
    const found = (change: object) =>
      linkProblems([state(), state({ problem: "down", ...change })]).map(
        ({ Check, Found }) => `${Check}: ${Found}`,
      );
    expect(found({})).toEqual([`containers: container ${"c".repeat(12)}: eth7 (vethwepl1): down`]);
    expect(found({ inside: undefined })).toEqual([
      `containers: container ${"c".repeat(12)}: eth0 (vethwepl1): down`,
    ]);
    expect(found({ owner: undefined })).toEqual([
      "containers: container /run/netns/x: eth7 (vethwepl1): down",
    ]);
    expect(found({ owner: undefined, inside: undefined })).toEqual([
      "containers: container unknown: its link (vethwepl1): down",
    ]);
  });
});
