// What a trace sees and sends on one host: real probes between two containers on the bridge, in a namespace of the test.
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, spyOn, test } from "bun:test";
import * as v from "valibot";
import { formatIPv4, type IPv4, parseCidr, parseIPv4 } from "../../lib/address/ipv4.ts";
import type { ApiClient } from "../../lib/api/client.ts";
import { type Clock, systemClock } from "../../lib/clock/clock.ts";
import { seededRandom } from "../../lib/clock/random.ts";
import { attach } from "../../lib/host/attach.ts";
import { linkAdd, linkByName, linkSet } from "../../lib/netlink/link.ts";
import { NETLINK_ROUTE, NetlinkSocket } from "../../lib/netlink/socket.ts";
import { inNetns } from "../../lib/sys/netns.ts";
import { capture } from "../../lib/trace/capture.ts";
import { endState, NOTHING_DROPPED } from "../../lib/trace/endstate.ts";
import { forwarding, overlayLinks } from "../../lib/trace/forwarding.ts";
import * as path from "../../lib/trace/hops/path.ts";
import { look } from "../../lib/trace/look.ts";
import { type Place, placeAt, placeOf, places } from "../../lib/trace/places.ts";
import type { Probe } from "../../lib/trace/probe.ts";
import { LOOK_MS, lookQuestion, TraceQuestion, traceAnswerer } from "../../lib/trace/question.ts";
import * as rules from "../../lib/trace/rules.ts";
import { sender } from "../../lib/trace/send.ts";
import { hasSeen, type Seen } from "../../lib/trace/side.ts";
import { trace as traceAll } from "../../lib/trace/trace.ts";
import { eventually } from "../support/hosts.ts";
import {
  type BareContainer,
  bareContainer,
  enterNewNetns,
  inContainer,
  ip,
  isRoot,
} from "../support/newnetns.ts";

const [ONE, TWO] = ["10.32.0.1", "10.32.0.2"].map(parseIPv4) as [
  number & ReturnType<typeof parseIPv4>,
  never,
];
const probe = (change: Partial<Probe> = {}): Probe => ({
  ...{ source: ONE, destination: TWO, protocol: "icmp", port: 0, id: 77 },
  ...change,
});

let nl: NetlinkSocket;
const bare: BareContainer[] = [];
let leave: () => void;
let spies: { mockRestore(): void }[];

