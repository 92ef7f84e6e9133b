// The kernel state of one host against plain readings: differences of links, bindings of ports, inspections while others are
// under way, and containers' links as the kernel's links come and go.
import { describe, expect, test } from "bun:test";
import { parseCidr } from "../../lib/address/ipv4.ts";
import { SimulatedClock } from "../../lib/clock/simulated.ts";
import type { AttachedContainer } from "../../lib/host/containers.ts";
import { linkSysctls, silentSysctls } from "../../lib/host/linksettings.ts";
import {
  addAddresses,
  admitPort,
  bindPort,
  forgetPorts,
  parseSender,
  removeAddresses,
} from "../../lib/host/ports/binding.ts";
import { dropNotes, dropWarnings, strictNote } from "../../lib/host/ports/drops.ts";
import { Inspection } from "../../lib/host/ports/inspection.ts";
import { KnownLinks } from "../../lib/host/ports/known.ts";
import { ContainerLinks } from "../../lib/host/ports/links.ts";
import type { Binding, PortEntry, PortMaps } from "../../lib/host/ports/maps.ts";
import { type DesiredLink, linkDifference } from "../../lib/host/reconcile/link.ts";
import { repairsReport } from "../../lib/host/reconcile/report.ts";
import { Sysctls } from "../../lib/host/reconcile/sysctls.ts";
import { silentLog } from "../../lib/log/log.ts";
import { AttributeEncoder } from "../../lib/netlink/attributes.ts";
import { type BridgePort, NEW_PORT } from "../../lib/netlink/link/bridgeport.ts";
import { encodeKind, encodeSettings, ifinfomsg } from "../../lib/netlink/link/message.ts";
import type { Link } from "../../lib/netlink/link.ts";
import { scriptedSocket } from "../support/rtsocket.ts";

const link = (index: number, change: Partial<Link> = {}): Link =>
  ({
    index,
    name: `v${index}`,
    kind: "veth",
    master: undefined,
    mtu: 1376,
    up: true,
    arp: true,
    queue: 1000,
    carrier: true,
    leaving: false,
    address: "02:00:00:00:00:01",
    ...change,
  }) as Link;

describe("a link", () => {
  const desired: DesiredLink = {
    name: "v1",
    mtu: 1376,
    address: "02:00:00:00:00:01",
    queue: 1000,
    arp: true,
    master: "weave",
  };
  const bridge = link(9, { name: "weave", kind: "bridge" });
  const right = link(1, { master: 9 });

  test.each<[string, Partial<Link>, string, object]>([
    ["renamed", { name: "x" }, "renamed to x", { name: "v1" }],
    ["down", { up: false }, "down", { up: true }],
    ["of another MTU", { mtu: 1500 }, "of MTU 1500 instead of 1376", { mtu: 1376 }],
    [
      "of another address",
      { address: "02:00:00:00:00:09" },
      "of Ethernet address 02:00:00:00:00:09 instead of 02:00:00:00:00:01",
      { address: "02:00:00:00:00:01" },
    ],
    ["of another queue", { queue: 500 }, "of queue length 500 instead of 1000", { queue: 1000 }],
    ["without ARP", { arp: false }, "ARP off", { arp: true }],
    ["off its bridge", { master: undefined }, "no port of weave", { master: 9 }],
    ["on another", { master: 8 }, "a port of another bridge", { master: 9 }],
    ["all of it", { up: false, mtu: 1 }, "down, of MTU 1 instead of 1376", { up: true, mtu: 1376 }],
  ])("%s", (_what, change, wrong, settings) => {
    const found = link(1, { master: 9, ...change });
    const [only, ...others] = linkDifference(desired, found, bridge);
    expect([only?.object, only?.index, others.length]).toEqual(["link v1", 1, 0]);
    expect(only?.wrong.replace(/^.*ARP.*$/, "ARP off")).toBe(wrong);
    expect(only?.settings).toEqual(settings);
  });

  test("right, missing, of no bridge, and of one that is missing", () => {
    expect(linkDifference(desired, right, bridge)).toEqual([]);
    expect(linkDifference(desired, undefined, bridge)).toMatchObject([
      { wrong: "missing", index: undefined },
    ]);
    const free = { ...desired, master: null };
    expect(linkDifference(free, link(1), undefined)).toEqual([]);
    expect(linkDifference(free, right, undefined)).toMatchObject([
      { wrong: "a port of a bridge", settings: { master: 0 } },
    ]);
    expect(linkDifference(desired, right, undefined)).toMatchObject([
      { wrong: "a port of another bridge", settings: {} },
    ]);
    // What does not matter is not looked at.
    expect(
      linkDifference({ name: "v1" }, link(1, { mtu: 9, queue: 1, arp: false, master: 3 }), undefined),
    ).toEqual([]);
  });

  test("settings as a bridge and as a port are told one by one", () => {
    const mode = { ageingTime: 30_000, stp: false, vlanFiltering: false, multicastSnooping: true };
    const found = link(1, {
      master: 9,
      bridge: { ...mode, stp: true, ageingTime: 1 },
      bridgePort: { ...NEW_PORT, isolated: true } as BridgePort,
    });
    const [only] = linkDifference(
      { name: "v1", bridge: mode, master: "weave", port: NEW_PORT },
      found,
      bridge,
    );
    expect(only?.bridge).toEqual({ ageingTime: 30_000, stp: false });
    expect(only?.port).toEqual({ isolated: false } as BridgePort);
    expect(only?.wrong.split(", ").map((each) => each.split(" ").slice(0, 2).join(" "))).toEqual([
      "a port",
      "a bridge",
      "a bridge",
    ]);
  });
});

