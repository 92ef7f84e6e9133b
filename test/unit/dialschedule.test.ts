// When an address is dialled, to the millisecond: back-off, its cap and its reset; and the maker that follows it.
import { describe, expect, spyOn, test } from "bun:test";
import { SimulatedClock } from "../../lib/clock/simulated.ts";
import { atOnce, Slices } from "../../lib/clock/slices.ts";
import { silentLog } from "../../lib/log/log.ts";
import { ConnectionMaker } from "../../lib/mesh/dial/maker.ts";
import { DialSchedule } from "../../lib/mesh/dial/schedule.ts";
import type { Reason } from "../../lib/mesh/dial/target.ts";
import { gossipedAddresses, type Known, type Topology, wantedAddresses } from "../../lib/mesh/dial/wanted.ts";
import { CollisionError, DialError, RefusedError, SelfConnectionError } from "../../lib/mesh/errors.ts";
import { nameFromNumber } from "../../lib/mesh/name.ts";
import { Peer, type PeerConnection } from "../../lib/mesh/peer.ts";
import type { Stream, StreamHandler } from "../../lib/mesh/transport.ts";
import { linksOf } from "../support/links.ts";

const at = (float: number) => ({ float: () => float, u64: () => 0n });
const failure = new Error("no answer");
const REFUSED = new RefusedError("another ring", "reset", "range");
const peer = (i: number) => new Peer({ ...Peer.placeholder(nameFromNumber(BigInt(i))), uid: BigInt(i) });
const COLLISION = new CollisionError(peer(1), peer(1), "10.0.0.2:6783");

describe("the schedule", () => {
  test("waits 250 ms after the first failure and half as much again after each, up to 6 min", () => {
    const schedule = new DialSchedule(at(0.5));
    let now = 1_000;
    let interval = 250;
    for (let i = 0; i < 30; i++) {
      schedule.begin("a", now);
      const next = schedule.failed("a", failure, now) ?? 0;
      expect(next - now).toBeCloseTo(interval, 6);
      expect(schedule.due("a", now)).toBe(next);
      interval = Math.min(interval * 1.5, 360_000);
      now = next;
    }
    expect(interval).toBe(360_000);
    expect([schedule.due("b", now), schedule.due("b", now, 70), schedule.due("a", now, 900_000)]).toEqual([
      now,
      now + 70,
      now + 900_000,
    ]);
  });

  test("spreads each wait from half to half as much again", () => {
    const waits = [0, 0.5, 0.999].map((float) => new DialSchedule(at(float)).failed("a", failure, 0));
    expect(waits.map((wait) => Math.round(wait ?? 0))).toEqual([125, 250, 375]);
  });

  test("begins anew, at once, after a connection of more than a minute alone", () => {
    for (const [lasted, wait] of [
      [60_000, 375],
      [60_001, 0],
    ] as const) {
      const schedule = new DialSchedule(at(0.5));
      schedule.failed("a", failure, 0);
      schedule.begin("a", 1_000);
      expect((schedule.failed("a", failure, 1_000 + lasted) ?? 0) - 1_000 - lasted).toBe(wait);
      // The next failure is the first again, or the third.
      schedule.begin("a", 70_000);
      expect((schedule.failed("a", failure, 70_000) ?? 0) - 70_000).toBe(wait === 0 ? 250 : 562.5);
    }
  });

  test("dials who was refused for what it is once a minute, and then goes on as before", () => {
    for (const refusal of [REFUSED, COLLISION]) {
      const schedule = new DialSchedule(at(0.5));
      schedule.failed("a", failure, 0);
      for (let i = 0; i < 3; i++) expect(schedule.failed("a", refusal, 1_000)).toBe(61_000);
      expect(schedule.failed("a", failure, 61_000)).toBe(61_375);
    }
    expect(new DialSchedule(at(0)).failed("a", REFUSED, 0)).toBe(30_000);
  });

  test("never dials ourself, and forgets what was reset", () => {
    const schedule = new DialSchedule(at(0.5));
    schedule.failed("a", failure, 0);
    expect(schedule.failed("a", new SelfConnectionError(), 0)).toBeUndefined();
    expect(schedule.failed("a", failure, 0)).toBe(250);
    schedule.reset("a");
    expect(schedule.due("a", 0)).toBe(0);
    expect(schedule.failed("a", failure, 0)).toBe(250);
  });

  test("remembers the 4,096 addresses dialled last", () => {
    const schedule = new DialSchedule(at(0.5));
    for (let i = 0; i < 4_096; i++) schedule.failed(`a${i}`, failure, 0);
    schedule.begin("a0", 0);
    schedule.failed("new", failure, 0);
    expect(["a0", "a1"].map((address) => schedule.failed(address, failure, 0))).toEqual([375, 250]);
  });
});

