// Small parts of the mesh at their bounds: at each limit, one below and one above it.
import { describe, expect, test } from "bun:test";
import { seededRandom } from "../../lib/clock/random.ts";
import { SimulatedClock } from "../../lib/clock/simulated.ts";
import { atOnce, finish } from "../../lib/clock/slices.ts";
import { logTo } from "../../lib/log/log.ts";
import { BufferBudget, MAX_BUFFERED, MAX_BUFFERED_OF_ONE } from "../../lib/mesh/bufferbudget.ts";
import {
  ClosedError,
  ConnectionError,
  ConnectionLimitError,
  HandshakeError,
  RefusedError,
} from "../../lib/mesh/errors.ts";
import type { Gossiper } from "../../lib/mesh/gossip.ts";
import { ConnectionLimit, prunable } from "../../lib/mesh/limit.ts";
import { LostPeers } from "../../lib/mesh/lostpeers.ts";
import { nameFromNumber, type PeerName } from "../../lib/mesh/name.ts";
import { Peer } from "../../lib/mesh/peer.ts";
import { peersGoneLog } from "../../lib/mesh/peersgonelog.ts";
import { ratedLog } from "../../lib/mesh/ratedlog.ts";
import { Refusals } from "../../lib/mesh/refusals.ts";
import { RefusedHandshakes } from "../../lib/mesh/refusedhandshakes.ts";
import { RouteNotifier } from "../../lib/mesh/routenotifier.ts";
import { randomNeighbours } from "../../lib/mesh/routes.ts";
import { drawShortId, ShortIds } from "../../lib/mesh/shortid.ts";
import { surrogate } from "../../lib/mesh/surrogate.ts";
import { connectionCause, connectionTrouble } from "../../lib/mesh/trouble.ts";
import { vitalsOf } from "../../lib/mesh/vitals.ts";
import { linksOf } from "../support/links.ts";
import { randomOf } from "../support/seed.ts";

const MINUTE = 60_000;
const name = (i: number) => nameFromNumber(BigInt(i));
const peer = (i: number, shortId?: number) =>
  new Peer({
    ...Peer.placeholder(name(i)),
    nickName: `h${i}`,
    uid: BigInt(i),
    ...(shortId !== undefined && { shortId, hasShortId: true }),
  });

function connect(a: Peer, b: Peer): void {
  for (const [from, to] of [
    [a, b],
    [b, a],
  ] as const)
    linksOf(from).set(to.name, { remote: to, address: "", outbound: true, established: true });
}

