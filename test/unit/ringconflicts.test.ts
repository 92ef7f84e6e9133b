// Two rings of one network: which one gives in, how long that is waited for, and what becomes of addresses in use.
import { describe, expect, test } from "bun:test";
import { parseCidr, rangeSize } from "../../lib/address/ipv4.ts";
import { Gateways } from "../../lib/ipam/gateways.ts";
import { survivingRing } from "../../lib/ipam/ring/conflict.ts";
import { joinAdjacent, type SentRing } from "../../lib/ipam/ring/entry.ts";
import { Ring } from "../../lib/ipam/ring/ring.ts";
import { allocatorStore, forgetAddresses } from "../../lib/ipam/saved.ts";
import { nameFromNumber, type PeerName, UNKNOWN_PEER } from "../../lib/mesh/name.ts";
import { Store } from "../../lib/store/store.ts";
import { MemoryDisk } from "../support/allocators.ts";
import { ONE, onePeer, RANGE, SUBNET, THREE, TWO, watched } from "../support/onepeer.ts";

const ring = (peer: PeerName, seeds: readonly PeerName[], used = 0): SentRing => {
  const made = new Ring(RANGE.start, RANGE.end, peer);
  made.claimForPeers(seeds);
  const entries = made
    .state()
    .entries.map((entry, i) => (i === 0 ? { ...entry, free: entry.free - used } : entry));
  return { ...made.state(), entries, peer };
};

describe("the surviving ring", () => {
  const shared = ring(TWO, [TWO, THREE]);
  const own = ring(TWO, [TWO]);
  const busy = ring(TWO, [TWO], 1);
  const ofOther = { ...own, peer: THREE };
  const granted = {
    ...own,
    entries: [...own.entries, { ...own.entries[0], token: RANGE.start + 8, peer: ONE }],
  };
  const us = (unshared: boolean, used: boolean, peer = ONE) => ({ peer, unshared, used });

  test.each<[string, ReturnType<typeof us>, SentRing, "ours" | "theirs" | undefined]>([
    ["a shared one stays before one of its maker alone", us(false, false), own, "ours"],
    ["also where that is in use", us(false, true), busy, "ours"],
    ["neither of two shared ones", us(false, false), shared, undefined],
    ["one of its maker that a third passes on is shared", us(false, false), ofOther, undefined],
    ["one of which a part was granted is shared", us(false, false), granted as SentRing, undefined],
    ["ours alone gives in to a shared one", us(true, true), shared, "theirs"],
    ["and to one that a third passes on", us(true, false), ofOther, "theirs"],
    ["the one in use stays: ours", us(true, true), own, "ours"],
    ["the one in use stays: theirs", us(true, false), busy, "theirs"],
    ["neither of two in use", us(true, true), busy, undefined],
    ["of two unused ones that of the lesser name: ours", us(true, false), own, "ours"],
    ["of two unused ones that of the lesser name: theirs", us(true, false, THREE), own, "theirs"],
  ])("%s", (_what, ours, theirs, expected) => expect(survivingRing(ours, theirs)).toBe(expected));
});

/** Peer one with a ring of its own, which no other has. */
const alone = (options: Parameters<typeof onePeer>[0] = {}) => {
  const replaced = { count: 0 };
  const subject = onePeer({
    reachable: [TWO, THREE],
    ...options,
    config: { seed: [], ...options?.config },
    dependencies: { ringReplaced: () => void replaced.count++, ...options?.dependencies },
  });
  void subject.allocator.prime();
  subject.said();
  return { ...subject, replaced };
};

