// Peers that lie in gossip, or send too much: what honest peers accept, and whether they recover.
import { expect, test } from "bun:test";
import { MAX_PEERS, MAX_VERSION } from "../../lib/mesh/bounds.ts";
import { RawGossip } from "../../lib/mesh/gossip.ts";
import { encodeGossip } from "../../lib/mesh/message.ts";
import { nameFromNumber, type PeerName, UNKNOWN_PEER } from "../../lib/mesh/name.ts";
import { encodeTopology, Peer, type PeerSummary } from "../../lib/mesh/peer.ts";
import { linksOf } from "../support/links.ts";
import { type SimulatedPeer, Simulation } from "../support/simulation.ts";

const MINUTE = 60_000;

/** `count` peers that know each other, the last of them a liar. */
async function network(count: number, seed: bigint, seenAs?: ConstructorParameters<typeof Simulation>[1]) {
  const simulation = new Simulation(seed, seenAs);
  const peers = Array.from({ length: count }, (_, i) => simulation.add(i + 1));
  const [first] = peers;
  const liar = peers.at(-1);
  if (!first || !liar) throw new Error("no peers");
  for (const peer of peers) if (peer !== first) await simulation.connect(peer, first);
  simulation.until(() => simulation.converged() && simulation.meshed(), MINUTE);
  return { simulation, peers, first, liar };
}

/** Let a peer send anything to all its neighbours. */
function say({ router }: SimulatedPeer, peers: readonly Peer[]): void {
  for (const connection of router.connections.values()) {
    connection.sendGossip("topology", undefined, new RawGossip([encodeTopology(peers)]));
  }
}

function peer(
  summary: Partial<PeerSummary> & Pick<PeerSummary, "name">,
  remotes: readonly Peer[] = [],
): Peer {
  const made = new Peer({
    nickName: "",
    uid: 1n,
    version: 1,
    shortId: 0,
    hasShortId: false,
    ...summary,
  });
  for (const remote of remotes) {
    linksOf(made).set(remote.name, { remote, address: "10.0.0.1:1", outbound: true, established: true });
  }
  return made;
}

const crowd = (count: number, from = 1_000_000) =>
  Array.from({ length: count }, (_, i) => peer({ name: nameFromNumber(BigInt(from + i)) }));

for (const [what, version, uid] of [
  ["the greatest version there is", MAX_VERSION, undefined],
  ["the greatest version, under its own uid", MAX_VERSION, "own"],
  ["a greater version, under its own uid", 1_000_000, "own"],
] as const) {
  test(`a peer of whom a liar says ${what} is believed again once the liar is gone`, async () => {
    const { simulation, first, liar } = await network(4, 1n);
    const { name } = first.router.ourself;
    say(liar, [peer({ name, version, uid: uid ? first.router.ourself.uid : 7n })]);
    simulation.clock.advance(5_000);
    simulation.kill(liar);
    simulation.until(() => simulation.peers.every(({ router }) => router.peers.size === 3), 5 * MINUTE, 100);
    simulation.until(
      () =>
        simulation.converged() &&
        simulation.meshed() &&
        simulation.peers.every(({ router }) => {
          const known = router.peers.get(name);
          const { ourself } = first.router;
          return known?.version === ourself.version && known.uid === ourself.uid;
        }),
      5 * MINUTE,
      100,
    );
    for (const { router } of simulation.peers) {
      expect(router.peers.get(name)?.version).toBeLessThanOrEqual(MAX_VERSION);
      expect(router.peers.get(name)?.connections.size).toBe(2);
    }
  });
}

test("what no version is, and short ids beyond all, do not end the connection that brings them", async () => {
  const { simulation, first, liar } = await network(3, 2n);
  const someone = nameFromNumber(999n);
  const odd = peer({ name: someone, version: 2 ** 60, shortId: 5000, hasShortId: true });
  say(liar, [odd]);
  simulation.clock.advance(1_000);
  expect(first.router.connections.size).toBe(2);
  expect(first.router.peers.get(someone)).toBeUndefined();
  expect(first.router.notes().join()).toContain("not added to the topology");
});

