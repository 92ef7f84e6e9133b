// Rings of the maximum length, from a peer that sends a new one each time: no step of the event loop writes or encodes a whole
// one, and our ranges are on disk all the same.
import { jscDescribe } from "bun:jsc";
import { describe, expect, test } from "bun:test";
import { cidrRange, parseCidr } from "../../lib/address/ipv4.ts";
import { concat } from "../../lib/bytes/concat.ts";
import type { Timer } from "../../lib/clock/clock.ts";
import { seededRandom } from "../../lib/clock/random.ts";
import { SimulatedClock } from "../../lib/clock/simulated.ts";
import { atOnce, finish, Slices } from "../../lib/clock/slices.ts";
import { Allocator } from "../../lib/ipam/allocator.ts";
import { PersistentRing } from "../../lib/ipam/persistentring.ts";
import { type Entry, MAX_ENTRIES } from "../../lib/ipam/ring/entry.ts";
import { Ring } from "../../lib/ipam/ring/ring.ts";
import { type AllocatorStore, allocatorStore, type SavedRing } from "../../lib/ipam/saved.ts";
import { Space } from "../../lib/ipam/space.ts";
import { UnconfirmedRanges } from "../../lib/ipam/unconfirmed.ts";
import { decodeState, encodeRangeMessage, encodeState, MESSAGE } from "../../lib/ipam/wire.ts";
import { silentLog } from "../../lib/log/log.ts";
import { BufferBudget } from "../../lib/mesh/bufferbudget.ts";
import { GossipSender } from "../../lib/mesh/gossipsender.ts";
import { encodeTagged } from "../../lib/mesh/message.ts";
import { nameFromNumber, type PeerName } from "../../lib/mesh/name.ts";
import { MemoryDisk } from "../support/allocators.ts";
import { mergeInto } from "../support/rings.ts";

const SUBNET = parseCidr("10.32.0.0/16");
const { start, end } = cidrRange(SUBNET);
const HALF = start + (end - start) / 2;
const [ONE, LIAR] = [1n, 2n].map(nameFromNumber) as [PeerName, PeerName];
const TICK_MS = 5_000;

const encoded = new Map<string, Uint8Array>();

/** The first half is ours; the liar gives each address of its half to a peer that there is not, or the first one to us. */
function ring(version: number, gift = false): Uint8Array {
  const key = `${version} ${gift}`;
  const bytes = encoded.get(key) ?? encodeRing(version, gift);
  encoded.set(key, bytes);
  return bytes;
}

function encodeRing(version: number, gift: boolean): Uint8Array {
  const entries: Entry[] = [{ token: start, peer: ONE, version: 0, free: 0 }];
  for (let i = 0; i < MAX_ENTRIES - 1; i++) {
    const peer = gift && i === 0 ? ONE : nameFromNumber(BigInt(1_000 + ((i + version) % 40_000)));
    entries.push({ token: HALF + i, peer, version, free: 1 });
  }
  const state = { start, end, peer: LIAR, entries, seeds: [ONE, LIAR] };
  return encodeState({ now: 0n, nicknames: new Map(), consensus: undefined, ring: state });
}

/** A clock that takes 1 ms for each look at what was worked, and counts turns of the event loop. */
class BusyClock extends SimulatedClock {
  turns = 0;
  /** Called after each turn. */
  turned: () => void = () => {};
  #worked = 0;

  worked(): number {
    return ++this.#worked;
  }

  override after(ms: number, fn: () => void): Timer {
    return super.after(ms, () => {
      this.turns++;
      fn();
      this.turned();
    });
  }
}

/** What is sent to single peers. */
interface Unicast {
  readonly to: PeerName;
  readonly message: Uint8Array;
}

