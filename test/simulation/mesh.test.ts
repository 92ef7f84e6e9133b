// Whole networks of mesh routers, in one process, on a simulated clock.
import { describe, expect, spyOn, test } from "bun:test";
import { createHash } from "node:crypto";
import { LocalConnection } from "../../lib/mesh/connection.ts";
import { RawGossip } from "../../lib/mesh/gossip.ts";
import { encodeGossip } from "../../lib/mesh/message.ts";
import type { PeerName } from "../../lib/mesh/name.ts";
import { encodeTopology, Peer } from "../../lib/mesh/peer.ts";
import { SEED } from "../support/seed.ts";
import { type SimulatedPeer, Simulation } from "../support/simulation.ts";

const MINUTE = 60_000;
/** Every connection begins with the whole topology both ways: the work grows with the fourth power of this. */
const PEERS = Number(process.env["PEERS"] ?? 30);

/** Adds peers one by one, each told of the first. */
async function grow(simulation: Simulation, count: number, everyMs: number, config = {}): Promise<void> {
  for (let i = simulation.peers.length + 1; i <= count; i++) {
    const peer = simulation.add(i, config);
    const [first] = simulation.peers;
    if (first && first !== peer) await simulation.connect(peer, first);
    simulation.clock.advance(everyMs);
  }
}

/** What every peer knows of every other, as one digest. */
function trace(simulation: Simulation): string {
  const hash = createHash("sha256");
  for (const { router } of simulation.peers) {
    for (const peer of router.peers.all()) {
      hash.update(`${router.ourself.name} ${peer} ${peer.uid} ${peer.version} ${peer.shortId} `);
      for (const connection of peer.connections.values())
        hash.update(`${connection.address} ${connection.established} `);
    }
  }
  return hash.update(String(simulation.network.bytes)).digest("hex");
}

test(`${PEERS} peers join one by one; all come to know each other and to be connected`, async () => {
  const simulation = new Simulation(BigInt(SEED));
  await grow(simulation, PEERS, 100);
  expect(simulation.until(() => simulation.converged(), MINUTE)).toBeLessThan(MINUTE);
  simulation.until(() => simulation.meshed(), MINUTE);
  const ids = new Set(simulation.peers.map(({ router }) => router.ourself.shortId));
  expect(ids.size).toBe(PEERS);
});

test("the same seed gives the same run, another seed another", async () => {
  const run = async (seed: bigint) => {
    const simulation = new Simulation(seed);
    await grow(simulation, 12, 50);
    simulation.clock.advance(MINUTE);
    return trace(simulation);
  };
  expect(await run(1n)).toBe(await run(1n));
  expect(await run(2n)).not.toBe(await run(1n));
});

test("a peer that dies is forgotten by all, and one that comes back is known by its new life", async () => {
  const simulation = new Simulation(3n);
  await grow(simulation, 8, 100);
  simulation.until(() => simulation.meshed(), MINUTE);
  const victim = simulation.peers[4];
  const [first] = simulation.peers;
  if (!victim || !first) throw new Error("no peers");
  simulation.kill(victim);
  simulation.until(
    () => simulation.peers.every(({ router }) => !router.peers.get(victim.router.ourself.name)),
    3 * MINUTE,
  );
  const again = simulation.add(5);
  await simulation.connect(again, first);
  simulation.until(() => simulation.converged(), MINUTE);
  expect(first.router.peers.get(again.router.ourself.name)?.uid).toBe(again.router.ourself.uid);
});

test("a partition heals: both halves go on, and join again", async () => {
  const simulation = new Simulation(4n);
  await grow(simulation, 10, 100);
  simulation.until(() => simulation.meshed(), MINUTE);
  const halves = [simulation.peers.slice(0, 5), simulation.peers.slice(5)] as const;
  const cut = (on: boolean) => {
    for (const a of halves[0]) for (const b of halves[1]) simulation.network.cut(a.ip, b.ip, on);
  };
  cut(true);
  simulation.until(() => simulation.peers.every(({ router }) => router.peers.size === 5), 3 * MINUTE);
  cut(false);
  simulation.until(() => simulation.converged(), 10 * MINUTE, 500);
});