describe("the limit of connections", () => {
  /** Ourself with neighbours 1 … `count`, of which the first `ring` are also connected to each other in a circle. */
  function hub(count: number, ring = count) {
    const ourself = peer(9_999);
    const peers = Array.from({ length: count }, (_, i) => peer(i + 1));
    for (const each of peers) connect(ourself, each);
    for (let i = 0; i < ring; i++) {
      const [a, b] = [peers[i], peers[(i + 1) % ring]];
      if (a && b && a !== b) connect(a, b);
    }
    return ourself;
  }

  const limited = (ourself: Peer, max: number) => {
    const closed: [Peer, Error][] = [];
    const limit = new ConnectionLimit(ourself, max, (other, error) => {
      closed.push([other, error]);
      linksOf(ourself).delete(other.name);
      linksOf(other).delete(ourself.name);
    });
    return { limit, closed };
  };

  test.each([
    [9, 10, 0],
    [10, 10, 0],
    [11, 10, 1],
    [20, 10, 1],
    [21, 10, 2],
    [30, 10, 2],
    [31, 10, 3],
  ])("sheds a tenth of what is over it, rounded up: of %d at %d, %d", (count, max, expected) => {
    const { limit, closed } = limited(hub(count), max);
    limit.shed();
    expect(closed).toHaveLength(expected);
    for (const [, error] of closed) expect(error.message).toBe(`Connection limit reached (${max})`);
  });

  test("sheds nothing that others cannot stand in for", () => {
    const { limit, closed } = limited(hub(30, 0), 10);
    limit.shed();
    expect(closed).toEqual([]);
  });

  test("turns away whom others reach, and makes room for whom only we reach, up to 4,096", () => {
    const below = limited(hub(9), 10);
    below.limit.admit(true, "10.9.0.1");
    below.limit.admit(false, "10.9.0.1");
    expect(below.closed).toEqual([]);
    const at = limited(hub(10), 10);
    expect(() => at.limit.admit(true, "10.9.0.1")).toThrow(new ConnectionLimitError(10));
    expect(at.closed).toEqual([]);
    at.limit.admit(false, "10.9.0.1");
    expect(at.closed).toHaveLength(1);
    const needed = limited(hub(10, 0), 10);
    needed.limit.admit(false, "10.9.0.1");
    expect(needed.closed).toEqual([]);
    const full = limited(hub(4_095, 0), 10);
    full.limit.admit(false, "10.9.0.1");
    connect(full.limit["ourself"], peer(5_000));
    expect(() => full.limit.admit(false, "10.9.0.1")).toThrow(new ConnectionLimitError(4_096));
  });

  test("lets an address that is many peers displace its own alone, and be 128 at most", () => {
    const ourself = hub(200, 200);
    let i = 0;
    for (const [key, connection] of ourself.connections)
      linksOf(ourself).set(key, { ...connection, address: `10.1.${i++}.1:6783` });
    const { limit, closed } = limited(ourself, 200);
    const sybil = (number: number) => {
      limit.admit(false, "10.9.0.1");
      const made = peer(number);
      connect(ourself, made);
      linksOf(ourself).set(made.name, {
        remote: made,
        address: "10.9.0.1:1000",
        outbound: false,
        established: true,
      });
      // It says that it is connected to all, so that all others seem to be spare.
      for (const other of ourself.connections.values())
        linksOf(made).set(other.remote.name, { ...other, remote: other.remote });
    };
    let refused = 0;
    for (let number = 10_000; number < 10_500; number++) {
      try {
        sybil(number);
      } catch (error) {
        expect(error).toBeInstanceOf(ConnectionLimitError);
        refused++;
      }
    }
    const honest = [...ourself.connections.values()].filter(({ address }) => address.startsWith("10.1."));
    // The first of an address is as good as any other peer.
    expect(honest.length).toBe(199);
    expect(refused + closed.length).toBe(500);
    expect(limit.limits()[0]).toMatchObject({ name: "connections", value: 200, max: 200 });
    const few = limited(hub(9), Number.POSITIVE_INFINITY);
    for (let number = 20_000; number < 20_128; number++) {
      few.limit.admit(true, "10.9.0.2");
      const made = peer(number);
      connect(few.limit["ourself"], made);
      linksOf(few.limit["ourself"]).set(made.name, {
        remote: made,
        address: "10.9.0.2:7",
        outbound: false,
        established: true,
      });
    }
    expect(() => few.limit.admit(true, "10.9.0.2")).toThrow(new ConnectionLimitError(128));
    few.limit.admit(true, "10.9.0.3");
  });

  test("finds the connection to spare as a search without it does, in any topology", () => {
    const random = randomOf("spare connections");
    for (let run = 0; run < 300; run++) {
      const peers = Array.from({ length: 2 + random.below(7) }, (_, i) => peer(i + 1));
      const [ourself] = peers;
      if (!ourself) continue;
      for (const a of peers) for (const b of peers) if (a !== b && random.below(4) === 0) connect(a, b);
      const reaches = (without: Peer) => {
        const seen = new Set(
          [...ourself.connections.values()].map(({ remote }) => remote).filter((p) => p !== without),
        );
        for (const at of seen)
          for (const { remote } of at.connections.values()) if (remote !== ourself) seen.add(remote);
        return seen.has(without);
      };
      const spare = [...ourself.connections.values()].map(({ remote }) => remote).filter(reaches);
      const most = Math.max(...spare.map(({ connections }) => connections.size));
      expect(prunable(ourself)).toBe(spare.find(({ connections }) => connections.size === most));
    }
  });
});