describe.if(isRoot)("on one host", () => {
  beforeAll(() => {
    leave = enterNewNetns();
    nl = new NetlinkSocket(NETLINK_ROUTE);
    linkAdd(nl, { kind: "bridge", name: "weave", up: true });
    for (const [i, id] of ["c1", "c2"].entries()) {
      const container = bareContainer();
      bare.push(container);
      attach({
        ...{ netns: container.pid, containerId: id, ifName: "eth0", routes: [] },
        addresses: [parseCidr(`10.32.0.${i + 1}/24`)],
      });
    }
  });
  afterAll(() => {
    nl.close();
    for (const each of bare) each[Symbol.dispose]();
    leave();
  });
  beforeEach(() => {
    // Rules are another test's.
    spies = [spyOn(rules, "followRules").mockImplementation(() => "not followed" as never)];
  });
  afterEach(() => {
    for (const spy of spies) spy.mockRestore();
  });

  const place = (address: IPv4): Place => placeOf(places(nl), address) ?? expect.unreachable();

  test("containers are found by their addresses, with both ends of their links; hints hold while the link does", () => {
    expect(
      places(nl).map(({ port, container }) => [
        port.name,
        container.link.name,
        container.addresses.map(({ address }) => formatIPv4(address)),
      ]),
    ).toEqual([
      ["vethweplc1", "eth0", ["10.32.0.1"]],
      ["vethweplc2", "eth0", ["10.32.0.2"]],
    ]);
    expect(places(nl, new Set(["vethweplc1"])).map(({ port }) => port.name)).toEqual(["vethweplc2"]);
    expect(placeOf(places(nl), parseIPv4("10.32.0.3"))).toBeUndefined();
    const netns = `/proc/${bare[0]?.pid}/ns/net`;
    expect(placeAt(nl, { port: "vethweplc1", netns })?.container.addresses[0]?.address).toBe(ONE);
    expect(placeAt(nl, { port: "vethweplc1", netns: "" })?.container.addresses[0]?.address).toBe(ONE);
    expect(placeAt(nl, { port: "vethweplno", netns })).toBeUndefined();
    // Other veths of the host are nobody's container; a port of our bridge is, whatever its name.
    linkAdd(nl, { kind: "veth", name: "other", mtu: 1_500, up: true, peer: { name: "otherx", mtu: 1_500 } });
    expect(places(nl).length).toBe(2);
    linkSet(nl, "other", linkByName(nl, "other")?.index ?? 0, {
      master: linkByName(nl, "weave")?.index ?? 0,
    });
    ip("link", "set", "otherx", "netns", String(bare[0]?.pid));
    expect(places(nl).map(({ port }) => port.name)).toContain("other");
    ip("link", "del", "other");
  });

  test("an end is told with its link, its way to the other, its ARP entry, and its port", async () => {
    const state = () => endState(nl, place(ONE), TWO, NOTHING_DROPPED);
    // The kernel works out a moment later that a new link runs (net/core/link_watch.c).
    await eventually("both ends run", () => state().inside.carrier && state().port.carrier, Boolean);
    inContainer(bare[0] as BareContainer, () =>
      ip("neigh", "replace", "10.32.0.2", "lladdr", "02:00:00:00:00:99", "dev", "eth0"),
    );
    expect(state()).toMatchObject({
      id: "c1",
      inside: { name: "eth0", up: true, carrier: true, addresses: ["10.32.0.1/24"] },
      port: { name: "vethweplc1", up: true, bridge: "weave", bound: false },
      route: { link: "eth0", gateway: null, source: "10.32.0.1" },
      neighbour: { address: "10.32.0.2", mac: "02:00:00:00:00:99", failed: false },
      dropped: NOTHING_DROPPED,
    });
    expect(state().inside.mtu).toBe(linkByName(nl, "weave")?.mtu ?? 0);
    inContainer(bare[0] as BareContainer, () => {
      ip("neigh", "del", "10.32.0.2", "dev", "eth0");
      ip("route", "add", "10.50.0.0/16", "via", "10.32.0.2", "mtu", "1200");
    });
    expect([state().inside.mtu, state().neighbour]).toEqual([1_200, null]);
    expect(endState(nl, place(ONE), parseIPv4("10.50.0.9"), NOTHING_DROPPED).route).toEqual({
      ...{ link: "eth0", gateway: "10.32.0.2", source: "10.32.0.1" },
    });
    expect(endState(nl, place(ONE), parseIPv4("10.60.0.9"), NOTHING_DROPPED).route).toBeNull();
    inContainer(bare[0] as BareContainer, () => ip("route", "del", "10.50.0.0/16"));
    ip("link", "set", "vethweplc1", "nomaster");
    expect(state().port.bridge).toBeNull();
    ip("link", "set", "vethweplc1", "master", "weave");
  });

  /** Send a probe and look at the sender's side until its answer comes. */
  const trace = (sent: Probe, until: (seen: readonly Seen[]) => boolean, size = 0) => {
    const from = sender(place(ONE).container.netns, sent, size);
    let problem: string | undefined;
    const begun = () => {
      problem = from.send(1);
    };
    const options = { address: ONE, place: place(ONE), probe: sent, rules: true, done: until, begun };
    return look(options, systemClock, 20_000)
      .then((side) => ({ side, problem }))
      .finally(() => from.close());
  };

  test.each<[Partial<Probe>, "answer" | "refused"]>([
    [{ protocol: "icmp" }, "answer"],
    [{ protocol: "tcp", port: 81, id: 40_001 }, "refused"],
    [{ protocol: "udp", port: 82, id: 40_002 }, "refused"],
  ])("a probe of %j is seen inside and at the port, on both ways", async (change, sign) => {
    // A frame is flooded by the bridge once its port has begun to forward.
    await eventually(
      "they reach each other",
      async () => {
        const ping = inContainer(bare[0] as BareContainer, () =>
          Bun.spawn(["ping", "-c", "1", "-W", "1", "10.32.0.2"], { stdout: "ignore" }),
        );
        return await ping.exited;
      },
      (code) => code === 0,
    );
    const { side, problem } = await trace(probe(change), (seen) => hasSeen(seen, "inside", sign, false));
    expect(problem).toBeUndefined();
    const has = (point: Seen["point"], what: Seen["sign"], out: boolean) =>
      hasSeen(side.seen, point, what, out);
    expect([
      has("inside", "probe", true),
      has("port", "probe", false),
      has("port", sign, true),
      has("inside", sign, false),
    ]).toEqual([...[true, true, true, true]]);
    expect([
      has("inside", "probe", false),
      has("port", "probe", true),
      has("overlay", "probe", true),
    ]).toEqual([false, false, false]);
    expect([side.exposed, side.forward, side.unfiltered, side.end?.id]).toEqual([
      false,
      null,
      "not followed",
      "c1",
    ]);
    expect(side.seen.find(({ point }) => point === "port")?.link).toBe("vethweplc1");
    // The other end is elsewhere, by the number of its link.
    expect(
      side.seen.some(
        ({ point, link }) => point === "elsewhere" && link === String(linkByName(nl, "vethweplc2")?.index),
      ),
    ).toBe(true);
  });

  test("probes go on until the router of the other end, however late, has ended its look", async () => {
    // To the command, which has this clock, a router may be late by as much.
    const speed = 20;
    const fast: Clock = {
      now: () => systemClock.now() * speed,
      wall: () => systemClock.wall(),
      after: (ms, fn) => systemClock.after(ms / speed, fn),
    };
    const [US, PEER] = ["00:00:00:00:00:01", "00:00:00:00:00:02"];
    const Peers = [
      { Name: US, NickName: "one" },
      { Name: PEER, NickName: "two", ShortID: 2 },
    ];
    const report = {
      Router: { Name: US, NickName: "one", Peers, Connections: [], Targets: [], UnicastRoutes: [] },
      IPAM: { Range: "10.32.0.0/12", Entries: [{ Token: "10.32.0.2", Size: 1, Peer: PEER }] },
    };
    const lookLate = async (id: number) => {
      const due = fast.now() + 5 * LOOK_MS;
      await eventually("the router looks late", fast.now, (now) => now > due);
      ip("link", "set", "vethweplc2", "master", "weave");
      const done = (seen: readonly Seen[]) => hasSeen(seen, "inside", "answer", true);
      const options = { address: TWO, place: place(TWO), probe: probe({ id }), rules: false, done };
      return look(options, systemClock, 5_000);
    };
    const api: ApiClient = async (_method, asked, { body } = {}) => {
      if (asked === "/report") return JSON.stringify(report);
      if (asked === "/ip") return JSON.stringify({ owned: [{ containerid: "c1", addrs: ["10.32.0.1/12"] }] });
      const question = JSON.parse(String(body));
      if (question.kind === "locate")
        return JSON.stringify({ container: { id: "c2", address: "10.32.0.2" } });
      return JSON.stringify(await lookLate(question.id));
    };
    ip("link", "set", "vethweplc2", "nomaster");
    const judged = spyOn(path, "pathOf");
    spies.push(judged);
    await traceAll(
      { from: "c1", to: "10.32.0.2", protocol: "icmp", port: 0 },
      {
        ...{ api, clock: fast, random: seededRandom(1n), runtimes: [] },
        probing() {},
        pod: async () => expect.unreachable(),
        policy: async () => undefined,
      },
    );
    const [evidence = expect.unreachable()] = judged.mock.calls[0] ?? [];
    const { near, far } = evidence;
    expect([
      hasSeen(far?.seen ?? [], "inside", "probe", false),
      hasSeen(near.seen, "inside", "answer", false),
    ]).toEqual([true, true]);
  });

  test("packets of others, or of another number, are not seen; a large one is as large as asked, and refused where it is too large", async () => {
    const other = capture(probe({ id: 78 }));
    const own = inNetns(place(TWO).container.netns, () => capture(probe({ id: 79 })));
    try {
      const { problem } = await trace(
        probe({ id: 79 }),
        (seen) => hasSeen(seen, "inside", "answer", false),
        1_300,
      );
      expect([problem, other.read().filter(({ sign }) => sign !== "arp")]).toEqual([undefined, []]);
      const signs = own.read().filter(({ sign }) => sign !== "arp");
      expect(signs.map(({ sign, out }) => [sign, out])).toEqual([
        ["probe", false],
        ["answer", true],
      ]);
      expect(own.read()).toEqual([]);
      const from = sender(place(ONE).container.netns, probe({ id: 79 }), 9_000);
      expect(from.send(1)).toMatch(/too long/i);
      from.close();
    } finally {
      other.close();
      own.close();
      own.close();
    }
    expect(own.read()).toEqual([]);
  });

  test("frames to other hosts go nowhere without the overlay's programs", () => {
    expect([overlayLinks(nl), forwarding(nl, "02:00:00:00:00:01")]).toEqual([[], null]);
    for (const name of ["vxlan-6784", "sleeve-1", "xvxlan-1", "vxlan-x"])
      linkAdd(nl, { kind: "bridge", name, up: false });
    expect(
      overlayLinks(nl)
        .map(({ name }) => name)
        .sort(),
    ).toEqual(["sleeve-1", "vxlan-6784"]);
    expect(forwarding(nl, undefined)).toBeNull();
    for (const name of ["vxlan-6784", "sleeve-1", "xvxlan-1", "vxlan-x"]) ip("link", "del", name);
  });

  test("another router's question is answered with what the destination's side sees, by the report or by a look", async () => {
    const asked = lookQuestion(probe({ id: 80 }), 20_000);
    expect(v.safeParse(TraceQuestion, asked).success).toBe(false);
    const question = { ...asked, ms: 5_000 };
    expect([
      v.safeParse(TraceQuestion, question).success,
      v.safeParse(TraceQuestion, { ...question, ms: 5_001 }).success,
    ]).toEqual([true, false]);
    const known = { Netns: place(TWO).container.netns, Port: "vethweplc2", Addresses: ["10.32.0.2/24"] };
    for (const containers of [[known], [{ ...known, Port: "vethweplc1", Addresses: ["10.32.0.1/24"] }], []]) {
      const calls: string[] = [];
      const answer = traceAnswerer(async (_method, path) => {
        calls.push(decodeURIComponent(path));
        return JSON.stringify(containers);
      }, []);
      const looking = answer({ ...question, ms: 1 });
      const side = (await looking) as { end: { id: string } | null };
      expect([calls, side.end?.id]).toEqual([["/report?format={{json .Containers}}"], "c2"]);
    }
  });
});