/** A channel on which a peer tells of names; returns those that it knows. */
function knownNames({ router }: SimulatedPeer): Set<PeerName> {
  const set = new Set([router.ourself.name]);
  const merge = (message: Uint8Array) => {
    const names = new TextDecoder().decode(message).split(" ") as PeerName[];
    const fresh = names.filter((name) => !set.has(name));
    for (const name of fresh) set.add(name);
    return fresh.length > 0 ? said(fresh) : undefined;
  };
  const said = (names: Iterable<PeerName>) => new RawGossip([new TextEncoder().encode([...names].join(" "))]);
  router.channel("names", {
    onUnicast() {},
    onBroadcast: (_, message) => merge(message),
    onGossip: merge,
    gossip: () => said(set),
  });
  return set;
}

test("a new peer gets everything although the neighbour that others left it to lost its connection", async () => {
  for (const seed of [1n, 2n, 3n, 4n]) {
    const simulation = new Simulation(seed);
    const [a, b] = [simulation.add(1), simulation.add(2)];
    const known = [knownNames(a), knownNames(b)];
    await simulation.connect(b, a);
    simulation.until(() => simulation.meshed(), MINUTE);
    simulation.clock.advance(1_000);
    const newcomer = simulation.add(3);
    known.push(knownNames(newcomer));
    await simulation.connect(newcomer, a, b);
    const connection = () => a.router.connections.get(newcomer.router.ourself.name);
    simulation.until(() => connection() !== undefined && b.router.connections.size === 2, MINUTE, 1);
    // Others have heard of this connection, and nothing was sent by it yet.
    simulation.clock.advance(70);
    connection()?.shutdown(new Error("lost"));
    simulation.until(() => simulation.meshed(), MINUTE);
    simulation.clock.advance(4_000);
    expect(known.map((set) => set.size)).toEqual([3, 3, 3]);
  }
});

test("halves that meet send each other what they know on all channels, before they repeat it", async () => {
  for (const seed of [1n, 2n, 3n, 4n]) {
    const simulation = new Simulation(seed);
    await grow(simulation, 10, 100);
    const known = simulation.peers.map(knownNames);
    // Peers that are all new to each other cannot tell which of them came together.
    simulation.clock.advance(10_000);
    const halves = [simulation.peers.slice(0, 5), simulation.peers.slice(5)] as const;
    const cut = (on: boolean) => {
      for (const a of halves[0]) for (const b of halves[1]) simulation.network.cut(a.ip, b.ip, on);
    };
    cut(true);
    simulation.until(() => simulation.peers.every(({ router }) => router.peers.size === 5), 3 * MINUTE);
    for (const [i, set] of known.entries())
      for (const { router } of halves[i < 5 ? 0 : 1]) set.add(router.ourself.name);
    cut(false);
    simulation.until(() => simulation.meshed(), 5 * MINUTE, 20);
    simulation.clock.advance(500);
    expect(known.map((set) => set.size)).toEqual(known.map(() => 10));
  }
});

test("where two cannot reach each other, the third passes on for them", async () => {
  const simulation = new Simulation(5n);
  const [a, b, c] = [simulation.add(1), simulation.add(2), simulation.add(3)];
  simulation.network.cut(a.ip, c.ip);
  await simulation.connect(b, a);
  await simulation.connect(c, b);
  simulation.until(() => simulation.converged(), MINUTE);
  expect(a.router.routes.unicast.get(c.router.ourself.name)).toBe(b.router.ourself.name);
  expect(b.router.routes.broadcast(a.router.ourself.name)).toEqual([c.router.ourself.name]);
  expect(a.router.routes.broadcast(a.router.ourself.name)).toEqual([b.router.ourself.name]);
});

