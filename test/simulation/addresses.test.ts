// Address allocation among many peers: the real allocators over the real mesh, on a simulated clock.
import { expect, test } from "bun:test";
import {
  cidrRange,
  cidrSize,
  formatIPv4,
  parseCidr,
  rangeContains,
  rangeSize,
} from "../../lib/address/ipv4.ts";
import { sleep } from "../../lib/clock/clock.ts";
import { atOnce, finish } from "../../lib/clock/slices.ts";
import type { Allocator } from "../../lib/ipam/allocator.ts";
import type { AllocatorConfig } from "../../lib/ipam/config.ts";
import { encodeRangeMessage, encodeState } from "../../lib/ipam/wire.ts";
import { RefusedError } from "../../lib/mesh/errors.ts";
import { nameFromNumber, UNKNOWN_PEER } from "../../lib/mesh/name.ts";
import {
  MemoryDisk,
  type NamedInTest,
  nameFor,
  settled,
  UNIVERSE,
  withAddresses,
} from "../support/allocators.ts";
import { SEED } from "../support/seed.ts";
import { type SimulatedPeer, Simulation } from "../support/simulation.ts";

const MINUTE = 60_000;

async function network(seed: bigint, count: number, config: Partial<AllocatorConfig> = {}) {
  const simulation = new Simulation(seed);
  const allocators: Allocator[] = [];
  for (let i = 1; i <= count; i++) {
    const peer = simulation.add(i);
    allocators.push(withAddresses(simulation, peer, { quorum: () => Math.floor(count / 2) + 1, ...config }));
    const [first] = simulation.peers;
    if (first && i > 1) await simulation.connect(peer, first);
    simulation.clock.advance(50);
  }
  simulation.until(() => simulation.converged(), MINUTE);
  return { simulation, allocators };
}

test("20 peers agree on one ring and hand out every address of the range once", async () => {
  const { simulation, allocators } = await network(1n, 20);
  const hosts = 254;
  const addresses = new Set<number>();
  for (let i = 0; i < hosts; i++) {
    const allocator = allocators[i % 7] ?? allocators[0];
    if (!allocator) throw new Error("no allocators");
    addresses.add(await settled(simulation, allocator.allocate(`container${i}`, UNIVERSE)));
  }
  expect(addresses.size).toBe(hosts);
  simulation.clock.advance(2 * MINUTE);
  const [first] = allocators;
  const owners = (allocator: Allocator) =>
    allocator.ring.ranges().map(({ entry, range }) => `${formatIPv4(range.start)} ${entry.peer}`);
  for (const allocator of allocators) expect(owners(allocator)).toEqual(owners(first as Allocator));
  const owned = allocators.reduce(
    (sum, { ring }) => sum + ring.ownedRanges().reduce((own, range) => own + rangeSize(range), 0),
    0,
  );
  expect(owned).toBe(256);
});

test("one more than there is waits, until one is given back", async () => {
  const { simulation, allocators } = await network(2n, 3);
  const [a, b] = allocators;
  if (!a || !b) throw new Error("no allocators");
  for (let i = 0; i < 254; i++) await settled(simulation, a.allocate(`a${i}`, UNIVERSE));
  const waiting = b.allocate("late", UNIVERSE);
  simulation.clock.advance(MINUTE);
  expect(b.report(UNIVERSE).PendingAllocates?.length).toBe(1);
  await a.delete("a7");
  expect(await settled(simulation, waiting)).toBeGreaterThan(0);
});

test("claims: free, taken, another peer's", async () => {
  const seed = [1n, 2n, 3n].map(nameFromNumber);
  const { simulation, allocators } = await network(3n, 3, { seed });
  const [a, b] = allocators;
  if (!a || !b) throw new Error("no allocators");
  await settled(simulation, a.allocate("first", UNIVERSE));
  simulation.clock.advance(5_000);
  const theirs = b.ring.ownedRanges()[0]?.start ?? 0;
  const cidr = { address: theirs + 3, prefix: 24 };
  await settled(simulation, a.claim("mine", cidr));
  expect(a.lifecycle.holderOf(cidr.address)).toBe("mine");
  expect(a.claim("other", cidr)).rejects.toThrow("is already owned by mine");
  const used = await settled(simulation, b.allocate("used", UNIVERSE));
  expect(settled(simulation, a.claim("greedy", { address: used, prefix: 24 }))).rejects.toThrow(
    "is owned by other peer",
  );
});

