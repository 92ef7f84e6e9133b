import { describe, expect, test } from "bun:test";
import { rangeSize } from "../../lib/address/ipv4.ts";
import { MAX_ENTRIES, RingError, type RingState } from "../../lib/ipam/ring/entry.ts";
import { Ring } from "../../lib/ipam/ring/ring.ts";
import { biggestAligned, Space } from "../../lib/ipam/space.ts";
import { decodeState, encodeState } from "../../lib/ipam/wire.ts";
import { nameFromNumber, type PeerName } from "../../lib/mesh/name.ts";
import { fc } from "../support/fastcheck.ts";
import { mergeInto } from "../support/rings.ts";

const START = 0x0a200000;
const SIZE = 256;
const END = START + SIZE;
const name = (i: number): PeerName => nameFromNumber(BigInt(i));
const nothingInUse = () => false;

function ringOf(peer: PeerName, state?: RingState): Ring {
  const ring = new Ring(START, END, peer);
  if (state) ring.restore(state);
  return ring;
}

/** One peer with its ring and its space, as the allocator keeps them. */
class Participant {
  readonly ring: Ring;
  readonly space = new Space();
  readonly used = new Set<number>();

  constructor(
    readonly peer: PeerName,
    peers: readonly PeerName[],
  ) {
    this.ring = ringOf(peer);
    this.ring.claimForPeers(peers);
    this.space.update(this.ring.ownedRanges());
  }

  receive(state: RingState): void {
    const inUse = (ranges: readonly { start: number; end: number }[]) =>
      ranges.some((range) => this.space.freeCount(range) !== rangeSize(range));
    if (mergeInto(this.ring, state, inUse).change !== "nothing") this.space.update(this.ring.ownedRanges());
  }

  donate(to: PeerName, from: number, size: number): void {
    const chunk = this.space.donate({ start: from, end: Math.min(END, from + size) });
    if (chunk) this.ring.grant(chunk.start, chunk.end, to);
  }

  allocate(): void {
    const address = this.space.allocate({ start: START, end: END });
    if (address !== undefined) this.used.add(address);
    this.ring.reportFree((range) => this.space.freeCount(range));
  }
}

type Step = {
  readonly kind: "donate" | "allocate" | "gossip";
  readonly who: number;
  readonly to: number;
  readonly at: number;
};

const steps = fc.array(
  fc.record({
    kind: fc.constantFrom<Step["kind"][]>("donate", "allocate", "gossip"),
    who: fc.nat(3),
    to: fc.nat(3),
    at: fc.nat(SIZE - 1),
  }),
  { maxLength: 60 },
);

function play(history: readonly Step[]): Participant[] {
  const peers = [1, 2, 3, 4].map(name);
  const participants = peers.map((peer) => new Participant(peer, peers));
  for (const { kind, who, to, at } of history) {
    const actor = participants[who];
    const other = participants[to];
    if (!actor || !other) continue;
    if (kind === "allocate") actor.allocate();
    if (kind === "donate" && who !== to) actor.donate(other.peer, START + at, SIZE / 4);
    if (kind === "gossip") other.receive(actor.ring.state());
  }
  return participants;
}