/** A maker on a network that is the test itself. */
function maker(options: { discovery?: boolean; limit?: number; name?: number } = {}) {
  const clock = new SimulatedClock(1_000_000);
  const dialled: string[] = [];
  const attempts = new Map<
    string,
    { opened: (stream: Stream) => StreamHandler; failed(error: Error): void }
  >();
  const cancelled: string[] = [];
  const addresses = new Map<string, string | Error>();
  const peers: Peer[] = [];
  const ourself = peer(options.name ?? 5);
  const lines: string[] = [];
  /** When the topology was looked through. */
  const looks: number[] = [];
  const subject = new ConnectionMaker({
    host: { slices: new Slices(clock) } as never,
    clock,
    random: at(0.5),
    log: { ...silentLog, info: (text) => lines.push(text) },
    transport: {
      connect(address, opened, failed) {
        dialled.push(address);
        attempts.set(address, { opened, failed });
        return () => cancelled.push(address);
      },
      async resolve(host) {
        const found = addresses.get(host) ?? (/^\d/.test(host) ? host : new Error(`no ${host}`));
        if (found instanceof Error) throw found;
        return found;
      },
    },
    port: 6783,
    discovery: options.discovery ?? true,
    limit: options.limit ?? 200,
    peers: () => {
      looks.push(clock.now());
      return peers;
    },
    ourself,
  });
  const fail = (address: string, error: Error = failure) => {
    const attempt = attempts.get(address);
    attempts.delete(address);
    attempt?.failed(error);
  };
  /** Something that stands for a connection of ours. */
  const connection = (remote: Peer, address: string, outbound = true) =>
    ({
      remote,
      address,
      outbound,
      established: true,
      knownRemote: remote,
      remoteIp: address.split(":")[0],
    }) as unknown as Parameters<ConnectionMaker["created"]>[0];
  return {
    ...{ clock, subject, attempts, cancelled, addresses, peers, ourself, fail, connection, lines, looks },
    dialled: () => dialled.splice(0),
  };
}