function subject(disk: AllocatorStore = new MemoryDisk().mount()) {
  const clock = new BusyClock(1_000_000);
  const saved: SavedRing[] = [];
  const saveRing = (each: SavedRing, soon?: boolean) => {
    disk.saveRing(each, soon);
    saved.push(each);
  };
  const store = { ...disk, saveRing };
  const allocator = new Allocator(
    {
      ourName: ONE,
      ourUid: 1n,
      ourNickName: "one",
      universe: SUBNET,
      seed: [ONE, LIAR],
      observer: false,
      quorum: () => 1,
      isKnownPeer: (name) => name === LIAR,
      reachablePeers: () => [LIAR],
    },
    { clock, random: seededRandom(1n), log: silentLog, store },
  );
  const unicasts: Unicast[] = [];
  allocator.start({
    unicast: (to, message) => unicasts.push({ to, message }) > 0,
    broadcast: () => {},
    neighbours: () => {},
  });
  saved.length = 0;
  const slices = new Slices(clock);
  /** Hear a message in slices; returns after how many turns of the event loop it was taken. */
  const hear = (message: Uint8Array): number => {
    let ended = false;
    const before = clock.turns;
    // Half a ring is never seen.
    clock.turned = () => expect([2, MAX_ENTRIES]).toContain(allocator.ring.entries.length);
    const work = function* () {
      yield* finish(allocator.gossiper.onGossip(message, LIAR));
    };
    slices.run(work(), (error) => {
      expect(error).toBeUndefined();
      ended = true;
    });
    clock.advance(0);
    expect(ended).toBe(true);
    return clock.turns - before;
  };
  return { allocator, clock, saved, hear, slices, unicasts };
}

test("are decoded over many turns, and saved once in a tick, unless they change what is ours", () => {
  const { allocator, clock, saved, hear } = subject();
  for (let version = 1; version <= 2; version++) expect(hear(ring(version))).toBeGreaterThan(50);
  expect([allocator.ring.entries.length, saved.length]).toEqual([MAX_ENTRIES, 0]);
  clock.advance(TICK_MS);
  expect(saved.map(({ entries }) => entries)).toEqual([allocator.ring.state().entries]);
  clock.advance(TICK_MS);
  expect(saved.length).toBe(1);
  hear(ring(3, true));
  expect(allocator.ring.ownedRanges().at(-1)).toEqual({ start: HALF, end: HALF + 1 });
  expect(saved.at(-1)?.entries).toEqual(allocator.ring.state().entries);
});

/** A disk that counts its writes, those that are waited for apart. */
function countingDisk() {
  const count = { soon: 0, durable: 0 };
  let durable = false;
  const rows = {
    get: () => undefined,
    all: () => new Map(),
    clear() {},
    set: () => void (durable ? count.durable++ : count.soon++),
  };
  const durably = (change: () => void) => {
    durable = true;
    change();
    durable = false;
  };
  return { count, disk: allocatorStore({ path: "", rows: () => rows, durably } as never) };
}

test("are saved over many turns, and the disk is not waited for, unless they change what is ours", () => {
  const { disk, count } = countingDisk();
  const { clock, hear, allocator } = subject(disk);
  const before = { ...count };
  hear(ring(1));
  expect(count).toEqual(before);
  clock.advance(TICK_MS - 1);
  const began = clock.turns;
  // Our ring changes once more while it is saved.
  clock.turned = () => {
    if (clock.turns - began === 5) void allocator.allocate("web", SUBNET);
  };
  clock.advance(1);
  expect(clock.turns - began).toBeGreaterThan(30);
  expect(count).toEqual({ ...before, soon: before.soon + 2 });
  clock.advance(TICK_MS);
  expect(count).toEqual({ ...before, soon: before.soon + 3 });
  hear(ring(3, true));
  expect(count).toEqual({ soon: before.soon + 3, durable: before.durable + 1 });
});

test("are encoded over many turns, as they were when that began", () => {
  const { allocator, clock, hear, slices } = subject();
  hear(ring(1));
  const sent: Uint8Array[] = [];
  const sender = new GossipSender(
    { clock, slices, ourself: { name: ONE }, buffers: new BufferBudget() },
    (pieces) => sent.push(concat(pieces)),
    (error) => expect.unreachable(error.message),
  );
  const data = allocator.gossiper.gossip() ?? expect.unreachable();
  const [whole = new Uint8Array()] = data.encode();
  const before = decodeState(whole).ring?.entries;
  sender.add("ring", undefined, data);
  const began = clock.turns;
  clock.turned = () => {
    if (clock.turns - began === 5) void allocator.allocate("web", SUBNET);
  };
  clock.advance(0);
  expect(clock.turns - began).toBeGreaterThan(50);
  expect(allocator.ring.entries).not.toEqual(before);
  const payload = sent[0]?.subarray(-whole.length) ?? new Uint8Array();
  expect(decodeState(payload).ring?.entries).toEqual(before);
});