describe("the budget of buffered bytes", () => {
  /** Holders of this budget, and those that were closed. */
  function subject(max = 100) {
    const budget = new BufferBudget(max);
    const closed: string[] = [];
    const holder = (name: string, remoteIp: string) => {
      const each = {
        remoteIp,
        shutdown(error: Error) {
          closed.push(name);
          reasons.push(error.message);
          budget.hold(each, 0);
        },
      };
      return each;
    };
    const reasons: string[] = [];
    return { budget, holder, reasons, closed: () => closed.splice(0), held: () => budget.limit.value };
  }

  test("closes the largest holder above the limit, of equal ones the one that began to hold bytes first", () => {
    const { budget, holder, closed, held, reasons } = subject();
    const [a, b] = [holder("a", "10.0.0.1"), holder("b", "10.0.0.2")];
    budget.hold(a, 60);
    budget.hold(b, 40);
    expect([closed(), held()]).toEqual([[], 100]);
    budget.hold(b, 41);
    expect([closed(), held()]).toEqual([["a"], 41]);
    budget.hold(a, 41);
    budget.hold(a, 60);
    expect([closed(), held()]).toEqual([["a"], 41]);
    budget.hold(a, 41);
    budget.hold(holder("c", "10.0.0.3"), 41);
    expect([closed(), held()]).toEqual([["b"], 82]);
    expect(budget.limit).toEqual({ name: "buffered-bytes", value: 82, max: 100, refused: 3 });
    expect(reasons[0]).toBe("more than 100 bytes buffered for all peers, most of them for this address");
    expect(budget.notes()).toEqual(["82 bytes buffered for peers; the limit is 100"]);
  });

  test("closes connections of the address that holds most, until the limit is met", () => {
    const { budget, holder, closed, held } = subject();
    const honest = holder("honest", "10.0.0.2");
    budget.hold(honest, 30);
    for (const [i, bytes] of [9, 11, 10, 11, 10, 10].entries())
      budget.hold(holder(`${i}`, "10.0.0.1"), bytes);
    expect([closed(), held()]).toEqual([[], 91]);
    budget.hold(honest, 48);
    expect([closed(), held()]).toEqual([["1"], 98]);
    budget.hold(honest, 60);
    expect([closed(), held()]).toEqual([["honest"], 50]);
    for (let i = 0; i < 9; i++) budget.hold(holder(`more ${i}`, "10.0.0.3"), 6);
    expect(closed()).toEqual(["more 0"]);
    budget.hold(honest, 20);
    // Two of them are not enough.
    expect([closed(), held()]).toEqual([["3", "more 1", "more 2"], 95]);
  });

  test("tells what fits, and counts what does not", () => {
    const { budget, holder, closed } = subject();
    budget.hold(holder("a", "10.0.0.1"), 60);
    expect([budget.fits(40), budget.fits(41), closed()]).toEqual([true, false, []]);
    expect(budget.limit.refused).toBe(1);
  });

  test("one connection holds a part of it, while others have room", () => {
    const { budget, holder, closed } = subject(MAX_BUFFERED);
    const one = holder("one", "10.0.0.1");
    budget.hold(one, MAX_BUFFERED_OF_ONE);
    expect(closed()).toEqual([]);
    budget.hold(one, MAX_BUFFERED_OF_ONE + 1);
    expect([closed(), budget.limit.value]).toEqual([["one"], 0]);
  });
});