describe("a ring that gives in", () => {
  test("is replaced at once; who was refused for it may come again, and what is handed out is that ring's", async () => {
    const { allocator, say, replaced, lines, store, said } = alone();
    expect(allocator.gate.features()).toEqual({ IPAM: "10.32.0.0/26" });
    say(TWO, ring(TWO, [TWO, THREE]));
    expect([allocator.ring.seeds, replaced.count]).toEqual([[TWO, THREE], 1]);
    expect(lines).toContain("info: replacing our ring, which no peer shares");
    expect(store.loadRing()).toMatchObject({ seeds: [TWO, THREE], alone: false });
    expect(allocator.gate.features()["IPAM"]).toContain(`${TWO},${THREE}`);
    said();
    const waiting = watched(allocator.allocate("c", SUBNET));
    expect([waiting(), said().length]).toEqual(["waiting", 1]);
    allocator.stop();
  });

  test("keeps the addresses of containers: claimed from their owner, and those that are ours by it taken at once", async () => {
    const { allocator, say, sent, said, passOn } = alone();
    const [low, high] = [RANGE.start + 2, RANGE.start + 60];
    await allocator.claim("low", { address: low, prefix: 26 });
    await allocator.claim("high", { address: high, prefix: 26 });
    await allocator.claim("outside", parseCidr("192.168.1.1/24"));
    said();
    const theirs = ring(TWO, [ONE, TWO], 0);
    passOn(TWO, TWO, theirs);
    expect(allocator.ring.owner(low)).toBe(ONE);
    expect(allocator.ring.owner(high)).toBe(TWO);
    expect(allocator.report(SUBNET).ActiveIPs).toBe(1);
    const requests = sent.filter(({ what }) => what === "request");
    expect(requests.length).toBeGreaterThan(0);
    for (const { to, range } of requests) expect([to, range]).toEqual([TWO, { start: high, end: high + 1 }]);
    expect(allocator.problems().addresses).toEqual([
      "container high has 10.32.0.60, which this host does not own: not answered yet",
    ]);
    expect(allocator.waits("high")).toHaveLength(1);
    // Granted.
    const granted = new Ring(RANGE.start, RANGE.end, TWO);
    granted.restore(theirs);
    granted.grant(high, high + 1, ONE);
    say(TWO, granted.state());
    await Bun.sleep(0);
    expect([allocator.problems().addresses, allocator.report(SUBNET).ActiveIPs]).toEqual([[], 2]);
    expect(allocator.waits()).toEqual([]);
    allocator.stop();
  });

  test("names an address that its owner does not give, until the container is gone", async () => {
    const { allocator, say, deny, lines, said } = alone();
    const high = RANGE.start + 60;
    await allocator.claim("high", { address: high, prefix: 26 });
    say(TWO, ring(TWO, [ONE, TWO]));
    deny(TWO, { start: high, end: high + 1 });
    await Bun.sleep(0);
    expect(lines.at(-1)).toBe(
      `warning: cannot claim the address of a container: address 10.32.0.60/26 is owned by other peer ${TWO}`,
    );
    expect(allocator.problems().addresses).toEqual([
      `container high has 10.32.0.60, which this host does not own: address 10.32.0.60/26 is owned by other peer ${TWO}`,
    ]);
    said();
    await allocator.delete("high");
    expect(allocator.problems().addresses).toEqual([]);
    allocator.stop();
  });

  test("asks on for the address of a container that ended before the answer, and was started again", async () => {
    const { allocator, say, said, deny, pass, ringOf } = alone();
    const high = RANGE.start + 60;
    const address = { address: high, prefix: 26 };
    await allocator.claim("high", address, { isContainer: true });
    say(TWO, ring(TWO, [ONE, TWO]));
    allocator.lifecycle.died("high");
    await pass(100);
    expect(allocator.problems().addresses).toEqual([]);
    allocator.lifecycle.started("high");
    said();
    await pass(5_000);
    expect(allocator.problems().addresses).toHaveLength(1);
    expect(said()).toContain(`request ${TWO}`);
    // One that was denied is not asked for again, by that container.
    deny(TWO, { start: high, end: high + 1 });
    await pass(10_000);
    expect(said()).not.toContain(`request ${TWO}`);
    // What this host hands on is not claimed back.
    const before = ringOf(TWO);
    const leaving = allocator.shutdown();
    await pass(100);
    say(TWO, before);
    await pass(100);
    say(TWO, ringOf(TWO));
    expect(await leaving).toBe(TWO);
    said();
    await pass(10_000);
    expect(said()).not.toContain(`request ${TWO}`);
    allocator.stop();
  });

  test("asks for an address no more whose container is gone before the answer", async () => {
    const { allocator, say, lines, said, ringOf } = alone();
    const high = RANGE.start + 60;
    await allocator.claim("high", { address: high, prefix: 26 });
    say(TWO, ring(TWO, [ONE, TWO]));
    await allocator.delete("high");
    await Bun.sleep(0);
    expect([allocator.problems().addresses, allocator.waits()]).toEqual([[], []]);
    expect(lines.filter((line) => line.startsWith("warning"))).toEqual([]);
    said();
    say(
      TWO,
      ringOf(TWO, (entry) => ({ ...entry, version: entry.version + 1 })),
    );
    expect(said()).toEqual([]);
    allocator.stop();
  });

  test("after a restart its addresses are claimed too", () => {
    const disk = new MemoryDisk();
    const store = disk.mount();
    const state = ring(ONE, [ONE, TWO]);
    store.saveRing({ ...state, peer: ONE });
    store.saveHolder("mine", { isContainer: true, cidrs: [{ address: RANGE.start + 1, prefix: 26 }] });
    store.saveHolder("theirs", { isContainer: true, cidrs: [{ address: RANGE.start + 40, prefix: 26 }] });
    const { allocator, said } = onePeer({ store: disk.mount(), reachable: [TWO], config: { seed: [] } });
    expect(said()).toEqual([`request ${TWO}`]);
    expect(allocator.report(SUBNET).ActiveIPs).toBe(1);
    allocator.stop();
  });
});