describe("merging", () => {
  test("after any history, all rings merge to the same one, whatever the order, and no address has two owners", () => {
    fc.assert(
      fc.property(steps, fc.infiniteStream(fc.nat(3)), (history, order) => {
        const participants = play(history);
        const random = order[Symbol.iterator]();
        for (let i = 0; i < 40; i++) {
          const from = participants[random.next().value ?? 0];
          const to = participants[random.next().value ?? 0];
          if (from && to) to.receive(from.ring.state());
        }
        for (const from of participants) for (const to of participants) to.receive(from.ring.state());
        for (const from of participants) for (const to of participants) to.receive(from.ring.state());
        const [first] = participants;
        for (const participant of participants)
          expect(participant.ring.entries).toEqual(first?.ring.entries ?? []);
        const used = participants.flatMap((participant) => [...participant.used]);
        expect(new Set(used).size).toBe(used.length);
        const owned = participants.flatMap((participant) => participant.ring.ownedRanges(participant.peer));
        expect(owned.reduce((sum, range) => sum + rangeSize(range), 0)).toBe(SIZE);
      }),
      { numRuns: 200 },
    );
  });

  test("is idempotent", () => {
    fc.assert(
      fc.property(steps, (history) => {
        const [a, b] = play(history);
        if (!a || !b) return;
        a.receive(b.ring.state());
        const once = a.ring.state();
        expect(mergeInto(a.ring, b.ring.state(), nothingInUse).change).toBe("nothing");
        expect(a.ring.state()).toEqual(once);
      }),
    );
  });

  test.each<[string, Partial<RingState>, string]>([
    ["other seeds", { seeds: [name(7)] }, "different-seeds"],
    ["another range", { end: END + SIZE }, "different-range"],
    ["a token twice", { entries: [entry(0), entry(0)] }, "invalid"],
    ["tokens out of order", { entries: [entry(8), entry(4)] }, "invalid"],
    ["a token out of range", { entries: [entry(-1)] }, "invalid"],
    ["more free than there is", { entries: [{ ...entry(0), free: SIZE + 1 }] }, "invalid"],
  ])("%s is refused and changes nothing", (_what, change, code) => {
    const ring = ringOf(name(1));
    ring.claimForPeers([name(1), name(2)]);
    const before = ring.state();
    const other = ringOf(name(2), before).state();
    expect(() => mergeInto(ring, { ...other, ...change }, nothingInUse)).toThrow(RingError);
    try {
      mergeInto(ring, { ...other, ...change }, nothingInUse);
    } catch (error) {
      expect((error as RingError).code).toBe(code as never);
    }
    expect(ring.state()).toEqual(before);
  });

  test("where two owners have as much to say, the greater name has it, whoever merges", () => {
    for (const us of [1, 2, 3]) {
      const [a, b] = [1, 2].map((peer) => ({ ...entry(0), peer: name(peer), version: 4, free: 9 }));
      if (!a || !b) throw new Error("no entries");
      for (const [mine, theirs] of [
        [a, b],
        [b, a],
      ] as const) {
        const ring = ringOf(name(us));
        ring.restore({ ...ring.state(), entries: [mine] });
        mergeInto(ring, { ...ring.state(), entries: [theirs] }, nothingInUse);
        expect(ring.entries.map(({ peer, version }) => [peer, version])).toEqual([[name(2), 4]]);
      }
    }
  });

  test("a range of ours with addresses in use is not given up, one without is", () => {
    const ring = ringOf(name(1));
    ring.claimForPeers([name(1), name(2)]);
    const stolen = ring.entries.map((found) => ({ ...found, peer: name(2), version: found.version + 5 }));
    const before = ring.entries;
    const { change, disputes } = mergeInto(ring, { ...ring.state(), entries: stolen }, () => true);
    expect(change).toBe("counts");
    expect(ring.ownedRanges()).toEqual([{ start: START, end: START + SIZE / 2 }]);
    expect(disputes.map(({ token, peer }) => [token, peer])).toEqual([[START, name(2)]]);
    ring.reassert(disputes);
    expect(ring.entries[0]).toEqual({ ...before[0], version: 105 } as never);
    const free = ringOf(name(1), { ...ring.state(), entries: before });
    expect(mergeInto(free, { ...free.state(), entries: stolen }, () => false).change).toBe("owners");
    expect(free.ownedRanges()).toEqual([]);
  });
});

