// Containers' links as the router knows them: when it takes one for complete, what it finds wrong, and what it expects inside
// after every inspection, against a plain reading.
import { describe, expect, test } from "bun:test";
import { formatIPv4, type IPv4, parseCidr, parseIPv4 } from "../../lib/address/ipv4.ts";
import { type AttachedContainer, findNetns } from "../../lib/host/containers.ts";
import {
  desiredPort,
  isGivenBack,
  KnownLinks,
  mergeInspection,
  portProblems,
} from "../../lib/host/ports/known.ts";
import { linkProblems, linkReport } from "../../lib/host/ports/states.ts";
import { NEW_PORT } from "../../lib/netlink/link/bridgeport.ts";
import type { Link } from "../../lib/netlink/link.ts";
import { NETLINK_ROUTE, NetlinkSocket } from "../../lib/netlink/socket.ts";
import { netnsInode } from "../../lib/sys/netnsinode.ts";
import { randomOf } from "../support/seed.ts";

const BRIDGE = 5;
const bridge = { index: BRIDGE, name: "weave", up: true } as Link;
const link = (index: number, change: Partial<Link> = {}): Link =>
  ({
    index,
    name: `vethwepl${index}`,
    kind: "veth",
    master: BRIDGE,
    mtu: 1376,
    up: true,
    carrier: true,
    leaving: false,
    address: "02:00:00:00:00:01",
    alias: `net/c${index}/eth0`,
    bridgePort: { ...NEW_PORT },
    ...change,
  }) as Link;

describe("a link is known", () => {
  const learn = (known: KnownLinks, now: number, links: Link[], atStart = false) =>
    known.learn(links, BRIDGE, now, { atStart }).map(({ port }) => port.index);

  test("at once where it has an alias; else 2 s after it was first seen, or at the start", () => {
    const known = new KnownLinks();
    const bare = link(2, { alias: undefined });
    expect(learn(known, 1_000, [link(1), bare])).toEqual([1]);
    expect(learn(known, 2_999, [link(1), bare])).toEqual([]);
    expect(learn(known, 3_000, [link(1), bare])).toEqual([2]);
    expect(learn(known, 4_000, [link(1), bare])).toEqual([]);
    expect(known.all().map(({ port }) => port.index)).toEqual([1, 2]);
    expect(learn(known, 5_000, [link(3, { alias: undefined })], true)).toEqual([3]);
    known.forget(3);
    expect(known.get(3)).toBeUndefined();
    // One that went away in between is first seen again.
    expect(learn(known, 6_000, [link(4, { alias: undefined })])).toEqual([]);
    expect(learn(known, 7_000, [])).toEqual([]);
    expect(learn(known, 8_500, [link(4, { alias: undefined })])).toEqual([]);
    expect(learn(known, 10_499, [link(4, { alias: undefined })])).toEqual([]);
    expect(learn(known, 10_500, [link(4, { alias: undefined })])).toEqual([4]);
    // Of many that this router attaches at once, one may take longer.
    const slow = [link(5, { alias: undefined })];
    expect(learn(known, 11_000, slow)).toEqual([]);
    expect(known.learn(slow, BRIDGE, 14_000, { attaching: true })).toEqual([]);
    expect(learn(known, 14_001, slow)).toEqual([5]);
  });

  test("without an alias and off the bridge, only 60 s after it was first seen: its CNI plugin may be slow", () => {
    const known = new KnownLinks();
    const bare = link(1, { alias: undefined, master: undefined });
    expect(learn(known, 1_000, [bare])).toEqual([]);
    expect(learn(known, 60_999, [bare])).toEqual([]);
    expect(learn(known, 61_000, [bare])).toEqual([1]);
  });

  test.each<[string, Partial<Link>, boolean]>([
    ["on no bridge", { master: undefined }, true],
    ["on another", { master: BRIDGE + 1 }, false],
    ["of another kind", { kind: "dummy" }, false],
    ["of another name", { name: "veth1" }, false],
    ["leaving", { leaving: true }, false],
  ])("%s", (_what, change, isKnown) => {
    expect(learn(new KnownLinks(), 0, [link(1, change)]).length).toBe(Number(isKnown));
  });

  test("with its owner, its carrier, and nothing inspected", () => {
    const known = new KnownLinks();
    const [first, second] = known.learn([link(1), link(2, { carrier: false, alias: "x" })], BRIDGE, 0, {
      atStart: true,
    });
    expect(first?.owner).toEqual({ network: "net", containerId: "c1", ifName: "eth0" });
    expect([first?.carrier, second?.carrier, second?.owner]).toEqual([true, false, undefined]);
    expect(first).toMatchObject({ inside: undefined, ended: false, removed: false, retryAt: 0 });
  });
});