describe("a connection limit", () => {
  test("bounds connections and never takes a peer off the network", async () => {
    const simulation = new Simulation(6n);
    await grow(simulation, 30, 100, { connectionLimit: 5 });
    simulation.until(() => simulation.converged(), 5 * MINUTE, 100);
    simulation.clock.advance(2 * MINUTE);
    expect(simulation.converged()).toBe(true);
    for (const { router } of simulation.peers) expect(router.connections.size).toBeLessThanOrEqual(6);
  });

  test("lets in whom it must, and gives up what it need not keep", async () => {
    const simulation = new Simulation(10n);
    for (let i = 1; i <= 30; i++) {
      const peer = simulation.add(i, { connectionLimit: 5 });
      const [first] = simulation.peers;
      if (first && first !== peer) await simulation.connect(peer, first);
    }
    const [first] = simulation.peers;
    simulation.until(() => simulation.converged(), 5 * MINUTE, 100);
    expect(first?.router.connections.size).toBeGreaterThan(15);
    simulation.clock.advance(10 * MINUTE);
    expect(simulation.converged()).toBe(true);
    for (const { router } of simulation.peers) expect(router.connections.size).toBeLessThanOrEqual(6);
  });
});

test("routers that start within a second, with few connections each, soon have ways to all others", async () => {
  const simulation = new Simulation(12n);
  await grow(simulation, 50, 20, { connectionLimit: 6 });
  expect(simulation.until(() => simulation.converged(), MINUTE)).toBeLessThan(5_000);
});

test("who has missed news finds out by what does not fit together, and asks", async () => {
  for (let seed = 0n; seed < 10n; seed++) {
    const simulation = new Simulation(seed);
    await grow(simulation, 12, 50, { connectionLimit: 4 });
    simulation.until(() => simulation.converged(), 5 * MINUTE, 100);
    const [deaf] = simulation.peers;
    if (!deaf) throw new Error("no peers");
    // Whatever it is told of the newcomer's own connections gets lost.
    const newcomer = simulation.add(99, { connectionLimit: 4 });
    const { apply } = deaf.router.peers;
    deaf.router.peers.apply = function* () {};
    await simulation.connect(newcomer, ...simulation.peers.slice(5, 7));
    simulation.clock.advance(3_000);
    deaf.router.peers.apply = apply;
    expect(deaf.router.routes.unicast.has(newcomer.router.ourself.name)).toBe(false);
    simulation.until(() => simulation.converged(), 40_000, 100);
  }
});

test("slow routers do not ask neighbours for updates that are already on their way", async () => {
  for (let seed = 0n; seed < 6n; seed++) {
    const simulation = new Simulation(seed);
    simulation.slowMs = 2_000;
    const [first] = Array.from({ length: 10 }, (_, i) => simulation.add(i + 1));
    if (!first) throw new Error("no peers");
    using sends = spyOn(LocalConnection.prototype, "sendGossip");
    for (const peer of simulation.peers.slice(1)) await simulation.connect(peer, first);
    simulation.until(() => simulation.converged(), MINUTE, 100);
    simulation.clock.advance(10_000);
    const gossip = sends.mock.calls.filter(([channel, source]) => channel === "topology" && !source);
    // Only introductions of new peers; asking neighbours would make it 900.
    expect(gossip.length).toBeLessThan(300);
  }
});

test("one name on two hosts: refused, and both are told", async () => {
  const simulation = new Simulation(8n);
  const a = simulation.add(1);
  const b = simulation.add(2, { name: a.router.ourself.name });
  await simulation.connect(b, a);
  simulation.clock.advance(5_000);
  const [target] = b.router.maker.targets.values();
  expect(target?.lastError?.message).toContain("peer names collision");
  expect(target?.lastError?.message).toContain("--name");
  // The other may be given a name of its own, so it is tried again, but seldom.
  const wait = (target?.tryAfter ?? 0) - simulation.clock.now();
  expect(wait).toBeGreaterThan(20_000);
  expect(wait).toBeLessThan(90_000);
});