test("sysctls: those that the kernel lacks are left out, others differ by their value", () => {
  const subject = new Sysctls("x", ["silent"], () => []);
  const desired = [
    { name: "net/ipv4/a", value: "1" },
    { name: "net/ipv4/b", value: "1" },
    { name: "net/ipv4/c", value: "1" },
  ];
  const found = new Map([
    ["net/ipv4/a", "1"],
    ["net/ipv4/b", "0"],
  ]);
  expect(subject.difference(desired, found)).toEqual([
    { object: "sysctl net.ipv4.b", wrong: "0 instead of 1", sysctl: desired[1] as (typeof desired)[0] },
  ]);
  expect(subject.observe([{ name: "net/none/such", value: "1" }]).size).toBe(0);
  expect(linkSysctls("v").map(({ name, value }) => `${name}=${value}`)).toEqual([
    "net/ipv4/neigh/v/base_reachable_time=5",
    "net/ipv4/neigh/v/delay_first_probe_time=2",
    "net/ipv4/neigh/v/ucast_solicit=1",
    "net/ipv4/conf/v/drop_unicast_in_l2_multicast=1",
    "net/ipv4/conf/v/promote_secondaries=1",
    "net/ipv6/conf/v/accept_ra=0",
    "net/ipv6/conf/v/router_solicitations=0",
    "net/ipv6/conf/v/drop_unicast_in_l2_multicast=1",
  ]);
  expect(silentSysctls("v")).toEqual([{ name: "net/ipv6/conf/v/disable_ipv6", value: "1" }]);
});

test("repairs as the report has them", () => {
  const by = { name: "ufw", pid: 7 };
  const repair = { at: 1_700_000_000_000, resource: "links", object: "link weave", wrong: "down" };
  expect(
    repairsReport({
      repairs: {
        count: 3,
        latest: [
          { ...repair, by: undefined },
          { ...repair, by },
        ],
      },
      resources: [
        { name: "links", repairs: 2, failures: 1, failing: "EPERM" },
        { name: "routes", repairs: 0, failures: 0, failing: undefined },
      ],
      fights: ["x"],
    }),
  ).toEqual({
    Count: 3,
    Latest: [
      { Time: "2023-11-14T22:13:20.000Z", Resource: "links", Object: "link weave", Wrong: "down" },
      {
        Time: "2023-11-14T22:13:20.000Z",
        Resource: "links",
        Object: "link weave",
        Wrong: "down",
        By: { Name: "ufw", Pid: 7 },
      },
    ],
    Resources: [
      { Name: "links", Repairs: 2, Failures: 1, Failing: "EPERM" },
      { Name: "routes", Repairs: 0, Failures: 0 },
    ],
    Fights: ["x"],
  });
});