test("a router that comes back knows what it had handed out", async () => {
  const simulation = new Simulation(4n);
  const disk = new MemoryDisk();
  const peer = simulation.add(1);
  const before = withAddresses(simulation, peer, { quorum: () => 1 }, disk.mount());
  const address = await settled(simulation, before.allocate("c1", UNIVERSE));
  simulation.kill(peer);
  const again = withAddresses(simulation, simulation.add(1), { quorum: () => 1 }, disk.mount());
  expect(await settled(simulation, again.allocate("c1", UNIVERSE))).toBe(address);
  expect(await settled(simulation, again.allocate("c2", UNIVERSE))).not.toBe(address);
});

test("a peer that leaves hands over its share; one that is gone is taken over", async () => {
  const { simulation, allocators } = await network(5n, 3);
  const [a, b, c] = allocators;
  if (!a || !b || !c) throw new Error("no allocators");
  await settled(simulation, a.prime());
  const left = c.shutdown();
  expect(() => c.allocate("late", UNIVERSE)).toThrow("leaving the network");
  await settled(simulation, left);
  simulation.clock.advance(10_000);
  expect(a.ring.peerNames().has(c.ring.peer)).toBe(false);
  const share = b.ring.ownedRanges().reduce((sum, range) => sum + rangeSize(range), 0);
  expect(a.takeOver("h2")).rejects.toThrow(/^peer \S+\(h2\) is connected .*--force/);
  const gone = simulation.peers[1];
  if (gone) simulation.kill(gone);
  simulation.until(
    () => a.report(UNIVERSE).Entries?.some(({ IsKnownPeer }) => !IsKnownPeer) === true,
    MINUTE,
  );
  expect(await settled(simulation, a.takeOver("h2"))).toBe(share);
  for (const name of ["h2", "nobody", b.ring.peer]) {
    expect(a.takeOver(name)).rejects.toThrow(`no peer "${name}" owns addresses`);
  }
  for (const name of ["h1", a.ring.peer]) {
    expect(a.takeOver(name)).rejects.toThrow("it is this host");
  }
  expect(a.ring.ownedRanges().reduce((sum, range) => sum + rangeSize(range), 0)).toBe(256);
});

test("a connected peer is taken over from by force alone; a nickname of two says which names to use", async () => {
  const { simulation, allocators } = await network(8n, 3, { ourNickName: "same" });
  const [a, b] = allocators;
  if (!a || !b) throw new Error("no allocators");
  await settled(simulation, a.prime());
  simulation.clock.advance(5_000);
  expect(a.takeOver("same")).rejects.toThrow("is the nickname of");
  expect(a.takeOver(b.ring.peer)).rejects.toThrow("is connected");
  const share = b.ring.ownedIn(cidrRange(UNIVERSE));
  expect(await settled(simulation, a.takeOver(b.ring.peer, true))).toBe(share);
});

test("a peer that leaves right after another has joined hands over to that one, which acknowledges", async () => {
  for (const delay of [0, 5, 20, 60, 150, 500]) {
    const simulation = new Simulation(60n + BigInt(delay));
    const [a, b] = [simulation.add(1), simulation.add(2)];
    const first = withAddresses(simulation, a, { quorum: () => 1 });
    await settled(simulation, first.allocate("c1", UNIVERSE));
    const second = withAddresses(simulation, b, { quorum: () => 2 });
    await simulation.connect(b, a);
    simulation.clock.advance(delay);
    await settled(simulation, first.shutdown());
    expect(second.ring.ownedIn(cidrRange(UNIVERSE))).toBe(256);
    simulation.kill(a);
    await settled(simulation, second.allocate("c2", UNIVERSE));
  }
});