test("of peers that are gone 50 a minute are named, the others counted", () => {
  const clock = new SimulatedClock(5_000);
  const [lines, warnings]: [string[], string[]] = [[], []];
  const log = logTo((_level, text, fields) => lines.push(`${text} ${fields["peer"]}`));
  const named = peersGoneLog(clock, log, (_kind, text) => warnings.push(text));
  const gone = (peers: readonly Peer[]) => [...named(peers)];
  gone([peer(1), peer(2)]);
  expect(lines).toEqual([
    `removed an unreachable peer ${name(1)}(h1)`,
    `removed an unreachable peer ${name(2)}(h2)`,
  ]);
  gone(Array.from({ length: 48 }, (_, i) => peer(i)));
  expect([lines.length, warnings]).toEqual([50, []]);
  gone([peer(3), peer(4)]);
  expect([lines.length, warnings]).toEqual([50, ["removed 2 more unreachable peers"]]);
  clock.advance(MINUTE);
  gone([peer(5)]);
  expect(lines).toHaveLength(50);
  clock.advance(1);
  gone([peer(6)]);
  expect(lines.at(-1)).toContain("h6");
});

test("info lines alone are limited", () => {
  const clock = new SimulatedClock();
  const lines: string[] = [];
  const log = ratedLog(
    logTo((level, text) => lines.push(`${level} ${text.length}`)),
    clock,
  );
  const long = "x".repeat(100_000);
  for (let i = 0; i < 5; i++) log.info(long);
  expect(lines.splice(0)).toEqual(Array(3).fill("info 100000"));
  for (const level of ["debug", "warning", "error"] as const) log[level](long);
  expect(lines).toEqual(["debug 100000", "warning 100000", "error 100000"]);
});

test("changes of routes are told together: 10 ms after the first, and 100 ms apart", () => {
  const clock = new SimulatedClock(1_000);
  const told: number[] = [];
  const notifier = new RouteNotifier(clock, () => told.push(clock.now() - 1_000));
  notifier.schedule();
  notifier.schedule();
  clock.advance(9);
  expect(told).toEqual([]);
  clock.advance(1);
  notifier.schedule();
  clock.advance(50);
  notifier.schedule();
  clock.advance(500);
  expect(told).toEqual([10, 110]);
  notifier.schedule();
  clock.advance(10);
  expect(told).toEqual([10, 110, 570]);
  notifier.schedule();
  notifier.stop();
  clock.advance(1_000);
  expect(told).toHaveLength(3);
});

describe("a surrogate of unknown channels", () => {
  const gossiped = (gossiper: Gossiper, message: Uint8Array) => finish(gossiper.onGossip(message, name(1)));
  const gossip = (clock: SimulatedClock) => {
    const relays = surrogate(clock, 1_000).gossiper;
    return (channel: string, ...bytes: number[]) => atOnce(gossiped(relays(channel), Uint8Array.from(bytes)));
  };

  test("passes gossip on once in its memory, by channel and bytes; broadcasts always", () => {
    const clock = new SimulatedClock();
    const on = gossip(clock);
    expect([...(on("a", 1)?.encode() ?? [])]).toEqual([Uint8Array.of(1)]);
    expect([on("a", 1), on("a", 2) !== undefined, on("b", 1) !== undefined]).toEqual([undefined, true, true]);
    clock.advance(999);
    expect(on("a", 1)).toBeUndefined();
    clock.advance(1);
    expect(on("a", 1)).toBeDefined();
    const relay = surrogate(clock, 1_000).gossiper("a");
    for (let i = 0; i < 2; i++)
      expect(atOnce(finish(relay.onBroadcast(name(1), Uint8Array.of(9))))).toBeDefined();
    expect(relay.gossip()).toBeUndefined();
  });

  test("digests a long message in steps", () => {
    const work = gossiped(surrogate(new SimulatedClock(), 1_000).gossiper("a"), new Uint8Array(4 << 20));
    let steps = 0;
    while (!work.next().done) steps++;
    expect(steps).toBeGreaterThanOrEqual(16);
  });

  test("remembers 10,000 digests of all channels together", () => {
    const on = gossip(new SimulatedClock());
    for (let i = 0; i < 10_000; i++) on(`c${i % 3}`, i & 255, i >> 8);
    expect(on("c0", 0, 0)).toBeDefined();
    expect(on("c1", 7, 0)).toBeUndefined();
  });
});