describe("a ring that does not", () => {
  test("is sent to the other, which has 5 s to give in; then it is refused, and why", async () => {
    const { allocator, say, said, pass, store } = onePeer({ reachable: [TWO] });
    const theirs = ring(TWO, [TWO]);
    for (const wait of [0, 2_500, 2_500]) {
      await pass(wait, 500);
      said();
      say(TWO, theirs);
      expect(said()).toContain(`ring ${TWO}`);
    }
    await pass(1, 1);
    expect(() => say(TWO, theirs)).toThrow(
      `IP allocation was seeded by different peers (received: [${TWO}], ours: [${ONE}(one) ${TWO} ${THREE}])`,
    );
    expect(allocator.ring.seeds).toEqual([ONE, TWO, THREE]);
    expect(store.loadRing()?.seeds).toEqual([ONE, TWO, THREE]);
    allocator.stop();
  });

  test("has 5 s again after it gave in, as a peer that is reset does, and after it was refused", async () => {
    const { allocator, say, said, pass, ringOf } = onePeer({ reachable: [TWO] });
    const theirs = ring(TWO, [TWO]);
    const isGivenTime = () => {
      said();
      say(TWO, theirs);
      expect(said()).toContain(`ring ${TWO}`);
    };
    isGivenTime();
    say(TWO, ringOf(TWO));
    await pass(60_000, 1_000);
    isGivenTime();
    await pass(5_001, 1_000);
    expect(() => say(TWO, theirs)).toThrow("seeded by different peers");
    isGivenTime();
    allocator.stop();
  });

  test("is refused at once where neither can, by another range, or for what is no ring at all", () => {
    const { allocator, say } = onePeer({ reachable: [TWO] });
    const before = allocator.ring.state();
    const cases: [SentRing, string][] = [
      [ring(TWO, [TWO, THREE]), "seeded by different peers"],
      [
        { ...ring(TWO, [ONE, TWO, THREE]), end: RANGE.end + 64 },
        "Incompatible IP allocation ranges (received: 10.32.0.0/25, ours: 10.32.0.0/26)",
      ],
      [
        { ...before, peer: TWO, entries: before.entries.map((entry) => ({ ...entry, free: 65 })) },
        "too much free space",
      ],
    ];
    for (const [sent, message] of cases) expect(() => say(TWO, sent)).toThrow(message);
    expect(allocator.ring.state()).toEqual(before);
    allocator.stop();
  });

  test("gives 64 peers time, and no more", () => {
    const { allocator, say } = onePeer({ reachable: [TWO] });
    const name = (i: number) => nameFromNumber(BigInt(100 + i));
    for (let i = 0; i < 64; i++) say(name(i), ring(name(i), [name(i)]));
    // Others are answered, but not remembered.
    say(name(64), ring(name(64), [name(64)]));
    allocator.stop();
  });
});