test("a topology of 20,000 peers is taken in as far as there is room, and forgotten with the liar", async () => {
  const { simulation, first, liar, peers } = await network(3, 3n);
  const others = crowd(20_000);
  const { ourself } = liar.router;
  const neighbours = peers.filter((other) => other !== liar).map(({ router }) => router.ourself);
  const claim = peer({ ...ourself, version: ourself.version + 1 }, [...neighbours, ...others]);
  say(liar, [claim, ...others]);
  simulation.clock.advance(500);
  expect(first.router.peers.size).toBe(MAX_PEERS);
  expect(first.router.connections.size).toBe(2);
  expect(first.router.notes().join()).toContain(`limits are ${MAX_PEERS} peers`);
  simulation.kill(liar);
  simulation.until(() => simulation.converged(), 2 * MINUTE);
  expect(first.router.peers.size).toBe(2);
});

test("work that takes long is done in slices, and what comes behind it on the connection waits", async () => {
  // Each look at the clock takes a millisecond: everything takes long.
  let spent = 0;
  const slow = await network(3, 4n, (clock) => ({
    now: () => clock.now() + spent++,
    wall: () => clock.wall(),
    after: (ms, fn) => clock.after(ms, fn),
  }));
  const { simulation, first, liar } = slow;
  const seen: string[] = [];
  for (const channel of ["x", "y"]) {
    first.router.channel(channel, {
      onUnicast() {},
      onBroadcast: () => undefined,
      *onGossip(message) {
        // The later, the shorter: whoever does not wait would be first.
        for (let i = 0; i < 30 * (10 - (message[0] ?? 0)); i++) yield;
        seen.push(`${channel}${message[0]}`);
        return undefined;
      },
      gossip: () => undefined,
    });
  }
  let longest = 0;
  const { receive } = first.router.channels;
  first.router.channels.receive = function* (...args) {
    const work = receive.apply(first.router.channels, args);
    for (;;) {
      const before = spent;
      if (work.next().done) return;
      longest = Math.max(longest, spent - before);
      yield;
    }
  };
  const [connection] = [...liar.router.connections.values()].filter(
    ({ remote }) => remote.name === first.router.ourself.name,
  );
  for (let i = 0; i < 5; i++) connection?.sendGossip("x", undefined, new RawGossip([Uint8Array.of(i)]));
  connection?.sendGossip("y", undefined, new RawGossip([Uint8Array.of(9)]));
  simulation.until(() => seen.length === 6, MINUTE);
  expect(seen).toEqual(["x0", "x1", "x2", "x3", "x4", "y9"]);
  expect(longest).toBeLessThan(20);
});

test("what a peer passes on for a liar does not end the connection between honest ones", async () => {
  const { simulation, first, liar, peers } = await network(4, 5n);
  const second = peers[1];
  if (!second) throw new Error("no second peer");
  const heard: string[] = [];
  second.router.channel("x", {
    onUnicast(source) {
      heard.push(source);
      throw new Error("cannot be read");
    },
    onBroadcast(source) {
      heard.push(source);
      return undefined;
    },
    onGossip: () => undefined,
    gossip: () => undefined,
  });
  const nameOf = ({ router }: SimulatedPeer) => router.ourself.name;
  const [ofFirst, destination, ofLiar] = [nameOf(first), nameOf(second), nameOf(liar)];
  const [between, direct] = [first, liar].map(({ router }) =>
    second.router.connections.get(router.ourself.name),
  );
  const unicast = (by: PeerName, source: PeerName) =>
    liar.router.connections
      .get(by)
      ?.send(
        encodeGossip({ kind: "unicast", channel: "x", source, destination, payload: new Uint8Array(3) }),
      );
  const stranger = nameFromNumber(999n);
  for (const source of [ofLiar, ofFirst, destination, stranger]) unicast(ofFirst, source);
  simulation.clock.advance(1_000);
  // Neighbours speak for themselves.
  expect(heard).toEqual([stranger]);
  expect([between?.ended, direct?.ended]).toEqual([false, false]);
  unicast(destination, destination);
  simulation.clock.advance(1_000);
  expect([heard.length, direct?.ended]).toEqual([1, false]);
  const broadcast = (source: PeerName) =>
    liar.router.connections
      .get(destination)
      ?.send(encodeGossip({ kind: "broadcast", channel: "x", source, payload: new Uint8Array(3) }));
  for (const source of [ofFirst, destination, stranger, ofLiar]) broadcast(source);
  simulation.clock.advance(1_000);
  expect(heard.slice(1)).toEqual([UNKNOWN_PEER, UNKNOWN_PEER, stranger, ofLiar]);
  unicast(destination, ofLiar);
  simulation.clock.advance(1_000);
  expect([between?.ended, direct?.ended]).toEqual([false, true]);
});