test("a peer that leaves says so when nobody acknowledges, and goes on unless another has its addresses", async () => {
  const { simulation, allocators } = await network(70n, 2);
  const [a, b] = allocators;
  const [first, second] = simulation.peers;
  if (!a || !b || !first || !second) throw new Error("no allocators");
  await settled(simulation, a.allocate("c1", UNIVERSE));
  await settled(simulation, b.allocate("c1", UNIVERSE));
  simulation.kill(second);
  simulation.clock.advance(2_000);
  await expect(settled(simulation, a.shutdown())).rejects.toThrow(
    "cannot hand the addresses of this host to another peer",
  );
  await settled(simulation, a.allocate("c2", UNIVERSE));
  // A peer that has no allocator takes nothing over.
  await simulation.connect(simulation.add(3), first);
  simulation.clock.advance(500);
  await expect(settled(simulation, a.shutdown())).rejects.toThrow("no peer has answered within 3 s");
  await settled(simulation, a.allocate("c3", UNIVERSE));
});

test("a host that lost its state waits for the peers that were named, and claims what its containers have", async () => {
  const { simulation, allocators } = await network(80n, 3);
  const [a, b, c] = allocators;
  const [first, second, lost] = simulation.peers;
  if (!a || !b || !c || !first || !second || !lost) throw new Error("no allocators");
  const address = await settled(simulation, c.allocate("c1", UNIVERSE));
  await settled(simulation, b.allocate("c1", UNIVERSE));
  simulation.kill(lost);
  simulation.clock.advance(2_000);
  // Its state is lost, its containers go on, and of the peers that were named one cannot be reached.
  const again = simulation.add(3);
  let named: NamedInTest | undefined;
  const returned = withAddresses(
    simulation,
    again,
    { quorum: () => 1, unheard: () => named?.unheard() ?? [first.ip, "10.0.0.99"] },
    new MemoryDisk().mount(),
    () => [{ address, prefix: 24 }],
  );
  const waiting = returned.allocate("c2", UNIVERSE);
  // The other dials it again, sooner or later.
  for (const { ip } of [first, second]) simulation.network.cut(again.ip, ip);
  named = await nameFor(simulation, again, [first.ip, "10.0.0.99"], (peer) => returned.hasHeard(peer));
  simulation.clock.advance(MINUTE);
  expect(returned.ring.empty).toBe(true);
  expect(returned.report(UNIVERSE).WaitsFor).toEqual([first.ip, "10.0.0.99"]);
  // What a runtime is told is the cause, too.
  expect(returned.obstacle(UNIVERSE)?.reason).toContain(`waiting for ${first.ip}, 10.0.0.99`);
  for (const { ip } of [first, second]) simulation.network.cut(again.ip, ip, false);
  expect(await settled(simulation, waiting)).not.toBe(address);
  expect(returned.ring.seeds).toEqual(a.ring.seeds);
  expect(returned.lifecycle.holderOf(address)).toBe(formatIPv4(address));
});

test("named peers are waited for until they are heard or given up, whatever the quorum", async () => {
  const simulation = new Simulation(81n);
  const [a, b] = [simulation.add(1), simulation.add(2)];
  let named: NamedInTest | undefined;
  const waits = withAddresses(simulation, a, { quorum: () => 1, unheard: () => named?.unheard() ?? [] });
  withAddresses(simulation, b, { quorum: () => 2 });
  named = await nameFor(simulation, a, [b.ip, "10.0.0.99"], (peer) => waits.hasHeard(peer));
  const waiting = waits.allocate("c1", UNIVERSE);
  simulation.clock.advance(MINUTE);
  expect(waits.report(UNIVERSE).WaitsFor).toEqual(["10.0.0.99"]);
  expect(waits.ring.empty).toBe(true);
  named.forget(["10.0.0.99"]);
  await settled(simulation, waiting);
});

test("a named peer that has got another address is found there", async () => {
  const simulation = new Simulation(82n);
  const [a, b] = [simulation.add(1), simulation.add(2)];
  // Nobody is there yet.
  simulation.network.names.set("peer.example.com", "10.0.0.99");
  await nameFor(simulation, a, ["peer.example.com"], () => true);
  simulation.clock.advance(MINUTE);
  expect(a.router.connections.size).toBe(0);
  simulation.network.names.set("peer.example.com", b.ip);
  await settled(simulation, sleep(simulation.clock, MINUTE));
  expect([...a.router.connections.keys()]).toEqual([b.router.ourself.name]);
});