describe("a ring that was made alone", () => {
  test.each<[string, (subject: ReturnType<typeof alone>) => void, boolean]>([
    ["stays so when nobody has it", () => {}, true],
    ["stays so when a peer asks for it", ({ tell }) => tell(TWO, {}), true],
    ["is shared by a peer that waits for one", ({ broadcast }) => void broadcast(TWO, {}), false],
    ["is shared by a peer that has it", ({ say, ringOf }) => say(TWO, ringOf(TWO)), false],
    ["stays so when it comes back from ourself", ({ say, ringOf }) => say(ONE, ringOf(ONE)), true],
    ["is shared by a grant", ({ request }) => request(TWO), false],
  ])("%s, also after a restart", (_what, event, isAlone) => {
    const disk = new MemoryDisk();
    const subject = alone({ store: disk.mount() });
    event(subject);
    const text = subject.allocator.gate.features()["IPAM"];
    expect(text === "10.32.0.0/26").toBe(isAlone);
    subject.allocator.stop();
    const again = onePeer({ store: disk.mount(), config: { seed: [] } });
    expect(again.allocator.gate.features()["IPAM"]).toBe(text ?? "");
    again.allocator.stop();
  });

  test("is not one that was seeded, nor of a name in a quorum of more", () => {
    const { allocator } = onePeer({ config: { seed: [ONE] } });
    expect(allocator.gate.features()["IPAM"]).toContain(ONE);
    allocator.stop();
  });
});

describe("messages", () => {
  test("are answered: a question by the ring, a ring behind ours by ours once a second, gossip by nothing", async () => {
    const { allocator, tell, say, said, passOn, pass, ringOf } = onePeer({ reachable: [TWO] });
    said();
    tell(TWO, {});
    expect(said()).toEqual([`ring ${TWO}`]);
    await allocator.allocate("c", SUBNET);
    const behind = ringOf(TWO, (entry) => (entry.peer === ONE ? { ...entry, peer: TWO, version: 0 } : entry));
    say(TWO, behind);
    say(TWO, behind);
    expect(said()).toEqual([`ring ${TWO}`]);
    await pass(1_000);
    say(TWO, behind);
    expect(said()).toEqual([`ring ${TWO}`]);
    await pass(1_000);
    passOn(TWO, TWO, behind);
    expect(said()).toEqual([]);
    allocator.stop();
  });

  test("of gossip are passed on where owners have changed, and not where counts have", async () => {
    const { allocator, pass, passOn, ringOf, store } = onePeer({ reachable: [TWO] });
    const counts = ringOf(TWO, (entry) => (entry.peer === TWO ? { ...entry, free: 3, version: 2 } : entry));
    expect(passOn(TWO, TWO, counts)).toBeUndefined();
    expect(allocator.hasHeard(TWO)).toBe(true);
    expect(allocator.hasHeard(THREE)).toBe(false);
    const owners = ringOf(TWO, (entry) =>
      entry.peer === TWO ? { ...entry, peer: THREE, version: 5 } : entry,
    );
    expect(passOn(TWO, TWO, owners)).toBeDefined();
    // What is not ours is saved with the next tick.
    await pass(5_000);
    expect(store.loadRing()?.entries.find(({ version }) => version === 5)?.peer).toBe(THREE);
    expect(passOn(TWO, TWO, owners)).toBeUndefined();
    allocator.peersGone([{ name: TWO, nickName: "two" }]);
    expect(allocator.hasHeard(TWO)).toBe(false);
    allocator.stop();
  });

  test("of unknown kinds end the connection; denials and rings are answers, requests are none", async () => {
    const { allocator, hear, request, said, deny } = onePeer({ reachable: [TWO] });
    expect(() => hear(TWO, Uint8Array.of(9))).toThrow(`unknown IPAM message 9 from ${TWO}`);
    const [own] = allocator.ring.ownedRanges();
    for (let i = 1; i < rangeSize(own ?? RANGE); i++) await allocator.allocate(`c${i}`, SUBNET);
    said();
    void allocator.allocate("late", SUBNET).catch(() => {});
    expect(said()).toEqual([`request ${TWO}`]);
    const ask = () => {
      void allocator.allocate("later", SUBNET).catch(() => {});
      return said();
    };
    expect(ask()).toEqual([]);
    request(TWO);
    said();
    expect(ask()).toEqual([]);
    deny(TWO, RANGE);
    expect(ask()).toEqual([`request ${TWO}`]);
    allocator.stop();
  });

  test("that ask for space are not answered before there is a ring; then a grant is sent at once, to all within a second", async () => {
    const early = onePeer({ reachable: [TWO], config: { seed: [], quorum: () => 3 } });
    early.request(TWO);
    expect(early.said()).toEqual([]);
    early.allocator.stop();
    const { allocator, request, said, pass } = onePeer({ reachable: [TWO] });
    const before = allocator.ring.ownedIn(RANGE);
    said();
    request(TWO);
    expect(said()).toEqual([`ring ${TWO}`]);
    expect(allocator.ring.ownedIn(RANGE)).toBe(before / 2);
    await pass(1_000);
    expect(said()).toEqual(["ring all"]);
    request(TWO);
    request(TWO);
    said();
    // What it has got by now is more than what is left.
    await pass(100);
    request(TWO);
    expect(said().filter((line) => line !== "ring all")).toEqual([]);
    expect(allocator.notes()).toEqual([
      expect.stringContaining(`peer ${TWO} asks for more addresses than its share`),
    ]);
    allocator.stop();
  });

  test("of peers that own space name them when they go, and forget others", () => {
    const { allocator, tell, clock } = onePeer({ reachable: [TWO, THREE] });
    const four = nameFromNumber(4n);
    tell(TWO, {
      nicknames: new Map([
        [TWO, "two"],
        [four, "four"],
      ]),
    });
    clock.advance(1_000);
    allocator.peersGone([
      { name: TWO, nickName: "zwei" },
      { name: four, nickName: "vier" },
    ]);
    void expect(allocator.takeOver("four")).rejects.toThrow('no peer "four"');
    const entry = allocator.report(SUBNET).Entries?.find(({ Peer }) => Peer === TWO);
    expect(entry).toMatchObject({ Nickname: "zwei", IsKnownPeer: true });
    allocator.stop();
  });

  test("connecting to a peer whose features do not tell asks it for its ring, once there is one of ours", () => {
    const { allocator, said } = onePeer({ reachable: [TWO] });
    said();
    allocator.gate.connected(TWO);
    expect(said()).toEqual([`question ${TWO}`]);
    const early = onePeer({ reachable: [TWO], config: { seed: [], quorum: () => 2 } });
    early.allocator.gate.connected(TWO);
    expect(early.said()).toEqual([]);
    for (const subject of [allocator, early.allocator]) subject.stop();
  });
});