test("are sent to all that ask meanwhile over many turns, encoded once, with a denial behind", () => {
  const { allocator, clock, hear, unicasts } = subject();
  hear(ring(1));
  unicasts.length = 0;
  // The first question comes alone; the others wait while its answer is encoded.
  const askers = Array.from({ length: 9 }, (_, i) => nameFromNumber(BigInt(100 + i)));
  const question = encodeTagged(
    MESSAGE.ringUpdate,
    encodeState({ now: 0n, nicknames: new Map(), consensus: undefined, ring: undefined }),
  );
  for (const asker of askers) {
    const handled = allocator.gossiper.onUnicast(asker, question, asker);
    if (handled) atOnce(finish(handled));
  }
  const request = encodeRangeMessage(MESSAGE.spaceRequest, { start: HALF, end });
  void allocator.gossiper.onUnicast(LIAR, request, LIAR);
  expect(unicasts).toEqual([]);
  const began = clock.turns;
  clock.turned = () => {};
  clock.advance(0);
  expect(clock.turns - began).toBeGreaterThan(100);
  expect(unicasts.map(({ to }) => to)).toEqual([...askers, LIAR, LIAR]);
  expect(new Set(unicasts.map(({ message }) => message)).size).toBe(3);
  expect(unicasts.map(({ message: [kind] }) => kind).slice(-2)).toEqual([
    MESSAGE.ringUpdate,
    MESSAGE.spaceRequestDenied,
  ]);
  const { message = new Uint8Array() } = unicasts[8] ?? {};
  expect(decodeState(message.subarray(1)).ring?.entries).toEqual([...allocator.ring.entries]);
});

test("are given to the disk as one short text", () => {
  const { allocator, hear } = subject();
  hear(ring(1));
  const written: unknown[] = [];
  const rows = { set: (_key: string, value: unknown) => written.push(value) };
  const store = { path: "", rows: () => rows, durably: (change: () => void) => change() };
  allocatorStore(store as never).saveRing({ ...allocator.ring.state(), peer: ONE });
  // SQLite takes as long as there are bytes; an object for each entry would take as long again.
  let values = 0;
  const text = JSON.stringify(written, (_, value) => {
    values++;
    return value;
  });
  expect(values).toBeLessThan(20);
  expect(text.length).toBeLessThan(25 * MAX_ENTRIES);
});

test("are merged in a few walks along both, by names that are compared as they are", () => {
  let reads = 0;
  const counted = (version: number): Entry[] =>
    Array.from({ length: MAX_ENTRIES }, (_, i) => ({
      get token() {
        reads++;
        return start + i;
      },
      peer: nameFromNumber(BigInt(1_000 + i + version)),
      version,
      free: 1,
    }));
  const rings = [1, 2].map((version) => ({ start, end, entries: counted(version), seeds: [] }));
  const merged = new Ring(start, end, ONE);
  for (const each of rings) mergeInto(merged, each, () => false);
  expect(merged.entries.map(({ version }) => version)).toEqual(Array(MAX_ENTRIES).fill(2));
  expect(reads).toBeLessThan(40 * MAX_ENTRIES);
  // A rope is put together when it is first compared: 30 ms for so many.
  expect(jscDescribe(merged.entries[9]?.peer)).not.toContain("rope");
});