test("an older life of ours, remembered by others with higher versions, is overruled", () => {
  const ring = ringOf(name(1));
  ring.claimForPeers([name(1), name(2)]);
  const remembered = ring.entries.map((found) => ({ ...found, version: found.version + 7, free: 0 }));
  mergeInto(ring, { ...ring.state(), entries: remembered }, nothingInUse);
  expect(ring.entries.map(({ version, free }) => [version, free])).toEqual([
    [8, SIZE / 2],
    [7, 0],
  ]);
});

test("a token inside a range in use is refused, and others then hear that it is ours", () => {
  const ring = ringOf(name(1));
  ring.claimForPeers([name(1), name(2)]);
  const other = ringOf(name(3), ring.state());
  const cut = [
    ...ring.entries.map((found) => ({ ...found, free: 0 })),
    { token: START + 10, peer: name(3), version: 4, free: 0 },
  ];
  const liar = { ...ring.state(), entries: cut.sort((a, b) => a.token - b.token) };
  mergeInto(other, liar, nothingInUse);
  const { disputes } = mergeInto(ring, liar, () => true);
  expect(ring.owner(START + 10)).toBe(name(1));
  ring.reassert(disputes);
  mergeInto(other, ring.state(), nothingInUse);
  expect(other.owner(START + 10)).toBe(name(1));
});

test("versions that a liar has raised to the last one stay what can be saved and sent", () => {
  const last = 2 ** 32 - 1;
  const ring = ringOf(name(1));
  ring.claimForPeers([name(1), name(2)]);
  const entries = ring.entries.map((found) => ({ ...found, version: last }));
  mergeInto(ring, { ...ring.state(), entries }, nothingInUse);
  ring.reportFree(() => 3);
  ring.grant(START + 8, START + 16, name(2));
  ring.grant(START, START + 8, name(2));
  ring.transfer(name(2), name(1));
  ring.reassert([{ token: START, peer: name(2), version: last, ranges: [] }]);
  for (const { version } of ring.entries) expect(version).toBeLessThanOrEqual(last);
  const sent = encodeState({
    now: 0n,
    nicknames: new Map(),
    consensus: undefined,
    ring: { ...ring.state(), peer: name(1) },
  });
  expect(decodeState(sent).ring?.entries).toEqual([...ring.entries]);
});

test("a ring of more entries than fit a message is refused; one that was saved is joined to fewer", () => {
  const bounds = { start: START, end: START + 2 ** 17, seeds: [] };
  const entries = Array.from({ length: MAX_ENTRIES + 1 }, (_, i) => ({ ...entry(0), token: START + i }));
  const ring = new Ring(bounds.start, bounds.end, name(1));
  expect(() => mergeInto(ring, { ...bounds, entries }, nothingInUse)).toThrow("are the most");
  ring.restore({ ...bounds, entries });
  expect(ring.entries.length).toBe(1);
});

function entry(offset: number) {
  return { token: START + offset, peer: name(2), version: 1, free: 0 };
}

test("a range that passes the end of the ring", () => {
  const ring = ringOf(name(1));
  ring.restore({
    start: START,
    end: END,
    seeds: [],
    entries: [{ ...entry(100), peer: name(1) }, entry(200)],
  });
  expect(ring.owner(START)).toBe(name(2));
  expect(ring.ownedRanges(name(2))).toEqual([
    { start: START, end: START + 100 },
    { start: START + 200, end: END },
  ]);
});

test("transfer takes everything, and wins over what the old owner says later", () => {
  const ring = ringOf(name(1));
  ring.claimForPeers([name(1), name(2)]);
  const theirs = ringOf(name(2), ring.state());
  ring.transfer(name(2), name(1));
  expect(ring.ownedRanges()).toEqual([
    { start: START, end: START + SIZE / 2 },
    { start: START + SIZE / 2, end: END },
  ]);
  theirs.reportFree(() => 3);
  expect(mergeInto(ring, theirs.state(), nothingInUse).change).toBe("nothing");
});

