// The topology of one peer: precedence of updates, owners of short ids, room after churn.
import { describe, expect, spyOn, test } from "bun:test";
import { seededRandom } from "../../lib/clock/random.ts";
import { SimulatedClock } from "../../lib/clock/simulated.ts";
import { atOnce } from "../../lib/clock/slices.ts";
import { GobEncoder } from "../../lib/gob/encoder.ts";
import { MAX_PEERS, SHORT_IDS } from "../../lib/mesh/bounds.ts";
import { nameFromNumber, type PeerName } from "../../lib/mesh/name.ts";
import { decodeTopology, encodeTopology, Peer, type PeerSummary } from "../../lib/mesh/peer.ts";
import { Peers } from "../../lib/mesh/peers.ts";
import { linksOf } from "../support/links.ts";

const peer = (i: number, summary: Partial<PeerSummary> = {}) =>
  new Peer({
    name: nameFromNumber(BigInt(i)),
    nickName: `h${i}`,
    uid: 7n,
    version: 5,
    shortId: i,
    hasShortId: true,
    ...summary,
  });

function topology() {
  const events: string[] = [];
  const ourself = peer(1);
  const peers = new Peers(ourself, new SimulatedClock(), seededRandom(1n), {
    peersGone: (gone) => events.push(`${gone.length} gone`),
    shortIdsInvalidated: () => events.push("short ids"),
    ourselfChanged: () => events.push("ourself"),
    exhausted: () => events.push("exhausted"),
    refused: (what) => events.push(what),
  });
  /** Applies an update; returns the names of peers that it told anything new of. */
  const begin = (...updated: Peer[]) => {
    const applied = { fresh: new Set<PeerName>(), stale: new Set<PeerName>() };
    return { applied, work: peers.apply(encodeTopology(updated), applied) };
  };
  const apply = (...updated: Peer[]) => {
    const { applied, work } = begin(...updated);
    atOnce(work);
    return [...applied.fresh];
  };
  const connect = (a: Peer, b: Peer) =>
    linksOf(a).set(b.name, { remote: b, address: "10.0.0.1:6783", outbound: true, established: true });
  /** Connects us to a peer, so that it is reached, or no more. */
  const hold = (other: Peer | undefined) => {
    linksOf(ourself).clear();
    if (other) connect(ourself, peers.get(other.name) ?? other);
    peers.collectGarbage();
  };
  return { peers, begin, apply, connect, hold, events, ourself };
}

describe("of two words on one peer the newer is taken, as the original does", () => {
  test.each<[string, Partial<PeerSummary>, boolean]>([
    ["a greater version", { version: 6, uid: 1n }, true],
    ["a lower version", { version: 4, uid: 9n }, false],
    ["as great a version, a greater uid", { uid: 8n }, true],
    ["as great a version, a lower uid", { uid: 6n }, false],
    ["the same again", {}, false],
  ])("%s", (_what, summary, newer) => {
    const { apply, peers } = topology();
    apply(peer(2));
    expect(apply(peer(2, summary))).toEqual(newer ? [nameFromNumber(2n)] : []);
    expect(peers.get(nameFromNumber(2n))).toMatchObject({ uid: 7n, version: 5, ...(newer && summary) });
  });
});

test.each([
  [0, 0, true],
  [SHORT_IDS - 1, SHORT_IDS - 1, true],
  [SHORT_IDS, 0, false],
  [2 ** 32, 0, false],
])("a short id of %d is taken as %d, has one: %p", (shortId, taken, hasShortId) => {
  const { apply, peers } = topology();
  apply(peer(2, { shortId }));
  expect(peers.get(nameFromNumber(2n))).toMatchObject({ shortId: taken, hasShortId });
  apply(peer(3, { shortId: 5, hasShortId: false }));
  expect(peers.get(nameFromNumber(3n))).toMatchObject({ shortId: 0, hasShortId: false });
});

test("a short id whose claimants all go at once passes to nobody, and nobody is told", () => {
  const { apply, hold, peers, events } = topology();
  apply(...Array.from({ length: 4_000 }, (_, i) => peer(2 + i, { shortId: 99 })));
  hold(undefined);
  expect([peers.byShortId(99), peers.size, events]).toEqual([undefined, 1, ["4000 gone"]]);
  // Frames in flight may still have it.
  apply(peer(5_000, { shortId: 99 }));
  expect([peers.byShortId(99)?.nickName, events.at(-1)]).toEqual(["h5000", "short ids"]);
});

test("a short id that its owner leaves passes to the next claimant, and everybody is told once", () => {
  const { apply, peers, hold, events } = topology();
  const [owner, next] = [peer(2, { shortId: 99 }), peer(3, { shortId: 99 })];
  apply(owner, next);
  expect(peers.byShortId(99)?.name).toBe(owner.name);
  events.length = 0;
  hold(next);
  expect(peers.byShortId(99)?.name).toBe(next.name);
  expect(events).toEqual(["1 gone", "short ids"]);
  hold(undefined);
  expect(events).toEqual(["1 gone", "short ids", "1 gone"]);
});