describe("the host's end", () => {
  const known = () => new KnownLinks().learn([link(1)], BRIDGE, 0)[0] ?? expect.unreachable();

  test.each<[string, Partial<Link>, string[]]>([
    ["right", {}, []],
    ["down", { up: false }, ["down"]],
    ["renamed", { name: "x" }, ["renamed to x"]],
    ["of another MTU", { mtu: 1500 }, ["MTU 1500 instead of 1376"]],
    ["without its alias", { alias: undefined }, ["without its alias"]],
    [
      "of another Ethernet address",
      { address: "02:00:00:00:00:09" },
      ["Ethernet address 02:00:00:00:00:09 instead of 02:00:00:00:00:01"],
    ],
    ["off the bridge", { master: undefined }, ["off bridge weave"]],
    [
      "off the bridge, with another setting there",
      { master: 7, bridgePort: { ...NEW_PORT, hairpin: true } },
      ["off bridge weave"],
    ],
    ["with all of it", { up: false, name: "x", mtu: 1 }, ["down", "renamed to x", "MTU 1 instead of 1376"]],
  ])("%s", (_what, change, wrong) => {
    expect(portProblems(known(), link(1, change), bridge)).toEqual(wrong);
  });

  test("settings of the bridge: the kernel's defaults, but for hairpin mode, each named", () => {
    const names = Object.keys(NEW_PORT) as (keyof typeof NEW_PORT)[];
    for (const name of names) {
      const now = link(1, { bridgePort: { ...NEW_PORT, [name]: !NEW_PORT[name] } });
      expect(portProblems(known(), now, bridge).length).toBe(1);
    }
    const hairpin = link(1, { bridgePort: { ...NEW_PORT, hairpin: true } });
    expect(desiredPort(hairpin)).toEqual({ ...NEW_PORT, hairpin: true });
    expect(desiredPort(link(1, { bridgePort: { ...NEW_PORT, isolated: true } as typeof NEW_PORT }))).toEqual(
      NEW_PORT,
    );
  });
});

const container = (change: Partial<AttachedContainer> = {}): AttachedContainer => ({
  netns: "/run/netns/c",
  inode: "100",
  cookie: 7n,
  link: link(9, { name: "eth0" }),
  mac: "02:00:00:00:00:aa",
  addresses: [parseCidr("10.32.0.1/12")],
  addresses6: [],
  routes: [],
  owner: undefined,
  ...change,
});