test("a refusal is forgotten once the peer is connected", async () => {
  const simulation = new Simulation(83n);
  const [a, b] = [simulation.add(1), simulation.add(2)];
  let verdict: RefusedError | undefined = new RefusedError("another range", "use the same", "range");
  a.router.admission.guard({ features: () => ({}), judge: () => verdict, connected() {} });
  await simulation.connect(b, a);
  simulation.clock.advance(1_000);
  expect(a.router.admission.refusals.problems()).toHaveLength(1);
  verdict = undefined;
  simulation.until(() => simulation.converged(), 2 * MINUTE);
  expect(a.router.admission.refusals.problems()).toEqual([]);
});

test("an observer takes no part, and gets its addresses from the others", async () => {
  const simulation = new Simulation(6n);
  const [a, b] = [simulation.add(1), simulation.add(2)];
  const elector = withAddresses(simulation, a, { quorum: () => 1 });
  const observer = withAddresses(simulation, b, { observer: true });
  await simulation.connect(b, a);
  simulation.until(() => simulation.converged(), MINUTE);
  const address = await settled(simulation, observer.allocate("c1", UNIVERSE));
  expect(elector.ring.seeds).toEqual([a.router.ourself.name]);
  expect(observer.ring.owner(address)).toBe(b.router.ourself.name);
});

test("different seeds and different ranges keep peers apart, and say why", async () => {
  const simulation = new Simulation(7n);
  const [a, b, c] = [simulation.add(1), simulation.add(2), simulation.add(3)];
  withAddresses(simulation, a, { seed: [a.router.ourself.name] });
  withAddresses(simulation, b, { seed: [b.router.ourself.name] });
  withAddresses(simulation, c, { seed: [a.router.ourself.name], universe: parseCidr("10.48.0.0/24") });
  await simulation.connect(b, a);
  await simulation.connect(c, a);
  const said = new Set<string>();
  for (let i = 0; i < 60; i++) {
    simulation.clock.advance(50);
    for (const { router } of [a, b, c])
      for (const { lastError } of router.maker.targets.values()) said.add(lastError?.message ?? "");
  }
  const texts = [...said].join("\n");
  expect(texts).toContain(
    "IP allocation was seeded by different peers (received: [00:00:00:00:00:01], ours: [",
  );
  expect(texts).toContain("Incompatible IP allocation ranges (received: 10.32.0.0/24, ours: 10.48.0.0/24)");
  expect(texts).toContain("run 'weave reset' on the peer whose ring is to go (ours is in memory)");
});

/** The allocators of simulated peers. */
function allAllocators(
  simulation: Simulation,
  peers: readonly SimulatedPeer[],
): Map<SimulatedPeer, Allocator> {
  return new Map(peers.map((peer) => [peer, withAddresses(simulation, peer)]));
}

test("two networks that were divided apart stay apart on every path, and say so at both ends", async () => {
  const simulation = new Simulation(90n);
  const peers = [1, 2, 3, 4].map((i) => simulation.add(i));
  const [p1, p2, p3, p4] = peers;
  if (!p1 || !p2 || !p3 || !p4) throw new Error("no peers");
  const all = allAllocators(simulation, peers);
  await simulation.connect(p2, p1);
  await simulation.connect(p4, p3);
  simulation.clock.advance(2_000);
  for (const peer of [p1, p3])
    await settled(simulation, all.get(peer)?.allocate("c1", UNIVERSE) ?? Promise.reject());
  simulation.clock.advance(2_000);
  await simulation.connect(p3, p1);
  const joined = () =>
    p3.router.connections.has(p1.router.ourself.name) || p3.router.connections.has(p2.router.ourself.name);
  for (let waited = 0; waited < 10 * MINUTE; waited += 250) {
    simulation.clock.advance(250);
    expect(joined()).toBe(false);
  }
  for (const { router } of [p1, p3]) {
    expect(router.admission.refusals.problems().map(({ found }) => found)).toEqual([
      expect.stringContaining("seeded by different peers"),
    ]);
  }
  expect(p2.router.peers.size).toBe(2);
  expect(p4.router.peers.size).toBe(2);
});