test("that change our ranges are merged at a limited rate; one that does not is merged meanwhile", () => {
  const { allocator, clock, saved, slices } = subject();
  /** Each version gives us another third of the addresses in the liar's half. */
  const gifts = (version: number, other = LIAR) => {
    const entries = [{ token: start, peer: ONE, version: 0, free: 0 }];
    for (let i = 0; i < MAX_ENTRIES - 1; i++)
      entries.push({ token: HALF + i, peer: (i + version) % 3 ? other : ONE, version, free: 1 });
    const ring = { start, end, peer: LIAR, entries, seeds: [ONE, LIAR] };
    return encodeState({ now: 0n, nicknames: new Map(), consensus: undefined, ring });
  };
  clock.turned = () => {};
  let merged = 0;
  const began = clock.now();
  const times: number[] = [];
  for (let version = 1; version <= 4; version++) {
    const work = function* () {
      yield* finish(allocator.gossiper.onGossip(gifts(version), LIAR));
    };
    slices.run(work(), (error) => {
      expect(error).toBeUndefined();
      merged++;
      times.push(clock.now() - began);
    });
    clock.advance(0);
  }
  expect([merged, saved.length]).toEqual([2, 2]);
  // It leaves our ranges as they are, and gives the rest to another peer.
  const ghost = nameFromNumber(1_000n);
  const idle = function* () {
    yield* finish(allocator.gossiper.onGossip(gifts(2, ghost), LIAR));
  };
  slices.run(idle(), () => merged++);
  clock.advance(0);
  expect([merged, allocator.ring.entries.at(-1)?.peer]).toEqual([3, ghost]);
  for (let i = 0; i < 100; i++) clock.advance(100);
  expect(merged).toBe(5);
  // 32,768 entries at 8,192 a second.
  expect(times.slice(0, 2)).toEqual([0, 0]);
  expect(times[2]).toBeLessThanOrEqual(100);
  expect(times[3]).toBeGreaterThan(3_900);
  expect(times[3]).toBeLessThan(4_200);
});

test("are merged in steps that read few entries each", () => {
  let reads = 0;
  const counted = (version: number): Entry[] =>
    Array.from({ length: MAX_ENTRIES }, (_, i) => ({
      get token() {
        reads++;
        return start + i;
      },
      peer: i % 2 === version % 2 ? ONE : nameFromNumber(BigInt(1_000 + i)),
      version,
      free: 1,
    }));
  const rings = [1, 2].map((version) => ({ start, end, entries: counted(version), seeds: [] }));
  const ours = new Ring(start, end, ONE);
  for (const each of rings) {
    const work = ours.merging(each, () => false);
    const steps: number[] = [];
    reads = 0;
    for (let step = work.next(); ; step = work.next()) {
      steps.push(reads);
      reads = 0;
      if (!step.done) continue;
      expect(ours.adopt(step.value)).toBe(true);
      break;
    }
    expect(Math.max(...steps)).toBeLessThan(MAX_ENTRIES / 2);
  }
  expect(ours.ownedRanges().length).toBe(MAX_ENTRIES / 2);
});