test("peers that are removed with their connections free all of the counts", () => {
  const { peers, apply, connect, hold } = topology();
  const size = 24;
  for (let round = 0; round < 4; round++) {
    const crowd = Array.from({ length: size }, (_, i) =>
      peer(2 + i, { uid: BigInt(round + 1), version: round }),
    );
    for (const a of crowd) for (const b of crowd) if (a !== b) connect(a, b);
    const held = size * (size - 1);
    // Received again, they are not counted twice.
    for (const fresh of [size, 0]) {
      expect(apply(...crowd)).toHaveLength(fresh);
      expect(peers.size).toBe(size + 1);
      expect(peers.connectionCounts).toEqual({ all: held, established: held });
    }
    // A newer version has fewer connections.
    expect(apply(peer(2, { uid: BigInt(round + 1), version: round + 1 }))).toHaveLength(1);
    expect(peers.connectionCounts.all).toBe(held - (size - 1));
    hold(undefined);
    expect(peers.size).toBe(1);
    expect(peers.connectionCounts).toEqual({ all: 0, established: 0 });
  }
  expect(peers.limits().map(({ name, value }) => [name, value])).toEqual([
    ["peers", 1],
    ["topology-connections", 0],
    ["short-ids", 1],
  ]);
  expect(peers.notes()).toEqual([]);
});

/** Steps of an update of that many peers, as it is applied in turns with others: reading a peer, and taking it. */
const STEPS = 2;

describe("while one update is applied, and waits for its turn,", () => {
  test.each(Array.from({ length: STEPS * 3 + 1 }, (_, step) => step))(
    "a newer word on the same peers stays, whole, wherever the first was (step %d)",
    (step) => {
      const { peers, begin, apply, connect } = topology();
      const [a, b, c] = [peer(2), peer(3), peer(4)];
      for (const each of [b, c]) connect(a, each);
      connect(b, a);
      const { work } = begin(a, b, c);
      for (let i = 0; i < step; i++) work.next();
      const newer = peer(2, { version: 6 });
      connect(newer, c);
      apply(newer, b, c);
      atOnce(work);
      const known = peers.get(a.name);
      expect(known?.version).toBe(6);
      expect([...(known?.connections.keys() ?? [])]).toEqual([c.name]);
      expect([...(peers.get(b.name)?.connections.keys() ?? [])]).toEqual([a.name]);
    },
  );

  test.each(Array.from({ length: STEPS * 3 }, (_, step) => step))(
    "its connection may end: each peer is known whole, or can be told again (step %d)",
    (step) => {
      const { peers, begin, apply, connect } = topology();
      const [a, b, c] = [peer(2), peer(3), peer(4)];
      for (const each of [b, c]) connect(a, each);
      connect(b, a);
      const { applied, work } = begin(a, b, c);
      for (let i = 0; i < step; i++) work.next();
      work.return();
      for (const each of [a, b])
        if (applied.fresh.has(each.name))
          expect(peers.get(each.name)?.connections.size).toBe(each.connections.size);
      apply(a, b, c);
      expect(peers.get(a.name)?.connections.size).toBe(2);
      expect(peers.get(b.name)?.connections.size).toBe(1);
    },
  );
});

test("our short id that an abandoned update gives to a lesser name is drawn anew all the same", () => {
  const { peers, begin, ourself, events } = topology();
  const lesser = peer(0, { shortId: 1 });
  const { work } = begin(lesser, peer(5), peer(6));
  while (peers.get(lesser.name) === undefined) work.next();
  work.return();
  expect(ourself.shortId).not.toBe(1);
  expect(events).toEqual(["ourself", "short ids"]);
});

test("what there was no room for at first is news once it is whole", () => {
  const { peers, apply, connect, hold } = topology();
  const crowd = Array.from({ length: MAX_PEERS - 2 }, (_, i) => peer(3 + i));
  const last = peer(2);
  const stranger = peer(100_000);
  apply(...crowd);
  connect(last, stranger);
  expect(apply(last)).toEqual([last.name]);
  expect(peers.get(last.name)?.incomplete).toBe(true);
  expect(apply(last)).toEqual([]);
  hold(last);
  expect(apply(last)).toEqual([last.name]);
  expect([...(peers.get(last.name)?.connections.keys() ?? [])]).toEqual([stranger.name]);
});

test("a peer is encoded once for all neighbours, and again once its version or its connections change", () => {
  const [a, b] = [peer(1), peer(2)];
  const link = (established: boolean) =>
    new Map([[b.name, { remote: b, address: "10.0.0.2:6783", outbound: true, established }]]);
  const told = (...peers: Peer[]) =>
    decodeTopology(encodeTopology(peers), () => true).map(({ summary, connections }) => [
      summary.nickName,
      summary.version,
      connections.map(({ established }) => established),
    ]);
  a.connections = link(false);
  expect(told(a, b)).toEqual([
    ["h1", 5, [false]],
    ["h2", 5, []],
  ]);
  using encodes = spyOn(GobEncoder.prototype, "encode");
  for (let i = 0; i < 10; i++) encodeTopology([a, b]);
  expect(encodes).toHaveBeenCalledTimes(0);
  a.version = 6;
  expect(told(a)).toEqual([["h1", 6, [false]]]);
  expect(encodes).toHaveBeenCalledTimes(2);
  a.connections = link(true);
  expect(told(a)).toEqual([["h1", 6, [true]]]);
  expect(told(b, a)).toEqual([
    ["h2", 5, []],
    ["h1", 6, [true]],
  ]);
});