test("a peer that does not tell its division is refused by its ring, and then whenever it comes", async () => {
  const simulation = new Simulation(91n);
  const peers = [1, 2, 3, 4].map((i) => simulation.add(i));
  const [p1, p2, p3, p4] = peers;
  if (!p1 || !p2 || !p3 || !p4) throw new Error("no peers");
  const all = allAllocators(simulation, peers);
  // As the original: two of them tell nothing in the handshake.
  for (const { router } of [p1, p2])
    router.admission.guard({ features: () => ({}), judge: () => undefined, connected() {} });
  await simulation.connect(p2, p1);
  await simulation.connect(p4, p3);
  simulation.clock.advance(2_000);
  for (const peer of [p1, p3])
    await settled(simulation, all.get(peer)?.allocate("c1", UNIVERSE) ?? Promise.reject());
  simulation.clock.advance(2_000);
  await simulation.connect(p3, p1);
  let together = 0;
  for (let waited = 0; waited < 5 * MINUTE; waited += 50) {
    simulation.clock.advance(50);
    for (const { router } of [p3, p4])
      for (const name of [p1, p2].map(({ router: { ourself } }) => ourself.name))
        if (router.connections.has(name)) together += 50;
  }
  expect(together).toBeLessThan(2_000);
  expect(p3.router.admission.refusals.problems()[0]?.found).toContain("seeded by different peers");
});

test("a ring that only its maker knows gives in to that of a network, and its containers keep their addresses", async () => {
  const { simulation, allocators } = await network(92n, 2);
  const [a] = allocators;
  const [first] = simulation.peers;
  if (!a || !first) throw new Error("no allocators");
  await settled(simulation, a.allocate("c1", UNIVERSE));
  const late = simulation.add(3);
  const disk = new MemoryDisk();
  const lonely = withAddresses(simulation, late, { quorum: () => 1 }, disk.mount());
  const held: number[] = [];
  for (let i = 0; i < 3; i++) held.push(await settled(simulation, lonely.allocate(`c${i}`, UNIVERSE)));
  await simulation.connect(late, first);
  simulation.until(() => simulation.converged(), MINUTE);
  await settled(simulation, sleep(simulation.clock, MINUTE));
  expect(lonely.ring.seeds).toEqual(a.ring.seeds);
  // One of them is in use by the other network already, and stays a problem; the others are ours by now.
  const [taken, ...mine] = held;
  for (const address of mine) expect(lonely.ring.owner(address)).toBe(late.router.ourself.name);
  expect(a.ring.owner(taken ?? 0)).toBe(a.ring.peer);
  expect(lonely.problems().addresses).toEqual([
    expect.stringContaining(`container c0 has ${formatIPv4(taken ?? 0)}`),
  ]);
  expect(lonely.report(UNIVERSE).ActiveIPs).toBe(2);
});

test("a liar that gives one peer's range to another gets nothing handed out twice, and is told of", async () => {
  const seed = [1n, 2n].map(nameFromNumber);
  const { simulation, allocators } = await network(93n, 2, { seed });
  const [a, b] = allocators;
  if (!a || !b) throw new Error("no allocators");
  const inUse = await settled(simulation, b.allocate("c1", UNIVERSE));
  simulation.clock.advance(5_000);
  const before = b.ring.ownedRanges();
  const entries = a.ring.entries.map((entry) => ({
    ...entry,
    peer: a.ring.peer,
    version: entry.version + 1_000,
  }));
  const ring = { ...a.ring.state(), peer: a.ring.peer, entries };
  const lie = encodeState({ now: 0n, nicknames: new Map(), consensus: undefined, ring });
  const liar = nameFromNumber(99n);
  atOnce(finish(a.gossiper.onGossip(lie, liar)));
  expect(a.problems().ring).toEqual([expect.stringContaining("was donated to us by another peer")]);
  expect(a.contested.some((range) => rangeContains(range, inUse))).toBe(true);
  simulation.clock.advance(2_000);
  expect(b.ring.ownedRanges()).toEqual(before);
  expect(a.ring.owner(inUse)).toBe(b.ring.peer);
  expect([...a.problems().ring, ...b.problems().ring]).toEqual([]);
  expect(b.notes()).toEqual([expect.stringContaining("which gave it back")]);
});