test("vitals: the peer is silent 2.5 s after its heartbeat was due, by whatever path it was heard last", () => {
  const none = { since: undefined, roundTripMs: undefined };
  const silent = (controlMs: number, heardMs?: number, beatMs?: number) =>
    vitalsOf(controlMs, { heardMs, beatMs, framesMs: undefined }, none).silent;
  expect([vitalsOf(32_500, undefined, none).silent, vitalsOf(32_501, undefined, none).silent]).toEqual([
    false,
    true,
  ]);
  expect([silent(90_000, 12_500, 10_000), silent(90_000, 12_501, 10_000)]).toEqual([false, true]);
  expect([silent(12_501, undefined, 10_000), silent(500, 90_000, 10_000)]).toEqual([true, false]);
  const traffic = { bytes: 5, perSecond: 1 };
  expect(
    vitalsOf(
      -3,
      {
        heardMs: undefined,
        beatMs: undefined,
        framesMs: 7,
        received: traffic,
        byOverlay: [{ overlay: "x", received: 1, sent: 2 }],
      },
      { since: 4, roundTripMs: 9 },
    ),
  ).toEqual({
    ...{
      since: 4,
      heardMs: 0,
      silent: false,
      framesMs: 7,
      roundTripMs: 9,
      received: traffic,
      sent: undefined,
    },
    byOverlay: [{ overlay: "x", received: 1, sent: 2 }],
  });
  expect(vitalsOf(1, undefined, none).byOverlay).toEqual([]);
});

test("lost peers are listed for less than 10 min, 64 of them, with the reason cut at 300 characters", () => {
  const clock = new SimulatedClock();
  const lost = new LostPeers(clock);
  lost.add({ address: "10.0.0.1:6783", outbound: true }, peer(1), new Error("x".repeat(400)));
  expect(lost.recent()).toEqual([
    {
      name: name(1),
      nickName: "h1",
      address: "10.0.0.1:6783",
      outbound: true,
      at: 0,
      reason: "x".repeat(300),
      uid: 1n,
    },
  ]);
  clock.advance(10 * MINUTE - 1);
  expect(lost.recent()).toHaveLength(1);
  clock.advance(1);
  expect(lost.recent()).toEqual([]);
  for (let i = 0; i < 65; i++)
    lost.add({ address: `a:${i}`, outbound: false }, peer(100 + i), new ClosedError());
  expect(lost.recent().map(({ nickName }) => nickName)).toEqual(
    Array.from({ length: 64 }, (_, i) => `h${164 - i}`),
  );
  expect(lost.recent()[0]?.reason).toBe("the peer closed the connection: its router was stopped or killed");
  lost.back(peer(164));
  expect(lost.recent()[0]?.nickName).toBe("h163");
});

test("refused handshakes: attempts of one cause are counted together, and listed for less than 10 min", () => {
  const clock = new SimulatedClock();
  const refused = new RefusedHandshakes(clock);
  const [password, version] = (["password", "version"] as const).map(
    (cause) => new HandshakeError(cause, cause, "mend"),
  );
  if (!password || !version) throw new Error("no errors");
  const target = { address: "10.0.0.1:6783", remoteIp: "10.0.0.1", outbound: true };
  const shown = () =>
    refused.standing().map(({ address, since, last, attempts }) => [address, since, last, attempts]);
  refused.note(target, password);
  clock.advance(1_000);
  refused.note(target, password);
  expect(shown()).toEqual([["10.0.0.1:6783", 0, 1_000, 2]]);
  refused.note(target, version);
  expect(shown()).toEqual([["10.0.0.1:6783", 1_000, 1_000, 1]]);
  refused.note({ address: "10.0.0.2:41000", remoteIp: "10.0.0.2", outbound: false }, password);
  refused.note({ ...target, address: "10.0.0.1:41000", outbound: false }, password);
  expect(shown().map(([address]) => address)).toEqual(["10.0.0.1:6783", "10.0.0.2"]);
  clock.advance(10 * MINUTE - 1);
  expect(shown()).toHaveLength(2);
  refused.lift("10.0.0.1");
  expect(shown().map(([address]) => address)).toEqual(["10.0.0.2"]);
  clock.advance(1);
  expect(shown()).toEqual([]);
  // One that goes on is listed for as long, since its first attempt.
  const began = clock.now();
  for (let i = 0; i < 3; i++) {
    refused.note(target, password);
    refused.note({ address: "10.0.0.3:41000", remoteIp: "10.0.0.3", outbound: false }, password);
    clock.advance(9 * MINUTE);
  }
  const last = clock.now() - 9 * MINUTE;
  expect(shown()).toEqual([
    ["10.0.0.1:6783", began, last, 3],
    ["10.0.0.3", began, last, 3],
  ]);
});