describe("the maker", () => {
  test("dials a named peer within 10 ms, again by the schedule, and at once when it is named again", async () => {
    const { subject, clock, dialled, fail } = maker();
    await subject.connect(["10.0.0.1"], false);
    clock.advance(9);
    expect(dialled()).toEqual([]);
    clock.advance(1);
    expect(dialled()).toEqual(["10.0.0.1:6783"]);
    for (let i = 0; i < 12; i++) {
      fail("10.0.0.1:6783");
      clock.advance(60_000);
    }
    dialled();
    fail("10.0.0.1:6783");
    const target = subject.targets.get("10.0.0.1:6783");
    expect([target?.state, (target?.tryAfter ?? 0) - clock.now() > 10_000]).toEqual(["waiting", true]);
    await subject.connect(["10.0.0.1"], false);
    clock.advance(10);
    expect(dialled()).toEqual(["10.0.0.1:6783"]);
    // From the first interval.
    fail("10.0.0.1:6783");
    clock.advance(270);
    expect(dialled()).toEqual(["10.0.0.1:6783"]);
  });

  test("naming a peer that is being dialled, or connected, begins nothing anew", async () => {
    const { subject, clock, dialled, cancelled, connection } = maker();
    await subject.connect(["10.0.0.1", "10.0.0.2:7000"], false);
    clock.advance(10);
    expect(dialled().sort()).toEqual(["10.0.0.1:6783", "10.0.0.2:7000"]);
    subject.created(connection(peer(2), "10.0.0.2:7000"));
    expect(subject.targets.get("10.0.0.2:7000")?.state).toBe("connected");
    await subject.connect(["10.0.0.1", "10.0.0.2:7000"], false);
    clock.advance(60_000);
    expect([dialled(), cancelled]).toEqual([[], []]);
  });

  test("tells which names do not resolve, looks them up again, and dials a peer that has moved", async () => {
    const { subject, clock, dialled, addresses, fail } = maker();
    expect(await subject.connect(["h1", "10.0.0.2"], false)).toEqual([
      { peer: "h1", problem: expect.stringMatching(/^cannot resolve peer "h1": /) },
    ]);
    expect(subject.unresolved()).toEqual(["h1"]);
    expect(await subject.resolveAgain()).toEqual([]);
    addresses.set("h1", "10.0.0.9");
    expect(await subject.resolveAgain()).toEqual(["h1"]);
    clock.advance(10);
    expect(dialled().sort()).toEqual(["10.0.0.2:6783", "10.0.0.9:6783"]);
    fail("10.0.0.9:6783");
    addresses.set("h1", "10.0.0.8");
    expect(await subject.resolveAgain()).toEqual(["h1"]);
    clock.advance(10);
    expect(dialled()).toEqual(["10.0.0.8:6783"]);
    expect([...subject.targets.keys()].sort()).toEqual(["10.0.0.2:6783", "10.0.0.8:6783"]);
    addresses.set("h1", new Error("gone"));
    // What is known of it stays.
    await subject.resolveAgain();
    expect(subject.namedTargets().map(({ name, address }) => `${name} ${address}`)).toEqual([
      "h1 10.0.0.8:6783",
      "10.0.0.2 10.0.0.2:6783",
    ]);
    await expect(subject.connect(["10.0.0.3", "10.0.0.1:99999"], true)).rejects.toThrow("should be HOST");
    expect(subject.directPeers()).toEqual(["h1", "10.0.0.2"]);
    await subject.connect(["10.0.0.3"], true);
    expect(subject.directPeers()).toEqual(["10.0.0.3"]);
  });

  test("forgets a peer: it is not dialled again", async () => {
    const { subject, clock, dialled, fail } = maker();
    await subject.connect(["10.0.0.1", "10.0.0.2"], false);
    clock.advance(10);
    fail("10.0.0.1:6783");
    subject.forget(["10.0.0.1"]);
    dialled();
    clock.advance(600_000);
    expect([dialled(), [...subject.targets.keys()]]).toEqual([[], ["10.0.0.2:6783"]]);
  });

  test("logs the first attempt at what gossip tells of, and each at a named peer", async () => {
    const { subject, clock, fail, lines, peers, dialled } = maker();
    peers.push(known(2, "10.0.0.2:6783"));
    await subject.connect(["10.0.0.1"], false);
    const attempted = () => lines.splice(0).filter((line) => line === "attempting connection").length;
    for (const expected of [2, 1, 1]) {
      clock.advance(20_000);
      expect(attempted()).toBe(expected);
      for (const address of dialled()) fail(address);
    }
  });

  /** A peer that gossip tells of, called by another at this address. */
  function known(i: number, address: string, outbound = true): Peer {
    const remote = peer(i);
    const other = peer(100 + i);
    const link: PeerConnection = { remote, address, outbound, established: true };
    linksOf(other).set(remote.name, link);
    return Object.assign(other, { told: remote });
  }

  test("dials what gossip tells of at once where its name is less, after 2 s where it is greater", () => {
    const { subject, clock, dialled, peers } = maker({ name: 5 });
    peers.push(known(4, "10.0.0.4:6783"), known(6, "10.0.0.6:6783"));
    subject.refresh();
    clock.advance(10);
    expect(dialled()).toEqual(["10.0.0.4:6783"]);
    clock.advance(1_999);
    expect(dialled()).toEqual([]);
    clock.advance(1);
    expect(dialled()).toEqual(["10.0.0.6:6783"]);
  });

  test("dials named peers whatever the limit, others up to it, those under way counted", async () => {
    const { subject, clock, dialled, peers, connection, fail } = maker({ limit: 3, name: 99 });
    for (let i = 1; i <= 6; i++) peers.push(known(i, `10.0.0.${i}:6783`));
    subject.created(connection(peer(50), "10.0.0.50:6783"));
    subject.refresh();
    clock.advance(20);
    const first = dialled();
    expect(first).toHaveLength(2);
    clock.advance(60_000);
    expect(dialled()).toEqual([]);
    await subject.connect(["10.0.0.77"], false);
    clock.advance(20);
    expect(dialled()).toEqual(["10.0.0.77:6783"]);
    // A failed one makes room for another.
    fail(first[0] ?? "");
    clock.advance(20);
    subject.created(connection(peer(51), "10.0.0.51:6783"));
    subject.created(connection(peer(52), "10.0.0.52:6783"));
    dialled();
    clock.advance(600_000);
    expect(dialled()).toEqual([]);
  });

  test("begins 64 attempts at once at what gossip tells of, then 20 a second", () => {
    const { subject, clock, dialled, peers } = maker({ limit: 1_000, name: 99 });
    for (let i = 1; i <= 90; i++) peers.push(known(i, `10.0.1.${i}:6783`));
    subject.refresh();
    clock.advance(10);
    expect(dialled()).toHaveLength(64);
    clock.advance(1_000);
    const second = dialled().length;
    expect([second >= 19, second <= 21]).toEqual([true, true]);
  });

  test("looks through the topology once for all of these attempts, and the later the larger it is", () => {
    const { subject, clock, dialled, peers, looks } = maker({ limit: 2_000, name: 99 });
    for (let i = 0; i < 1_000; i++) peers.push(known(i, `10.0.${i >> 8}.${i & 255}:6783`));
    subject.refresh();
    const due = clock.now() + 10;
    clock.advance(30_000);
    expect([dialled().length > 600, looks]).toEqual([true, [due]]);
    const [crowded] = peers;
    for (let i = 0; i < 100_000; i++)
      linksOf(crowded ?? expect.unreachable()).set(nameFromNumber(BigInt(i)), {
        ...{ remote: peers[0] as Peer, address: "10.9.9.9:1", outbound: true, established: true },
      });
    for (let i = 0; i < 20; i++) {
      subject.refresh();
      clock.advance(100);
    }
    expect(looks.length).toBeLessThan(8);
  });

  test("seeks no more peers without discovery", () => {
    const { subject, clock, dialled, peers, connection } = maker({ discovery: false, name: 99 });
    peers.push(known(1, "10.0.0.1:6783"));
    subject.redial(connection(peer(7), "10.0.0.7:6783"));
    subject.refresh();
    clock.advance(60_000);
    expect(dialled()).toEqual([]);
  });

  test("dials a peer that this host lost for 10 min, at once, unless it is back or forgotten", async () => {
    const { subject, clock, dialled, connection, fail } = maker();
    const lost = connection(peer(2), "10.0.0.2:40000", false);
    subject.created(lost);
    subject.redial(lost);
    subject.ended(lost, failure);
    clock.advance(10);
    expect(dialled()).toEqual(["10.0.0.2:6783"]);
    const began = clock.now();
    let last = 0;
    for (let i = 0; i < 60 && subject.targets.size > 0; i++) {
      fail("10.0.0.2:6783");
      clock.advance(30_000);
      if (dialled().length > 0) last = clock.now() - began;
    }
    expect([last > 7 * 60_000, last <= 10.5 * 60_000]).toEqual([true, true]);
    expect(subject.targets.size).toBe(0);
    subject.redial(lost);
    subject.established(lost);
    subject.refresh();
    clock.advance(1_000);
    expect(dialled()).toEqual([]);
    await subject.connect(["10.0.0.2:6783"], false);
    subject.redial(lost);
    subject.forget(["10.0.0.2:6783"]);
    clock.advance(1_000);
    expect(dialled()).toEqual([]);
  });

  test.each([true, false])(
    "dials it soon again if it refuses us once, however short connections were before; named: %p",
    async (named) => {
      const { subject, clock, dialled, connection, fail } = maker({ discovery: !named });
      if (named) await subject.connect(["10.0.0.2"], false);
      const inbound = () => connection(peer(2), "10.0.0.2:40000", false);
      for (let i = 0; i < 12; i++) {
        const short = inbound();
        subject.created(short);
        clock.advance(5_000);
        subject.ended(short, failure);
      }
      const lost = inbound();
      subject.created(lost);
      clock.advance(1_000);
      dialled();
      subject.redial(lost);
      subject.ended(lost, failure);
      clock.advance(400);
      expect(dialled()).toEqual(["10.0.0.2:6783"]);
      fail("10.0.0.2:6783");
      clock.advance(1_000);
      expect(dialled()).toEqual(["10.0.0.2:6783"]);
    },
  );

  test("dials all again, at once, when the network of this host has changed, but for ourself and refused ones", async () => {
    const { subject, clock, dialled, cancelled, fail, connection } = maker();
    await subject.connect(["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5", "10.0.0.6"], false);
    clock.advance(10);
    dialled();
    for (let i = 0; i < 12; i++) {
      fail("10.0.0.1:6783");
      clock.advance(30_000);
    }
    fail("10.0.0.1:6783");
    fail("10.0.0.3:6783", new SelfConnectionError());
    fail("10.0.0.4:6783", REFUSED);
    fail("10.0.0.5:6783", COLLISION);
    subject.created(connection(peer(6), "10.0.0.6:6783"));
    dialled();
    subject.retry();
    expect(cancelled).toEqual(["10.0.0.2:6783"]);
    clock.advance(10);
    expect(dialled().sort()).toEqual(["10.0.0.1:6783", "10.0.0.2:6783"]);
    fail("10.0.0.1:6783");
    clock.advance(270);
    expect(dialled()).toEqual(["10.0.0.1:6783"]);
    expect(subject.named().get("10.0.0.3")?.name).toBe(peer(5).name);
    subject.stop();
    fail("10.0.0.1:6783");
    subject.retry();
    clock.advance(600_000);
    expect(dialled()).toEqual([]);
  });

  test.each(["a check", "a retry"])("does nothing after its end, although %s was due", async (due) => {
    const { subject, clock, dialled, fail } = maker();
    let fired = 0;
    const { after } = clock;
    spyOn(clock, "after").mockImplementation((ms, fn) =>
      after.call(clock, ms, () => {
        fired++;
        fn();
      }),
    );
    await subject.connect(["10.0.0.1"], false);
    if (due === "a retry") {
      clock.advance(10);
      fail("10.0.0.1:6783");
      clock.advance(10);
      expect(dialled()).toEqual(["10.0.0.1:6783"]);
    }
    subject.stop();
    subject.refresh();
    fired = 0;
    clock.advance(3_600_000);
    expect([dialled(), fired]).toEqual([[], 0]);
  });

  test("leaves out the source address of an inbound connection that failed, unless several came from it", () => {
    const { subject, connection } = maker();
    const backOff = () => subject.limits().find(({ name }) => name === "dial-back-offs")?.value;
    const [one, two] = [40_000, 40_001].map((port, i) => connection(peer(2 + i), `10.0.0.2:${port}`, false));
    if (!one || !two) return expect.unreachable();
    subject.ended(one, failure);
    expect(backOff()).toBe(0);
    subject.created(two);
    expect(backOff()).toBe(1);
    subject.created(connection(peer(4), "10.0.0.3:6783"));
    expect(backOff()).toBe(1);
    const { subject: other } = maker();
    for (const each of [one, two]) (other.connections as Set<unknown>).add(each);
    other.created(one);
    expect(other.limits().find(({ name }) => name === "dial-back-offs")?.value).toBe(0);
  });

  test("counts connections that end, but for those to ourself", () => {
    const { subject, connection } = maker();
    for (const error of [failure, new SelfConnectionError(), new DialError("x", "other", "no")])
      subject.ended(connection(peer(2), "10.0.0.2:6783"), error);
    expect(subject.terminations).toBe(2);
  });

  test("finds who answers at a named address: by its own connection, or by one from that host", async () => {
    const { subject, connection } = maker();
    await subject.connect(["10.0.0.1", "10.0.0.2:7000"], false);
    const [pending, called] = [
      { ...connection(peer(1), "10.0.0.1:6783"), established: false },
      connection(peer(2), "10.0.0.2:40000", false),
    ];
    subject.created(pending as typeof called);
    subject.created(called);
    expect(subject.namedTargets().map((target) => target.connection?.remote.name)).toEqual([
      peer(1).name,
      peer(2).name,
    ]);
    expect([...subject.named().values()].map((found) => found?.name)).toEqual([undefined, peer(2).name]);
    subject.created(connection(peer(3), "10.0.0.1:40001", false));
    expect(subject.named().get("10.0.0.1")?.name).toBe(peer(3).name);
  });
});