test("gateways are the 64 named last, each once", () => {
  const disk = new MemoryDisk().mount();
  let saves = 0;
  const gateways = new Gateways({
    ...disk,
    saveGateways(addresses) {
      saves++;
      disk.saveGateways(addresses);
    },
  });
  for (let i = 0; i < 65; i++) gateways.reserve(RANGE.start + i);
  gateways.reserve(RANGE.start + 64);
  expect([saves, gateways.ranges.length, gateways.ranges[0]]).toEqual([
    65,
    64,
    { start: RANGE.start + 1, end: RANGE.start + 2 },
  ]);
  disk.saveGateways(Array.from({ length: 70 }, (_, i) => i));
  const again = new Gateways(disk);
  again.load();
  expect([again.ranges.length, again.ranges[0]]).toEqual([64, { start: 6, end: 7 }]);
});

test("what was saved of addresses is read back, forgotten in all, and refused beyond its bounds", () => {
  const store = Store.open(":memory:");
  const saved = allocatorStore(store);
  const state = ring(ONE, [ONE, TWO]);
  saved.saveRing({ ...state, peer: ONE, alone: true });
  saved.saveHolder("c", {
    isContainer: true,
    cidrs: [{ address: 2 ** 32 - 1, prefix: 32, attachment: "a/b" }],
  });
  saved.saveHolder("gone", { isContainer: false, cidrs: [{ address: 1, prefix: 0 }] });
  saved.saveHolder("gone", undefined);
  saved.saveGateways([7]);
  const again = allocatorStore(store);
  expect(again.loadRing()).toEqual({ ...state, peer: ONE, alone: true });
  expect([...again.loadHolders()]).toEqual([
    ["c", { isContainer: true, cidrs: [{ address: 2 ** 32 - 1, prefix: 32, attachment: "a/b" }] }],
  ]);
  expect(again.loadGateways()).toEqual([7]);
  forgetAddresses(store);
  expect([again.loadRing(), again.loadHolders().size, again.loadGateways()]).toEqual([undefined, 0, []]);
  store.close();
});