describe("while a ring is merged", () => {
  const SIZE = 2_048;
  const ghost = (i: number) => nameFromNumber(BigInt(1_000 + i));

  const takings = new Map<number, Uint8Array>();

  /** Return a ring that splits both halves, also ours, which is free, among peers that do not exist. */
  function taking(version: number): Uint8Array {
    const known = takings.get(version);
    if (known) return known;
    const size = (end - start) / SIZE;
    // Odd tokens: ranges that we grant or donate do not start at one.
    const entries = Array.from({ length: SIZE }, (_, i) => ({
      ...{ token: start + i * size + Math.sign(i), peer: ghost(i), version, free: 1 },
    }));
    const state = { start, end, peer: LIAR, entries, seeds: [ONE, LIAR] };
    const bytes = encodeState({ now: 0n, nicknames: new Map(), consensus: undefined, ring: state });
    takings.set(version, bytes);
    return bytes;
  }

  const hearing = (allocator: Allocator, version: number) => {
    const work = allocator.gossiper.onGossip(taking(version), LIAR);
    return (work && "next" in work ? work : expect.unreachable()) as Generator<unknown>;
  };
  const toEnd = (work: Generator<unknown>) => {
    let steps = 0;
    while (!work.next().done) steps++;
    return steps;
  };
  const STEPS = toEnd(hearing(subject().allocator, 1));
  /** The merge takes the last steps, after decoding in steps of 64 entries. */
  const AT = Array.from({ length: 24 }, (_, i) => STEPS - 1 - i);

  test.each(AT)("a range that we grant in step %# from the end is kept", (at) => {
    const { allocator, saved } = subject();
    const work = hearing(allocator, 1);
    for (let i = 0; i < at; i++) work.next();
    const merged = allocator.ring.entries.length > 2;
    const request = encodeRangeMessage(MESSAGE.spaceRequest, { start, end: HALF });
    void allocator.gossiper.onUnicast(LIAR, request, LIAR);
    toEnd(work);
    const tokens = allocator.ring.entries.map(({ token }) => token);
    expect(tokens.length).toBe(SIZE + (merged ? 1 : 2));
    // The upper half of what was free.
    expect(tokens.includes(start + (HALF - start) / 2)).toBe(!merged);
    expect(saved.at(-1)?.entries).toEqual(allocator.ring.entries);
  });

  test.each(AT)("an address that is allocated in step %# from the end stays ours", async (at) => {
    const { allocator } = subject();
    const work = hearing(allocator, 1);
    for (let i = 0; i < at; i++) work.next();
    const merged = allocator.ring.entries.length > 2;
    const waiting = allocator.allocate("web", SUBNET);
    const address = merged ? undefined : await waiting;
    if (merged) waiting.catch(() => {});
    toEnd(work);
    if (address !== undefined) expect(allocator.ring.owner(address)).toBe(ONE);
    else expect(allocator.ring.ownedRanges()).toEqual([]);
    allocator.stop();
  });

  test("an address that is claimed without a change of the ring stays ours, too", () => {
    const space = new Space();
    const store = new MemoryDisk().mount();
    const config = { ourName: ONE, universe: SUBNET };
    const persistent = new PersistentRing(
      config,
      { clock: new SimulatedClock(), log: silentLog, store },
      space,
    );
    persistent.create([ONE], false);
    persistent.updateSpace();
    const theirs = { start, end, entries: [{ token: start, peer: LIAR, version: 9, free: 0 }], seeds: [] };
    const draft = atOnce(persistent.merging(theirs));
    expect(draft.owned).toEqual([]);
    space.claim(start + 7);
    expect(persistent.adopt(draft)).toBe(false);
    expect(persistent.adopt(atOnce(persistent.merging(theirs)))).toBe(true);
    expect(persistent.ring.owner(start + 7)).toBe(ONE);
  });

  test("another ring is merged after it, also if the first merge is cancelled", () => {
    for (const givenUp of [false, true]) {
      const { allocator } = subject();
      const [first, second] = [hearing(allocator, 1), hearing(allocator, 2)];
      for (let i = 0; i < STEPS - 10; i++) first.next();
      for (let i = 0; i < STEPS * 2; i++) expect(second.next().done).toBe(false);
      if (givenUp) first.return(undefined);
      else toEnd(first);
      expect(allocator.ring.entries[0]?.version).toBe(givenUp ? 0 : 1);
      toEnd(second);
      expect(allocator.ring.entries[0]?.version).toBe(2);
    }
  });
});

test("that each give us ranges of thousands more owners are remembered up to the limit of owners", () => {
  const ranges = new UnconfirmedRanges();
  for (let round = 0; round < 5; round++)
    for (let i = 0; i < MAX_ENTRIES; i++)
      ranges.add([{ start: 2 * i, end: 2 * i + 1 }], nameFromNumber(BigInt(round * MAX_ENTRIES + i)), round);
  expect(ranges.limit).toMatchObject({ value: 1_024, max: 1_024 });
  expect(ranges.ranges.length).toBe(1_024 + MAX_ENTRIES);
  expect(ranges.problems((peer) => peer).at(-1)).toStartWith("ranges of many more peers were donated");
  // Those of unreachable owners that are known by name wait for 2 s.
  expect([ranges.expire(2_000, () => false), ranges.ranges.length]).toEqual([true, MAX_ENTRIES]);
  expect([ranges.expire(120_003, () => false), ranges.ranges.length]).toEqual([false, MAX_ENTRIES]);
  expect([ranges.expire(120_004, () => false), ranges.ranges.length]).toEqual([true, 0]);
});