describe("the container's end", () => {
  test("what is expected of it, through random changes", () => {
    const random = randomOf("inspections");
    const pool = ["10.32.0.1/12", "10.32.0.2/12", "10.32.0.3/12", "10.40.0.4/24"].map(parseCidr);
    for (let history = 0; history < 80; history++) {
      const [known] = new KnownLinks().learn([link(1)], BRIDGE, 0);
      if (!known) throw new Error("not known");
      let expected: readonly IPv4[] = [];
      let held = new Set<IPv4>();
      let before: { inode: string; cookie: bigint; mac: string } | undefined;
      for (let step = 0; step < 8; step++) {
        const holders = new Map(
          pool.filter(() => random.below(3) > 0).map(({ address }) => [address, `c${random.below(2)}`]),
        );
        const now = container({
          inode: random.pick(["100", "100", "100", "101"]),
          cookie: random.pick([7n, 7n, 7n, 8n]),
          mac: random.pick(["02:00:00:00:00:aa", "02:00:00:00:00:aa", "02:00:00:00:00:bb"]),
          addresses: pool.filter(() => random.below(2) === 0),
        });
        const isNew = !before || before.inode !== now.inode || before.cookie !== now.cookie;
        const there = now.addresses.map(({ address }) => address);
        // Those that the router gave back are no longer expected; those that it has assigned since are.
        expected = isNew
          ? there
          : [
              ...expected.filter((address) => !held.has(address) || holders.has(address)),
              ...there.filter((address) => holders.has(address) && !expected.includes(address)),
            ];
        const mac = isNew ? now.mac : (before?.mac ?? "");
        held = new Set(expected.filter((address) => holders.has(address)));
        const lacking = expected.filter(
          (address) => (held.size === 0 || held.has(address)) && !there.includes(address),
        );
        mergeInspection(known, now, { holderOf: (address) => holders.get(address) }, step);
        expect((known.inside?.addresses ?? []).map(({ address }) => address)).toEqual([...expected]);
        expect([...known.holders]).toEqual([...held].map((address) => [address, holders.get(address) ?? ""]));
        const changes = [
          ...(mac === now.mac ? [] : [`Ethernet address ${now.mac} instead of ${mac} inside`]),
          ...lacking.map((address) => `no address ${formatIPv4(address)}`),
        ];
        const said = known.changed?.split(", ").map((each) => each.replace(/\/\d+ inside$/, "")) ?? [];
        expect(said).toEqual(changes);
        expect([known.inspectedAt, known.inside?.mac]).toEqual([step, mac]);
        before = { inode: now.inode, cookie: now.cookie ?? 0n, mac };
        const book = {
          holderOf: (address: IPv4) => holders.get(address),
          isGivenBack: (address: IPv4) => address === pool[3]?.address,
        };
        expect(isGivenBack(known, book)).toBe(expected.includes(pool[3]?.address ?? 0));
        const [first] = held;
        if (first === undefined) continue;
        const moved = {
          holderOf: (a: IPv4) => (a === first ? "other" : holders.get(a)),
          isGivenBack: () => false,
        };
        expect(isGivenBack(known, moved)).toBe(true);
        expect(isGivenBack(known, { ...book, isGivenBack: () => false })).toBe(false);
      }
    }
  });

  test("down inside is all that is said then; routes are told apart by destination, prefix and gateway", () => {
    const route = (destination: string, gateway?: string) => ({
      destination: parseCidr(destination),
      gateway: gateway === undefined ? undefined : parseIPv4(gateway),
      link: 9,
    });
    const [known] = new KnownLinks().learn([link(1)], BRIDGE, 0);
    if (!known) throw new Error("not known");
    const book = { holderOf: () => undefined };
    const routes = [route("10.0.0.0/8"), route("0.0.0.0/0", "10.32.0.9")];
    mergeInspection(known, container({ routes }), book, 0);
    expect(known.changed).toBeUndefined();
    const look = (change: Partial<AttachedContainer>) => {
      mergeInspection(known, container({ routes, ...change }), book, 0);
      return known.changed;
    };
    expect(look({ routes: [...routes].reverse() })).toBeUndefined();
    expect(look({ routes: [route("10.0.0.0/9"), ...routes.slice(1)] })).toBe("no route to 10.0.0.0/8 inside");
    expect(look({ routes: [route("11.0.0.0/8"), ...routes.slice(1)] })).toBe("no route to 10.0.0.0/8 inside");
    expect(look({ routes: [...routes.slice(0, 1), route("0.0.0.0/0", "10.32.0.8")] })).toBe(
      "no route to 0.0.0.0/0 via 10.32.0.9 inside",
    );
    expect(look({ routes: [], addresses: [] })).toBe(
      "no address 10.32.0.1/12 inside, no route to 10.0.0.0/8 inside, no route to 0.0.0.0/0 via 10.32.0.9 inside",
    );
    expect(look({ link: link(9, { up: false }), routes: [], mac: "02:00:00:00:00:cc" })).toBe("down inside");
    expect(look({})).toBeUndefined();
  });

  const isRoot = process.getuid?.() === 0;
  test.skipIf(!isRoot)("its namespace is found by inode and cookie, both", () => {
    using nl = new NetlinkSocket(NETLINK_ROUTE);
    const own = "/proc/self/ns/net";
    const inode = netnsInode(own);
    const cookie = nl.netnsCookie;
    if (cookie === undefined) return;
    const find = (change: Partial<AttachedContainer>) =>
      findNetns(container({ netns: own, inode, cookie, ...change }));
    expect(find({})).toBe(own);
    expect(find({ cookie: cookie + 1n })).toBeUndefined();
    expect(find({ inode: "1" })).toBeUndefined();
    // Under another path: by its inode among those of all processes and names.
    expect(find({ netns: "/run/netns/none" })).toMatch(/^\/(proc\/\d+\/ns\/net|run\/netns\/.+)$/);
    expect(find({ netns: "/run/netns/none", cookie: undefined })).toBeUndefined();
  });
});

test("in words, for report and status: with and without an owner, and what is wrong", () => {
  const owner = { network: "net", containerId: "0123456789abcdef", ifName: "eth1" };
  const whole = { port: link(1), owner, inside: container(), problem: "down inside" };
  expect(linkReport(whole as never)).toEqual({
    ContainerID: "0123456789abcdef",
    Network: "net",
    Interface: "eth0",
    Netns: "/run/netns/c",
    Port: "vethwepl1",
    Mac: "02:00:00:00:00:aa",
    Addresses: ["10.32.0.1/12"],
    Problem: "down inside",
  });
  const unseen = { port: link(2), owner, inside: undefined, problem: undefined };
  expect(linkReport(unseen as never)).toEqual({
    ContainerID: "0123456789abcdef",
    Network: "net",
    Interface: "eth1",
    Netns: "",
    Port: "vethwepl2",
    Mac: "",
    Addresses: [],
  });
  const nobodys = { port: link(3), owner: undefined, inside: undefined, problem: "down" };
  const foreign = { ...nobodys, inside: container() };
  expect(
    linkProblems([whole, unseen, nobodys, foreign] as never).map(({ Check, Found }) => [Check, Found]),
  ).toEqual([
    ["containers", "container 0123456789ab: eth0 (vethwepl1): down inside"],
    ["containers", "container unknown: its link (vethwepl3): down"],
    ["containers", "container /run/netns/c: eth0 (vethwepl3): down"],
  ]);
});