test("refusals bind a start of a peer for 10 min, are shown for 5, count its attempts, and are 64", () => {
  const clock = new SimulatedClock();
  const lines: string[] = [];
  const refusals = new Refusals(clock, { warning: (text) => lines.push(text) });
  const error = new RefusedError("another ring", "reset it", "division");
  const one = { name: name(1), uid: 1n, nickName: "h1" };
  const by = { address: "10.0.0.1:6783", outbound: true };
  refusals.add(one, by, error, true);
  clock.advance(MINUTE);
  refusals.add(one, by, error, false);
  expect(lines).toEqual([
    "refusing a peer: another ring; reset it",
    "refusing a peer: another ring; reset it",
  ]);
  expect(refusals.standing()).toEqual([
    { ...one, ...by, error, attempts: 2, since: 0, last: MINUTE, boundUntil: 10 * MINUTE },
  ]);
  expect(refusals.problems()).toEqual([
    {
      address: "10.0.0.1:6783",
      found: `peer ${name(1)}(h1) at 10.0.0.1:6783 is refused since 2023-11-14T22:13:20Z: another ring`,
      advice: "reset it",
    },
  ]);
  expect([refusals.binding(one), refusals.binding({ ...one, uid: 2n })]).toEqual([error, undefined]);
  refusals.connected(one);
  expect(refusals.binding(one)).toBe(error);
  clock.advance(9 * MINUTE - 1);
  expect([refusals.binding(one), refusals.standing().length]).toEqual([error, 1]);
  clock.advance(1);
  expect([refusals.binding(one), refusals.standing().length]).toEqual([undefined, 0]);
  refusals.connected(one);
  refusals.add(one, by, error, false);
  expect([refusals.binding(one), refusals.standing()[0]?.attempts]).toEqual([undefined, 1]);
  clock.advance(5 * MINUTE - 1);
  expect(refusals.standing()).toHaveLength(1);
  clock.advance(1);
  expect(refusals.standing()).toEqual([]);
  // Another start of it is counted by itself.
  refusals.add(one, by, error, true);
  refusals.add({ ...one, uid: 2n }, by, error, false);
  expect(refusals.standing()[0]).toMatchObject({ attempts: 1, uid: 2n });
  expect(refusals.binding({ ...one, uid: 2n })).toBeUndefined();
  refusals.add({ ...one, name: name(2) }, by, error, true);
  refusals.lift(name(1));
  expect(refusals.standing().map((refused) => refused.name)).toEqual([name(2)]);
  for (let i = 0; i < 70; i++) refusals.add({ ...one, name: name(100 + i) }, by, error, true);
  expect(refusals.standing()).toHaveLength(64);
  refusals.lift();
  expect(refusals.standing()).toEqual([]);
});