test("two peers that both use a range say that they contradict each other, until one gives in", async () => {
  const seed = [1n, 2n].map(nameFromNumber);
  const { simulation, allocators } = await network(94n, 2, { seed });
  const [a, b] = allocators;
  const [p1, p2] = simulation.peers;
  if (!a || !b || !p1 || !p2) throw new Error("no allocators");
  const subnet = { address: b.ring.ownedRanges()[0]?.start ?? 0, prefix: 25 };
  await settled(simulation, b.allocate("c1", subnet));
  simulation.network.cut(p1.ip, p2.ip);
  simulation.clock.advance(3 * MINUTE);
  await settled(simulation, a.takeOver(b.ring.peer));
  await settled(simulation, a.allocate("c1", subnet));
  simulation.network.cut(p1.ip, p2.ip, false);
  await simulation.connect(p2, p1);
  simulation.clock.advance(MINUTE);
  for (const allocator of [a, b])
    expect(allocator.problems().ring).toEqual([
      expect.stringContaining("contradict each other over 10.32.0.128/25"),
    ]);
  const more = new AbortController();
  const waiting = a.allocate("c2", subnet, { signal: more.signal });
  simulation.clock.advance(1_000);
  more.abort();
  expect(waiting).rejects.toThrow("cancelled");
  await a.delete("c1");
  simulation.clock.advance(10 * MINUTE);
  for (const allocator of [a, b]) {
    expect(allocator.problems().ring).toEqual([]);
    expect(allocator.ring.owner(subnet.address)).toBe(b.ring.peer);
  }
});

test("a peer that asks again and again gets half of what is free at once, and the rest slowly", async () => {
  const universe = parseCidr("10.32.0.0/16");
  const { simulation, allocators } = await network(95n, 1, { quorum: () => 1, universe });
  const [a] = allocators;
  if (!a) throw new Error("no allocator");
  await settled(simulation, a.allocate("c1", universe));
  const greedy = nameFromNumber(99n);
  for (let i = 0; i < 6_000; i++) {
    a.gossiper.onUnicast(greedy, encodeRangeMessage(0, cidrRange(universe)), greedy);
    simulation.clock.advance(1);
  }
  expect(a.ring.ownedIn(cidrRange(universe))).toBeGreaterThan(cidrSize(universe) / 2.1);
  expect(a.notes()).toEqual([expect.stringContaining("asks for more addresses than its share")]);
});

test("addresses that belong to nobody are taken over by those who are left", async () => {
  const { simulation, allocators } = await network(96n, 3);
  const [a] = allocators;
  if (!a) throw new Error("no allocators");
  await settled(simulation, a.allocate("c1", UNIVERSE));
  simulation.clock.advance(5_000);
  // The quorum that divides the range is two of the three.
  const other = a.ring.entries.find(({ peer }) => peer !== a.ring.peer)?.peer;
  if (other === undefined) throw new Error("no other owner");
  const entries = a.ring.entries.map((entry) =>
    entry.peer === other ? { ...entry, peer: UNKNOWN_PEER, version: entry.version + 100 } : entry,
  );
  const ring = { ...a.ring.state(), peer: other, entries };
  const left = encodeState({ now: 0n, nicknames: new Map(), consensus: undefined, ring });
  atOnce(finish(a.gossiper.onBroadcast(other, left)));
  expect(a.ring.peerNames().has(UNKNOWN_PEER)).toBe(true);
  simulation.clock.advance(3 * MINUTE);
  for (const { ring } of allocators) expect(ring.peerNames().has(UNKNOWN_PEER)).toBe(false);
});

test("out of bounds and too small", async () => {
  const { allocators } = await network(8n, 1, { quorum: () => 1 });
  const [a] = allocators;
  expect(a?.allocate("c", parseCidr("192.168.0.0/24"))).rejects.toThrow("out of bounds");
  expect(cidrRange(UNIVERSE).start).toBeGreaterThan(0);
});

test("a request that is called off waits no more", async () => {
  const { simulation, allocators } = await network(9n, 3, { quorum: () => 4 });
  const [a] = allocators;
  if (!a) throw new Error("no allocators");
  const abort = new AbortController();
  const waiting = a.allocate("c1", UNIVERSE, { signal: abort.signal });
  simulation.clock.advance(1_000);
  abort.abort();
  expect(waiting).rejects.toThrow("cancelled");
  expect(a.waits()).toEqual([]);
});