test("a peer that is told to connect to itself notices", async () => {
  const simulation = new Simulation(9n);
  const a = simulation.add(1);
  await simulation.connect(a, a);
  simulation.clock.advance(5_000);
  const [target] = a.router.maker.targets.values();
  expect(target?.lastError?.message).toBe("cannot connect to ourself");
});

test("both connect to each other at once: one connection stays, the same at both ends", async () => {
  for (let seed = 0n; seed < 20n; seed++) {
    const simulation = new Simulation(seed);
    const [a, b] = [simulation.add(1), simulation.add(2)];
    await Promise.all([simulation.connect(a, b), simulation.connect(b, a)]);
    simulation.clock.advance(MINUTE);
    const [atA] = a.router.connections.values();
    const [atB] = b.router.connections.values();
    expect([a.router.connections.size, b.router.connections.size]).toEqual([1, 1]);
    expect(atA?.outbound).toBe(!atB?.outbound);
  }
});

test("short ids that collide are drawn again", async () => {
  const simulation = new Simulation(10n);
  const [a, b] = [simulation.add(1, {}, 99n), simulation.add(2, {}, 99n)];
  expect(b.router.ourself.shortId).toBe(a.router.ourself.shortId);
  await simulation.connect(b, a);
  simulation.until(() => a.router.ourself.shortId !== b.router.ourself.shortId, MINUTE);
  simulation.until(
    () => a.router.peers.get(b.router.ourself.name)?.shortId === b.router.ourself.shortId,
    MINUTE,
  );
});

test("a silent peer is given up", async () => {
  const simulation = new Simulation(11n);
  const [a, b] = [simulation.add(1), simulation.add(2)];
  await simulation.connect(b, a);
  simulation.clock.advance(1_000);
  expect(a.router.connections.size).toBe(1);
  // Its timers stop, but its stream stays open.
  simulation.network.mute(b.ip);
  simulation.clock.advance(3 * MINUTE);
  expect(a.router.connections.size).toBe(0);
});

test("a neighbour whose path is cut is given up soon after its heartbeat is missing", async () => {
  const simulation = new Simulation(11n);
  const [a, b] = [simulation.add(1), simulation.add(2)];
  await simulation.connect(b, a);
  simulation.clock.advance(1_000);
  expect(a.router.connections.size).toBe(1);
  // Nothing arrives any more, and nothing is acknowledged.
  for (const { ip } of [a, b]) simulation.network.mute(ip);
  // Missed after 32.5 s; asked within 5 s to acknowledge something, which takes 4 s at most.
  simulation.until(() => a.router.connections.size === 0, 42_500);
});

test("a router that hears of an earlier life of its own with a greater version tells all at once that it has another", async () => {
  const simulation = new Simulation(31n);
  for (let i = 1; i <= 3; i++) simulation.add(i);
  const [a, b, c] = simulation.peers;
  if (!a || !b || !c) throw new Error("no peers");
  await simulation.connect(b, a);
  await simulation.connect(c, b);
  simulation.until(() => simulation.meshed(), 60_000);
  simulation.clock.advance(10_000);
  const { ourself } = a.router;
  const earlier = new Peer({ ...ourself, uid: 1n, version: 1_000 });
  const source = b.router.ourself.name;
  const gossip = encodeGossip({
    kind: "gossip",
    channel: "topology",
    source,
    payload: encodeTopology([earlier]),
  });
  b.router.connections.get(ourself.name)?.send(gossip);
  simulation.clock.advance(1_000);
  expect(ourself.version).toBeGreaterThan(1_000);
  for (const { router } of [b, c])
    expect(router.peers.get(ourself.name)).toMatchObject({ uid: ourself.uid, version: ourself.version });
});