describe("bindings of ports", () => {
  function maps() {
    const ports = new Map<number, PortEntry>();
    const bindings = new Map<string, Binding>();
    const seen = new Map<string, { port: number; at: bigint }>();
    const key = ({ port, class: kind, octets, bits }: Binding) =>
      `${port} ${kind} ${Buffer.from(octets).toString("hex")}/${bits}`;
    const subject = {
      ports: {
        get: (port: number) => ports.get(port),
        set: (port: number, entry: PortEntry) => ports.set(port, entry),
        delete: (port: number) => ports.delete(port),
        entries: () => [...ports],
      },
      bindings: {
        set: (binding: Binding) => bindings.set(key(binding), binding),
        delete: (binding: Binding) => bindings.delete(key(binding)),
        entries: () => [...bindings.values()].map((each) => [each, 1]),
      },
      seen: {
        get: (mac: string) => seen.get(mac),
        delete: (mac: string) => seen.delete(mac),
      },
    } as unknown as PortMaps;
    return { subject, ports, bindings, seen, list: () => [...bindings.keys()].sort() };
  }
  const MAC = "02:00:00:aa:bb:cc";
  const LINK_LOCAL = "6 fe80000000000000000000fffeaabbcc/128";

  test("addresses, subnets and Ethernet addresses, with as many bits as count", () => {
    const text = (sender: string) => {
      const { class: kind, octets, bits } = parseSender(sender);
      return `${kind} ${Buffer.from(octets).toString("hex")}/${bits}`;
    };
    expect(
      [
        "10.32.0.7",
        "10.40.0.0/24",
        "0.0.0.0/0",
        "10.0.0.0/31",
        "fd00::/64",
        "fd00::1",
        MAC.toUpperCase(),
      ].map(text),
    ).toEqual([
      "4 0a200007/32",
      "4 0a280000/24",
      "4 00000000/0",
      "4 0a000000/31",
      "6 fd000000000000000000000000000000/64",
      "6 fd000000000000000000000000000001/128",
      "1 020000aabbcc/48",
    ]);
    for (const bad of ["", "x", "10.32.0.7/33", "02:00:00:aa:bb"]) expect(() => parseSender(bad)).toThrow();
  });

  test("come with a port, are added and removed, and go with it", () => {
    const { subject, ports, list, seen } = maps();
    const others = new Set<string>();
    bindPort(subject, 7, {
      mac: MAC,
      addresses: ["fd00::1", "10.32.0.7"],
      allowed: [parseSender("10.40.0.0/24")],
    });
    expect(list()).toEqual([
      "7 4 0a200007/32",
      "7 4 0a280000/24",
      "7 6 fd000000000000000000000000000001/128",
      `7 ${LINK_LOCAL}`,
    ]);
    const nothing = { flood: 0n, multicast: 0n, spoofed: 0n, protocol: 0n };
    expect(ports.get(7)).toEqual({ mac: MAC, ipv4: Uint8Array.of(10, 32, 0, 7), dropped: nothing });
    addAddresses(subject, 7, ["10.32.0.8"]);
    expect(list()).toContain("7 4 0a200008/32");
    const dropped = { ...nothing, spoofed: 5n };
    ports.set(7, { mac: MAC, ipv4: Uint8Array.of(10, 32, 0, 7), dropped });
    removeAddresses(subject, 7, ["10.32.0.8"]);
    expect(ports.get(7)?.ipv4).toEqual(Uint8Array.of(10, 32, 0, 7));
    removeAddresses(subject, 7, ["fd00::1", "10.32.0.7"]);
    expect(list()).toEqual(["7 4 0a280000/24", `7 ${LINK_LOCAL}`]);
    // The short cut goes with its address; what was counted stays.
    expect(ports.get(7)).toEqual({ mac: MAC, ipv4: new Uint8Array(4), dropped });
    admitPort(subject, 8);
    expect(ports.get(8)).toEqual({ mac: undefined, ipv4: new Uint8Array(4), dropped: nothing });
    removeAddresses(subject, 8, ["10.32.0.7"]);
    expect(ports.get(8)?.mac).toBeUndefined();
    bindPort(subject, 9, { mac: "02:00:00:00:00:09", addresses: [] });
    expect(ports.get(9)?.ipv4).toEqual(new Uint8Array(4));
    seen.set(MAC, { port: 7, at: 1n }).set("02:00:00:00:00:09", { port: 4, at: 1n });
    const gone = { delete: (mac: string) => others.add(mac).has(mac) };
    forgetPorts(subject, (port) => port === 8, gone);
    expect([[...ports.keys()], list(), [...others], [...seen.keys()]]).toEqual([
      [8],
      [],
      [MAC],
      // It has moved elsewhere since.
      ["02:00:00:00:00:09"],
    ]);
  });

  const entry = (mac: string | undefined, dropped: Partial<PortEntry["dropped"]> = {}): PortEntry => ({
    mac,
    ipv4: new Uint8Array(4),
    dropped: { flood: 0n, multicast: 0n, spoofed: 0n, protocol: 0n, ...dropped },
  });

  test("drops in words: the five ports with most, of each kind; what is new since", () => {
    const ports = new Map(
      [1, 2, 3, 4, 5, 6].map((i) => [
        `v${i}`,
        entry(MAC, { spoofed: BigInt(i), flood: BigInt(10 - i), multicast: 1n }),
      ]),
    );
    const notes = dropNotes(ports);
    const names = (what: string) =>
      notes
        .filter((note) => note.startsWith(what))
        .map((note) => note.replace(/^.* dropped /, "").replace(/ \(.*/, ""));
    expect(names("anti-spoofing")).toEqual([6, 5, 4, 3, 2].map((i) => `${i} frames from v${i}`));
    expect(names("storm")).toEqual([1, 2, 3, 4, 5].map((i) => `${11 - i} frames from v${i}`));
    expect(dropNotes(new Map([["v", entry(MAC)]]))).toEqual([]);
    const before = new Map([["a", entry(MAC, { spoofed: 2n, multicast: 4n })]]);
    const now = new Map([
      ["a", entry(MAC, { spoofed: 2n, protocol: 3n, multicast: 4n })],
      ["b", entry(MAC, { flood: 1n, multicast: 1n })],
    ]);
    expect(dropWarnings(before, now).map(({ kind, text }) => [kind, text.split(" frames")[0]])).toEqual([
      ["spoofed a", "dropped 3"],
      ["storm b", "storm control dropped 2"],
    ]);
    expect(dropWarnings(now, now)).toEqual([]);
    expect(strictNote(ports)).not.toContain("except");
    expect(strictNote(new Map([...ports, ["x", entry(undefined)], ["y", entry(undefined)]]))).toContain(
      "except 2 whose",
    );
  });
});

const container = (change: Partial<AttachedContainer> = {}) =>
  ({
    netns: "/run/netns/none",
    inode: "1",
    cookie: 1n,
    link: link(3, { name: "eth0" }),
    mac: "02:00:00:00:00:aa",
    addresses: [parseCidr("10.32.0.1/12")],
    addresses6: [],
    routes: [],
    owner: undefined,
    ...change,
  }) as AttachedContainer;

describe("inspections", () => {
  function inspecting(count: number) {
    const clock = new SimulatedClock(100_000);
    const known = new KnownLinks();
    const links = Array.from({ length: count }, (_, i) =>
      link(10 + i, { name: `vethwepl${i}`, alias: `n/c${i}/eth0`, master: 9 }),
    );
    known.learn(links, 9, 0);
    const warned: string[] = [];
    const calls: {
      ports: number[];
      answer: (found?: AttachedContainer) => Promise<void>;
      fail: () => Promise<void>;
    }[] = [];
    const subject = new Inspection(known, clock, (_kind, text) => warned.push(text));
    const books = {
      addresses: { holderOf: () => "c", isGivenBack: () => false },
      work: {
        inspectPorts: (ports: readonly { index: number }[]) => {
          const { promise, resolve, reject } =
            Promise.withResolvers<Map<number, AttachedContainer | undefined>>();
          const turn = () => new Promise<void>((done) => setImmediate(done));
          calls.push({
            ports: ports.map(({ index }) => index),
            answer: (found) => {
              resolve(new Map(ports.map(({ index }) => [index, found])));
              return turn();
            },
            fail: () => {
              reject(new Error("ENOMEM"));
              return turn();
            },
          });
          return promise;
        },
      },
    };
    return { clock, known, subject, books, calls, warned };
  }

  test("all at the start; then four at a time, those longest ago first, none within 5 s", async () => {
    const { clock, known, subject, books, calls } = inspecting(6);
    subject.start(books as never);
    expect(calls.map(({ ports }) => ports)).toEqual([[10, 11, 12, 13, 14, 15]]);
    // Under way: no second one.
    clock.advance(10_000);
    expect(calls.length).toBe(1);
    await calls[0]?.answer(container());
    expect(known.all().map(({ inspectedAt }) => inspectedAt)).toEqual(Array(6).fill(110_000));
    expect(known.all().every(({ inside }) => inside !== undefined)).toBe(true);
    clock.advance(4_999);
    expect(calls.length).toBe(1);
    clock.advance(1);
    expect(calls.at(-1)?.ports).toEqual([10, 11, 12, 13]);
    await calls.at(-1)?.answer();
    clock.advance(999);
    expect(calls.length).toBe(2);
    clock.advance(1);
    expect(calls.at(-1)?.ports).toEqual([14, 15]);
    await calls.at(-1)?.answer();
    subject.stop();
  });

  test("those that may have changed come first, four at a time, every 250 ms; those that are gone not at all", async () => {
    const { clock, known, subject, books, calls } = inspecting(11);
    subject.start(books as never);
    await calls[0]?.answer(container());
    for (const each of known.all().slice(1)) each.inspectedAt = undefined;
    const gone = known.get(12);
    if (gone) gone.missingSince = 1;
    const last = () => calls.at(-1)?.ports;
    subject.soon();
    expect(last()).toEqual([11, 13, 14, 15]);
    subject.soon();
    expect(calls.length).toBe(2);
    await calls.at(-1)?.answer();
    clock.advance(249);
    expect(calls.length).toBe(2);
    clock.advance(1);
    expect(last()).toEqual([16, 17, 18, 19]);
    await calls.at(-1)?.answer();
    clock.advance(249);
    expect(calls.length).toBe(3);
    clock.advance(1);
    expect(last()).toEqual([20]);
    await calls.at(-1)?.answer();
    // The rest were a few.
    clock.advance(749);
    expect(calls.length).toBe(4);
    subject.stop();
  });

  test("those inspected longest ago come first, so that none of many is left out", async () => {
    const { clock, known, subject, books, calls } = inspecting(6);
    subject.start(books as never);
    await calls[0]?.answer(container());
    const ages = [13, 16, 11, 15, 12, 14];
    for (const [i, each] of known.all().entries()) each.inspectedAt = clock.now() - 1_000 * (ages[i] ?? 0);
    subject.soon();
    expect(calls.at(-1)?.ports).toEqual([11, 13, 15, 10]);
    await calls.at(-1)?.answer();
    subject.soon();
    expect(calls.at(-1)?.ports).toEqual([14, 12]);
    await calls.at(-1)?.answer();
    subject.stop();
  });

  test("one that fails is warned of, and tried again", async () => {
    const { clock, subject, books, calls, warned } = inspecting(1);
    subject.start(books as never);
    await calls[0]?.fail();
    expect(warned).toEqual(["cannot look into containers: ENOMEM; retrying"]);
    clock.advance(1_000);
    expect(calls.length).toBe(2);
    subject.stop();
    await calls[1]?.answer();
    clock.advance(60_000);
    expect(calls.length).toBe(2);
  });
});

describe("containers' links", () => {
  /** A kernel with these links. */
  function host(followed = true) {
    const links = new Map<
      number,
      { name: string; master?: number; up?: boolean; mtu?: number; alias?: string; carrier?: boolean }
    >();
    links.set(9, { name: "weave" });
    const sent: { type: number; index: number }[] = [];
    const state = { refuse: 0 };
    const encode = (index: number) => {
      const { name, master, up = true, mtu = 1376, alias, carrier = true } = links.get(index) ?? { name: "" };
      const encoder = new AttributeEncoder().raw(ifinfomsg(index));
      encodeSettings(encoder, {
        name,
        mtu,
        ...(master !== undefined && { master }),
        ...(alias && { alias }),
      });
      const body = encodeKind(encoder, name === "weave" ? "bridge" : "veth").done();
      new DataView(body.buffer).setUint32(8, (up ? 1 : 0) | (carrier ? 0x40 : 0), true);
      return body;
    };
    const { nl } = scriptedSocket(({ type, body }) => {
      const index = new DataView(body.buffer, body.byteOffset).getInt32(4, true);
      if (type === 18) return [...links.keys()].map(encode);
      sent.push({ type, index });
      return state.refuse === 0 ? [] : state.refuse;
    });
    const clock = new SimulatedClock(1_000_000);
    const warned: string[] = [];
    const saved: number[] = [];
    const forgotten: number[] = [];
    const kept = {
      known: (each: Link) => each,
      save: ({ index }: Link) => saved.push(index),
      forget: (index: number) => forgotten.push(index),
      keepOnly() {},
    };
    let again = 0;
    const log = { ...silentLog, warning: (text: string) => warned.push(text) };
    const subject = new ContainerLinks(nl, clock, log, undefined, kept as never, () => again++);
    const books = {
      addresses: { holderOf: () => undefined, isGivenBack: () => false },
      work: { inspectPorts: async () => new Map() },
    };
    if (followed) subject.follow(books as never);
    const add = (index: number, change = {}) =>
      links.set(index, { name: `vethwepl${index}`, master: 9, alias: `n/c${index}/eth0`, ...change });
    const look = () => subject.reconcile(() => true).map(({ object, wrong }) => `${object}: ${wrong}`);
    return { links, sent, state, clock, warned, saved, forgotten, subject, add, look, again: () => again };
  }

  test("new ones are saved, changed ones put right, and each is told", () => {
    const { add, look, saved, sent, links, subject } = host();
    expect(look()).toEqual([]);
    add(20);
    expect([look(), saved]).toEqual([[], [20]]);
    add(20, { up: false, mtu: 1500 });
    expect(look()).toEqual(["link vethwepl20: down, MTU 1500 instead of 1376"]);
    expect(sent.map(({ index }) => index)).toContain(20);
    // What is refused by us stays, and is said.
    add(20, { mtu: 1500 });
    expect(subject.reconcile(() => false)).toEqual([]);
    expect(subject.states()[0]?.problem).toBe("MTU 1500 instead of 1376");
    add(20);
    expect(look()).toEqual([]);
    expect(subject.states()[0]?.problem).toBeUndefined();
    // Without a bridge nothing can be said.
    links.delete(9);
    links.delete(20);
    expect(look()).toEqual([]);
    expect(subject.states().length).toBe(1);
  });

  test("what cannot be repaired is told, and tried again after 10 s", () => {
    const { add, look, state, clock, warned, subject, sent } = host();
    add(20);
    look();
    add(20, { up: false });
    state.refuse = 1;
    expect(look()).toEqual([]);
    expect(subject.states()[0]?.problem).toMatch(/^down, and cannot be repaired: /);
    expect(warned).toEqual([
      expect.stringMatching(/^cannot repair link vethwepl20, which is down: .*; retrying/),
    ]);
    const { length } = sent;
    clock.advance(9_999);
    look();
    expect(sent.length).toBe(length);
    state.refuse = 0;
    clock.advance(1);
    expect(look()).toEqual(["link vethwepl20: down"]);
    // One that has gone meanwhile is no failure.
    state.refuse = 19;
    expect(look()).toEqual([]);
    expect(warned.length).toBe(1);
  });

  test("32 at a time; the rest is asked for again", () => {
    const { add, look, again } = host();
    for (let i = 0; i < 40; i++) add(100 + i);
    look();
    for (let i = 0; i < 40; i++) add(100 + i, { up: false });
    expect(again()).toBe(0);
    expect(look().length).toBe(32);
    expect(again()).toBe(1);
  });

  test("one that is gone is forgotten where nothing is known of its inside, or its container has ended", () => {
    const { add, look, links, forgotten, subject } = host();
    add(20);
    add(21);
    look();
    links.delete(20);
    look();
    expect(forgotten).toEqual([20]);
    subject.removed(21, true);
    expect(forgotten).toEqual([20, 21]);
    expect(subject.states()).toEqual([]);
  });

  test("a link on our bridge is new until the program is on it", () => {
    const { add, look, subject } = host();
    add(20);
    look();
    expect([subject.isNewPort(20, 9), subject.isNewPort(20, 8), subject.isNewPort(20, undefined)]).toEqual([
      true,
      false,
      false,
    ]);
  });

  test("a detach forgets the link before it is detached, by its alias, and no other", async () => {
    const { add, look, subject, forgotten } = host();
    add(20);
    add(21);
    look();
    const order: string[] = [];
    const work = subject.forgetOnDetach({
      detach: () => {
        order.push(`detach after ${forgotten}`);
        return Promise.resolve(true);
      },
    } as never);
    await work.detach({ netns: undefined, ifName: "eth0", alias: "n/c21/eth0" } as never);
    expect(order).toEqual(["detach after 21"]);
    expect(subject.states().map(({ port }) => port.index)).toEqual([20]);
  });
});