describe("short ids", () => {
  test("belong to the least name that claims them, and tell of every change of owner", () => {
    const random = randomOf("short ids");
    for (let run = 0; run < 40; run++) {
      const ourself = peer(3, 1);
      const ids = new ShortIds(ourself);
      const claims = new Map<Peer, number>();
      const owner = (id: number) =>
        [...claims]
          .filter(([, claimed]) => claimed === id)
          .map(([each]) => each)
          .sort((a, b) => (a.name < b.name ? -1 : 1))[0];
      const last = new Map<number, PeerName>();
      const others = [1, 2, 4, 5].map((i) => peer(i));
      for (let step = 0; step < 30; step++) {
        const each = random.pick([ourself, ...others]);
        const changes = { invalidated: false, lost: false };
        const id = claims.get(each);
        if (id === undefined) {
          each.shortId = 1 + random.below(3);
          each.hasShortId = true;
          const [before, used] = [owner(each.shortId), last.get(each.shortId)];
          ids.add(each, changes);
          claims.set(each, each.shortId);
          const after = owner(each.shortId);
          if (after) last.set(each.shortId, after.name);
          const invalidated = before ? before !== after : used !== undefined && used !== each.name;
          expect(changes).toEqual({ invalidated, lost: before === ourself && after !== ourself });
        } else {
          const before = owner(id);
          ids.remove(each, changes);
          claims.delete(each);
          const after = owner(id);
          expect(changes).toEqual({ invalidated: after !== undefined && after !== before, lost: false });
        }
        for (const at of [1, 2, 3]) expect(ids.owner(at)).toBe(owner(at));
      }
    }
  });

  test("are drawn of those that nobody claims, all 4,096, until none is left", () => {
    const ids = new ShortIds(peer(1, 0));
    for (let id = 0; id < 4_095; id++) ids.add(peer(10 + id, id), { invalidated: false, lost: false });
    expect([0, 0.999].map((float) => ids.chooseFree({ float: () => float, u64: () => 0n }))).toEqual([
      4_095, 4_095,
    ]);
    ids.remove(peer(10, 0), { invalidated: false, lost: false });
    ids.add(peer(9_000, 4_095), { invalidated: false, lost: false });
    expect(ids.chooseFree(seededRandom(1n))).toBeUndefined();
    const nobody = peer(1);
    ids.add(nobody, { invalidated: false, lost: false });
    expect(
      [0n, 4_095n, 4_096n + 5n].map((value) => drawShortId({ u64: () => value, float: () => 0 })),
    ).toEqual([0, 4_095, 5]);
  });
});

test("causes by errno, and remedies with the default port", () => {
  const causes = {
    refused: ["ECONNREFUSED", "ConnectionRefused"],
    "no route": ["EHOSTUNREACH", "EHOSTDOWN"],
    "no network": ["ENETUNREACH", "ENETDOWN"],
    "no answer": ["ETIMEDOUT"],
    prohibited: ["EACCES", "EINVAL"],
    blocked: ["EPERM"],
    closed: ["ECONNRESET", "ECONNABORTED", "EPIPE", "ConnectionClosed"],
    unresolved: ["ENOTFOUND", "ENODATA"],
    "name servers": ["EAI_AGAIN", "EAI_FAIL"],
    other: ["EBUSY", undefined],
  } as const;
  for (const [cause, codes] of Object.entries(causes))
    for (const code of codes) expect([code, connectionCause(code)]).toEqual([code, cause as never]);
  expect(connectionTrouble("no answer", "r", "h1")).toEqual({
    cause: "no answer",
    reason: "r",
    remedy: "open TCP 6783 in the firewalls on the way to h1, or start h1",
  });
  expect(new ConnectionError("text", "other").reason).toBe("text");
});

test("random neighbours are drawn by how many peers are behind each, up to 2·log2 of all", () => {
  const routes = new Map<PeerName, PeerName>([[name(0), name(0)]]);
  for (let i = 1; i <= 15; i++) routes.set(name(i), name(i <= 12 ? 1 : i));
  const all = (share?: number) => randomNeighbours(routes, name(99), () => 0, share);
  expect(all()).toEqual([name(1), name(13), name(14), name(15)]);
  // 0.3 · log2(16) = 1.2
  expect(all(0.3)).toHaveLength(2);
  const drawn = (float: number) => randomNeighbours(routes, name(99), () => float, 0.25)[0];
  expect([0, 0.79, 0.81, 0.9, 0.99].map(drawn)).toEqual([1, 1, 13, 14, 15].map(name));
  expect(randomNeighbours(routes, name(1), () => 0)).toEqual([13, 14, 15].map(name));
});