test("an address in use is claimed as long as it takes: of who takes over the space of its owner, too", async () => {
  const seed = [1n, 2n, 3n].map(nameFromNumber);
  const { simulation, allocators } = await network(60n, 3, { seed });
  const [a, , c] = allocators;
  const [first, , owner] = simulation.peers;
  if (!a || !c || !first || !owner) throw new Error("no allocators");
  const [{ start: address } = { start: 0 }] = c.ring.ownedRanges();
  simulation.kill(owner);
  const peer = simulation.add(4);
  const store = new MemoryDisk().mount();
  const allocator = withAddresses(simulation, peer, {}, store, () => [{ address, prefix: 24 }]);
  await simulation.connect(peer, first);
  await settled(simulation, sleep(simulation.clock, 2 * MINUTE));
  // Somebody asks for any address meanwhile, and is denied: that is no answer to the claim.
  await settled(simulation, allocator.allocate("other", UNIVERSE));
  await settled(simulation, a.takeOver("h3"));
  await settled(simulation, sleep(simulation.clock, MINUTE));
  expect(Array.from(allocator.holders(), ([id]) => id)).toContain(formatIPv4(address));
  expect(allocator.waits()).toEqual([]);
});

test("an address in use is claimed once the disk has room, and nobody is given it before", async () => {
  const disk = new MemoryDisk();
  const simulation = new Simulation(61n);
  const store = disk.mount();
  const before = withAddresses(simulation, simulation.add(1), { quorum: () => 1 }, store);
  const address = (await settled(simulation, before.allocate("first", UNIVERSE))) + 1;
  before.stop();
  store.unplug();
  const [first] = simulation.peers;
  if (first) simulation.kill(first);
  disk.full = true;
  const attached = () => [{ address, prefix: 24 }];
  const allocator = withAddresses(simulation, simulation.add(1), {}, disk.mount(), attached);
  simulation.clock.advance(1_000);
  disk.full = false;
  const others = Array.from({ length: 252 }, (_, i) => allocator.allocate(`c${i}`, UNIVERSE));
  expect(await settled(simulation, Promise.all(others))).not.toContain(address);
  await settled(simulation, sleep(simulation.clock, 10_000));
  expect(Array.from(allocator.holders(), ([id]) => id)).toContain(formatIPv4(address));
});

test("two that take over the same peer at once get its addresses once", async () => {
  const seed = [1n, 2n, 3n, 4n].map(nameFromNumber);
  for (let run = 0n; run < 10n; run++) {
    const { simulation, allocators } = await network(10n + run, 4, { seed });
    const [a, b, c, d] = allocators;
    const gone = simulation.peers[3];
    if (!a || !b || !c || !d || !gone) throw new Error("no allocators");
    const share = d.ring.ownedIn(cidrRange(UNIVERSE));
    // Nearly all they have is in use.
    for (const allocator of [a, b]) {
      const own = Array.from({ length: 60 }, (_, i) => allocator.allocate(`own${i}`, UNIVERSE));
      await settled(simulation, Promise.all(own));
    }
    simulation.kill(gone);
    simulation.clock.advance(2_000);
    const [byA, byB] = [a.takeOver("h4"), b.takeOver("h4")];
    // Requests that come in the meantime are served from elsewhere, or wait.
    const requests = Array.from({ length: 40 }, (_, i) => (i % 2 ? a : b).allocate(`c${i}`, UNIVERSE));
    const addresses = await settled(simulation, Promise.all(requests));
    expect(new Set(addresses).size).toBe(40);
    expect((await settled(simulation, byA)) + (await settled(simulation, byB))).toBe(share);
    simulation.clock.advance(60_000);
    const owned = [a, b, c].reduce((sum, { ring }) => sum + ring.ownedIn(cidrRange(UNIVERSE)), 0);
    expect(owned).toBe(256);
    expect(a.ring.peerNames().has(d.ring.peer)).toBe(false);
  }
});