test("wanted addresses: each once, by the first reason, none that is connected", () => {
  const ourself = peer(5);
  const open = (remote: Peer, address: string, outbound: boolean) =>
    ({ remote, address, outbound }) as unknown as Known["connections"] extends Iterable<infer C> ? C : never;
  const announce = (by: Peer, remote: Peer, address: string, outbound = true) => {
    linksOf(by).set(remote.name, { remote, address, outbound, established: true });
    return by;
  };
  const [one, six, eight, nine] = [peer(1), peer(6), peer(8), peer(9)];
  const wanted = (known: Partial<Omit<Known, "gossiped"> & Topology>): [string, Reason][] => {
    const topology = {
      ...{ ourself, connections: [], peers: [], port: 6783, random: at(0.5), ...known },
      ...{ targets: { has: () => false } },
    };
    const { targets } = atOnce(gossipedAddresses(topology));
    return [...wantedAddresses({ connections: [], named: [], lost: [], ...known, gossiped: targets })];
  };
  const named = (address: string, anyPort = true) => ({ address, ip: address.split(":")[0] ?? "", anyPort });
  expect(
    wanted({
      named: [
        named("10.0.0.1:6783"),
        named("10.0.0.2:6783"),
        named("10.0.0.2:7000", false),
        named("10.0.0.3:6783"),
      ],
      lost: [
        [one.name, "10.0.0.1:6783"],
        [six.name, "10.0.0.6:6783"],
        [eight.name, "10.0.0.8:6783"],
      ],
      connections: [open(nine, "10.0.0.2:40000", false), open(eight, "10.0.0.3:6783", true)],
    }),
  ).toEqual([
    ["10.0.0.1:6783", "named"],
    ["10.0.0.2:7000", "named"],
    ["10.0.0.6:6783", "lost"],
  ]);
  expect(
    wanted({
      peers: [
        announce(announce(peer(20), one, "10.0.0.1:7001"), six, "10.0.0.6:40000", false),
        one,
        six,
        ourself,
      ],
    }).sort(),
  ).toEqual([
    ["10.0.0.1:7001", "ours to call"],
    ["10.0.0.6:6783", "theirs to call"],
  ]);
  // In steps, so that others have their turns.
  const large = Array.from({ length: 100 }, (_, i) => peer(1_000 + i));
  for (const each of large)
    for (const other of large) if (each !== other) announce(each, other, "10.9.9.9:1");
  const none = { has: () => false };
  const work = gossipedAddresses({
    ...{ ourself, connections: [], peers: large, port: 6783, random: at(0.5), targets: none },
  });
  let steps = 0;
  while (!work.next().done) steps++;
  expect(steps).toBeGreaterThan(9_900 / 300);
  // With few connections a router looks for few, and another for others.
  const few = large.map((each, i) => {
    const by = peer(2_000 + i);
    announce(by, each, `10.9.${i}.9:1`);
    return by;
  });
  const [first, middle] = [0, 0.5].map((start) =>
    atOnce(
      gossipedAddresses({
        ...{ ourself, connections: [], peers: few, port: 6783, random: at(0.5), targets: none },
        ...{ enough: 3, start },
      }),
    ),
  );
  expect([...(first?.targets.keys() ?? [])]).toEqual(["10.9.0.9:1", "10.9.1.9:1", "10.9.2.9:1"]);
  expect([...(middle?.targets.keys() ?? [])]).toEqual(["10.9.50.9:1", "10.9.51.9:1", "10.9.52.9:1"]);
  // Whether connections are looked through by those who have them, or by those who are missed.
  for (const others of [1, 40]) {
    const crowd = Array.from({ length: others }, (_, i) => peer(100 + i));
    for (const each of crowd)
      for (const other of crowd) if (each !== other) announce(each, other, "10.9.9.9:1");
    announce(crowd[0] ?? ourself, one, "10.0.0.1:6783");
    announce(crowd[0] ?? ourself, ourself, "10.0.0.5:6783");
    const found = wanted({
      peers: [...crowd, one, ourself],
      connections: crowd.map((each, i) => open(each, `10.1.0.${i}:6783`, true)),
    });
    expect(found).toEqual([["10.0.0.1:6783", "ours to call"]]);
  }
});