describe("space", () => {
  test("hands out each address once, given-back ones last, the longest rested first", () => {
    const space = new Space();
    space.update([{ start: 10, end: 14 }]);
    const all = { start: 0, end: 100 };
    expect([space.allocate(all), space.allocate(all)]).toEqual([10, 11]);
    expect(space.release(11)).toBe(true);
    expect(space.release(10)).toBe(true);
    expect(space.release(10)).toBe(false);
    expect([1, 2, 3, 4].map(() => space.allocate(all))).toEqual([12, 13, 11, 10]);
    expect(space.allocate(all)).toBeUndefined();
  });

  test("donates at most half, aligned, and never what is in use", () => {
    const space = new Space();
    space.update([{ start: 0, end: 64 }]);
    space.claim(5);
    const given = space.donate({ start: 0, end: 64 });
    expect(given).toEqual({ start: 48, end: 64 });
    space.update([{ start: 0, end: 48 }]);
    expect(space.freeCount()).toBe(47);
    expect(() => space.update([{ start: 16, end: 48 }])).toThrow("no longer ours");
  });

  test("of any ranges, all but what is in use is free", () => {
    const ranges = fc.array(fc.tuple(fc.nat(60), fc.nat(8)), { maxLength: 12 });
    fc.assert(
      fc.property(ranges, fc.array(fc.nat(70), { maxLength: 20 }), (list, used) => {
        const owned = list.map(([start, size]) => ({ start, end: start + size }));
        const isOurs = (address: number) => owned.some(({ start, end }) => address >= start && address < end);
        const space = new Space();
        space.update([{ start: 0, end: 80 }]);
        const held = new Set(used.filter((address) => isOurs(address) && space.claim(address)));
        space.update(owned);
        for (let at = 0; at < 80; at++)
          expect([at, space.freeCount({ start: at, end: at + 1 })]).toEqual([
            at,
            Number(isOurs(at) && !held.has(at)),
          ]);
      }),
    );
  });

  test("a ring that a liar cuts to pieces, every other one ours, is taken in at once and not in a minute", () => {
    const [start, end] = [0x0a000000, 0x0b000000];
    const ring = new Ring(start, end, name(1));
    ring.claimForPeers([name(1)]);
    const size = (end - start) / MAX_ENTRIES;
    const entries = Array.from({ length: MAX_ENTRIES }, (_, i) => ({
      ...{ token: start + i * size, peer: name(1 + (i % 2)), version: 50, free: 1 },
    }));
    mergeInto(ring, { start, end, entries, seeds: [name(1)] }, nothingInUse);
    const space = new Space();
    space.update(ring.ownedRanges());
    expect(space.freeCount()).toBe((end - start) / 2);
  });

  test("the biggest aligned run of a range", () => {
    fc.assert(
      fc.property(fc.nat(2 ** 31), fc.integer({ min: 1, max: 2 ** 20 }), (start, size) => {
        const run = biggestAligned({ start, end: start + size });
        const length = rangeSize(run);
        expect(Number.isInteger(Math.log2(length))).toBe(true);
        expect(run.start % length).toBe(0);
        expect(run.start >= start && run.end <= start + size).toBe(true);
        expect(length).toBeGreaterThan(size / 4);
      }),
    );
  });
});

test("what we said of our own range and did not save is said again, newer, as it is now", () => {
  const [start, end, us] = [0, 16, nameFromNumber(1n)];
  const ring = new Ring(start, end, us);
  const said = (free: number) => ({
    start,
    end,
    seeds: [],
    entries: [{ token: 0, peer: us, version: 3, free }],
  });
  ring.restore(said(16));
  mergeInto(ring, said(9), () => true);
  expect(ring.entries).toEqual([{ token: 0, peer: us, version: 4, free: 16 }]);
  mergeInto(ring, said(9), () => true);
  mergeInto(ring, { ...said(16), entries: [...ring.entries] }, () => true);
  expect(ring.entries[0]?.version).toBe(4);
});