test("released addresses rest: those that have been idle longest come first", async () => {
  const { simulation, allocators } = await network(20n, 1, { quorum: () => 1 });
  const [a] = allocators;
  if (!a) throw new Error("no allocator");
  const subnet = parseCidr("10.32.0.0/28");
  const get = (id: string) => settled(simulation, a.allocate(id, subnet));
  const first = await get("a");
  const second = await get("b");
  await a.delete("b");
  await a.delete("a");
  const fresh: number[] = [];
  for (let i = 0; i < 12; i++) fresh.push(await get(`fresh${i}`));
  expect(fresh).not.toContain(first);
  expect(fresh).not.toContain(second);
  expect(await get("late")).toBe(second);
  expect(await get("later")).toBe(first);
});

test("a container that has died keeps its addresses for half a minute, unless it is gone for good", async () => {
  const { simulation, allocators } = await network(21n, 1, { quorum: () => 1 });
  const [a] = allocators;
  if (!a) throw new Error("no allocator");
  const get = (id: string) => settled(simulation, a.allocate(id, UNIVERSE, { isContainer: true }));
  const holds = (id: string) => a.leases(id).length > 0;
  for (const id of ["dies", "restarts", "goes"]) await get(id);
  await settled(simulation, a.allocate("host", UNIVERSE));
  for (const id of ["dies", "restarts", "goes", "host"]) a.lifecycle.died(id);
  a.lifecycle.destroyed("goes");
  expect(holds("goes")).toBe(false);
  simulation.clock.advance(25_000);
  a.lifecycle.started("restarts");
  expect(holds("dies")).toBe(true);
  simulation.clock.advance(10_000);
  expect([holds("dies"), holds("restarts"), holds("host")]).toEqual([false, true, true]);
});

test("a participant that restarts while they agree is the same one, and stands by its word", async () => {
  const simulation = new Simulation(22n);
  const disk = new MemoryDisk();
  const [a, b, c] = [simulation.add(1), simulation.add(2), simulation.add(3)];
  await simulation.connect(b, a);
  simulation.until(() => a.router.peers.size === 2, MINUTE);
  const asked = withAddresses(simulation, a, { quorum: () => 3 });
  withAddresses(simulation, b, { quorum: () => 3 }, disk.mount());
  const waiting = asked.allocate("c1", UNIVERSE);
  simulation.clock.advance(1_000);
  const vote = disk.mount().loadVote();
  expect(vote?.claims.promise.proposer.name).toBe(a.router.ourself.name);
  simulation.kill(b);
  const again = simulation.add(2);
  const returned = withAddresses(simulation, again, { quorum: () => 3 }, disk.mount());
  expect(disk.mount().loadVote()).toEqual(vote);
  withAddresses(simulation, c, { quorum: () => 3 });
  await simulation.connect(again, a);
  await simulation.connect(c, a);
  await settled(simulation, waiting);
  simulation.clock.advance(1_000);
  expect(returned.ring.seeds.length).toBe(3);
});

/** Its time grows with their square. */
const ROUTERS = Number(process.env["ROUTERS"] ?? 100);

test(`${ROUTERS} routers that start at once, all asked for an address, agree within seconds, and say little`, async () => {
  const simulation = new Simulation(BigInt(SEED));
  const allocators: Allocator[] = [];
  for (let i = 1; i <= ROUTERS; i++) {
    const peer = simulation.add(i, { connectionLimit: 6 });
    allocators.push(
      withAddresses(simulation, peer, {
        quorum: () => Math.floor(ROUTERS / 2) + 1,
        universe: parseCidr("10.32.0.0/12"),
      }),
    );
    const [first] = simulation.peers;
    if (first && i > 1) await simulation.connect(peer, first);
  }
  const requests = allocators.map((allocator, i) => allocator.allocate(`c${i}`, parseCidr("10.32.0.0/12")));
  const started = simulation.clock.now();
  const addresses = await settled(simulation, Promise.all(requests));
  expect(simulation.clock.now() - started).toBeLessThan(10_000);
  expect(new Set(addresses).size).toBe(ROUTERS);
  // For each router so many bytes about each other one.
  expect(simulation.network.bytes / ROUTERS ** 2).toBeLessThan(2_500);
}, 300_000);