describe("a ring", () => {
  test("is divided by halving, the later names first where their number is odd; an odd address is the range's before it", () => {
    const divided = (size: number, peers: readonly PeerName[]) => {
      const made = new Ring(0, size, ONE);
      made.claimForPeers(peers);
      return made.state().entries.map(({ token, peer, free }) => [token, Number(peer.slice(-1)), free]);
    };
    expect(divided(64, [ONE, TWO, THREE])).toEqual([
      [0, 1, 32],
      [32, 2, 16],
      [48, 3, 16],
    ]);
    expect(divided(7, [ONE, TWO])).toEqual([
      [0, 1, 3],
      [4, 2, 3],
    ]);
    expect(divided(1, [ONE, TWO])).toEqual([[0, 1, 1]]);
    expect(divided(2, [ONE, TWO, THREE])).toEqual([
      [0, 1, 1],
      [1, 2, 1],
    ]);
  });

  test("finds owners, donors and shares of ranges, those that pass its end too", () => {
    const made = new Ring(10, 20, ONE);
    expect([made.owner(12), made.empty]).toEqual([UNKNOWN_PEER, true]);
    made.restore({
      ...{ start: 10, end: 20, seeds: [] },
      entries: [
        { token: 12, peer: ONE, version: 0, free: 2 },
        { token: 15, peer: TWO, version: 0, free: 0 },
        { token: 18, peer: THREE, version: 0, free: 4 },
      ],
    });
    expect([10, 11, 12, 14, 15, 17, 18, 19].map((at) => Number(made.owner(at).slice(-1)))).toEqual([
      3, 3, 1, 1, 2, 2, 3, 3,
    ]);
    expect(made.ownedRanges(THREE)).toEqual([
      { start: 10, end: 12 },
      { start: 18, end: 20 },
    ]);
    expect([
      made.ownedIn({ start: 0, end: 99 }),
      made.ownedIn({ start: 14, end: 16 }),
      made.ownedIn({ start: 15, end: 99 }),
    ]).toEqual([3, 1, 0]);
    const donors = (start: number, end: number) => made.donors(start, end, () => 1);
    expect([donors(10, 20), donors(12, 15), donors(11, 12), donors(15, 18)]).toEqual([
      [THREE],
      [],
      [THREE],
      [],
    ]);
    expect([made.contains(9), made.contains(10), made.contains(19), made.contains(20)]).toEqual([
      false,
      true,
      true,
      false,
    ]);
  });

  test("asks donors by chance, weighted by what they have", () => {
    const made = new Ring(0, 100, ONE);
    made.restore({
      ...{ start: 0, end: 100, seeds: [] },
      entries: [
        { token: 0, peer: TWO, version: 0, free: 10 },
        { token: 20, peer: THREE, version: 0, free: 20 },
        { token: 50, peer: TWO, version: 0, free: 30 },
      ],
    });
    const drawn = (...floats: number[]) => made.donors(0, 100, () => floats.shift() ?? 0);
    expect([drawn(1, 1), drawn(0.4, 1), drawn(0.6, 1)]).toEqual([
      [TWO, THREE],
      [THREE, TWO],
      [TWO, THREE],
    ]);
  });

  test("joins neighbouring entries of one owner with the greatest version and all that is free", () => {
    expect(
      joinAdjacent([
        { token: 0, peer: ONE, version: 2, free: 1 },
        { token: 4, peer: ONE, version: 5, free: 2 },
        { token: 8, peer: ONE, version: 3, free: 4 },
        { token: 9, peer: TWO, version: 1, free: 0 },
      ]),
    ).toEqual([
      { token: 0, peer: ONE, version: 5, free: 7 },
      { token: 9, peer: TWO, version: 1, free: 0 },
    ]);
  });
});
