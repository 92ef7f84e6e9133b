// Holders of addresses against a model that is plain enough to be right: containers, attachments, links, a disk that
// fills, deaths and returns, in random order; who holds what, what is due when, and who is told.
import { describe, expect, test } from "bun:test";
import { cidrRange, formatIPv4, hostRange, type IPv4, parseCidr } from "../../lib/address/ipv4.ts";
import { seededRandom } from "../../lib/clock/random.ts";
import { SimulatedClock } from "../../lib/clock/simulated.ts";
import type { Sighting } from "../../lib/host/containers.ts";
import { Allocator } from "../../lib/ipam/allocator.ts";
import { Space } from "../../lib/ipam/space.ts";
import { logTo } from "../../lib/log/log.ts";
import { MUTE } from "../../lib/mesh/gossip.ts";
import { nameFromNumber } from "../../lib/mesh/name.ts";
import { StoreError } from "../../lib/store/error.ts";
import { MemoryDisk } from "../support/allocators.ts";
import { randomOf, type TestRandom } from "../support/seed.ts";

const SUBNET = parseCidr("10.32.0.0/28");
const OWN = nameFromNumber(1n);
const ATTACHMENTS = ["a/eth0", "a/net1", "b/eth0", undefined] as const;
type Attachment = (typeof ATTACHMENTS)[number];

/** An allocator of its own, with links and a disk that are the test. */
function world(sighted?: () => Promise<Sighting>) {
  const clock = new SimulatedClock();
  const links = new Set<IPv4>();
  const disk = { full: false };
  const events: string[] = [];
  const lines: string[] = [];
  const memory = new MemoryDisk().mount();
  const looks = { count: 0 };
  const allocator = new Allocator(
    {
      ...{ ourName: OWN, ourUid: 1n, ourNickName: "one", universe: SUBNET, seed: [OWN] },
      ...{ observer: false, quorum: () => 1, isKnownPeer: () => false, reachablePeers: () => [] },
    },
    {
      ...{ clock, random: seededRandom(1n) },
      log: logTo((level, text) => level !== "debug" && lines.push(`${level}: ${text}`)),
      store: {
        ...memory,
        saveHolder(id, owned) {
          if (disk.full) throw new StoreError("disk", "the disk is full");
          memory.saveHolder(id, owned);
        },
      },
      async attached() {
        looks.count++;
        if (sighted) return sighted();
        return { addresses: Array.from(links, (address) => ({ address, prefix: 28 })), complete: true };
      },
      released: (id) => events.push(`released ${id}`),
      gone: (ids) => events.push(`gone ${[...ids].sort()}`),
    },
  );
  allocator.start(MUTE);
  const settle = async () => {
    for (let turn = 0; turn < 30; turn++) await Promise.resolve();
  };
  const pass = async (ms: number) => {
    clock.advance(ms);
    await settle();
  };
  return { allocator, clock, links, disk, events, lines, looks, memory, settle, pass };
}

interface Held {
  readonly id: string;
  readonly attachment: Attachment;
  readonly isContainer: boolean;
}
interface Due {
  readonly id: string;
  readonly at: number;
  readonly obstacle: "unseen" | "on-link" | "not-saved" | undefined;
}

/** The rules, one address at a time. */
class Model {
  readonly held = new Map<IPv4, Held>();
  readonly due = new Map<IPv4, Due>();
  readonly events: string[] = [];
  full = false;
  now = 0;

  constructor(readonly links: ReadonlySet<IPv4>) {}

  of(id: string): [IPv4, Held][] {
    return [...this.held].filter(([, holder]) => holder.id === id);
  }

  isContainer(id: string): boolean {
    return this.of(id)[0]?.[1].isContainer ?? false;
  }

  /** False where that fails for want of disk. */
  remove(id: string, addresses: readonly IPv4[]): boolean {
    if (addresses.length === 0) return true;
    if (this.full) {
      if (!this.isContainer(id)) return false;
      for (const address of addresses) this.due.set(address, { id, at: this.now, obstacle: "not-saved" });
      return true;
    }
    for (const address of addresses) {
      this.held.delete(address);
      this.due.delete(address);
    }
    if (this.of(id).length === 0) this.events.push(`released ${id}`);
    return true;
  }

  died(addresses: readonly IPv4[], id: string, graceMs: number): boolean {
    let any = false;
    for (const address of addresses) {
      if (this.due.has(address)) continue;
      this.due.set(address, { id, at: this.now + graceMs, obstacle: undefined });
      any = true;
    }
    return any;
  }

  /** Look at the links: note who is gone, and release what was due before. */
  look(checkGone: boolean): void {
    const due = [...this.due].filter(([, { at }]) => at <= this.now);
    if (due.length === 0 && !checkGone) return;
    if (checkGone) {
      const gone = new Set<string>();
      const groups = Map.groupBy(this.held, ([, { id, attachment }]) => `${id} ${attachment}`);
      for (const group of groups.values()) {
        const [first] = group;
        if (!first?.[1].isContainer || group.some(([address]) => this.links.has(address))) continue;
        const addresses = group.map(([address]) => address);
        if (this.died(addresses, first[1].id, 30_000)) gone.add(first[1].id);
      }
      if (gone.size > 0) this.events.push(`gone ${[...gone].sort()}`);
    }
    for (const [address, { id, obstacle }] of due) {
      if (this.held.get(address)?.id !== id) this.due.delete(address);
      else if (!this.links.has(address)) this.remove(id, [address]);
      else if (obstacle) this.due.set(address, { id, at: this.now, obstacle: "on-link" });
      else this.due.delete(address);
    }
  }

  /** False where there is nothing to release. */
  release(id: string, attachment: Attachment, detached: boolean): boolean | "disk" {
    const all = this.of(id);
    const named = all.some(([, held]) => held.attachment === attachment);
    // Of another network, by the name of its interface, if the link was removed and the network itself has none.
    const means = (theirs: Attachment) =>
      theirs === attachment ||
      (detached && !named && attachment !== undefined && theirs?.split("/")[1] === attachment.split("/")[1]);
    const leases = all.filter(
      ([, held]) => attachment === undefined || held.attachment === undefined || means(held.attachment),
    );
    if (leases.length === 0) return false;
    const addresses = leases.map(([address]) => address);
    const meant = leases.filter(([, held]) => means(held.attachment));
    if (!this.isContainer(id) || (detached && meant.length === leases.length))
      return this.remove(id, addresses) || "disk";
    for (const [address, held] of leases) {
      if (attachment === undefined || means(held.attachment))
        this.due.set(address, { id, at: this.now, obstacle: "unseen" });
      else this.died([address], id, 0);
    }
    this.look(false);
    return true;
  }
}

const outcomeOf = async (run: () => Promise<unknown>) => {
  try {
    await run();
    return true;
  } catch (error) {
    return error instanceof StoreError ? "disk" : false;
  }
};

async function history(random: TestRandom): Promise<void> {
  const { allocator, links, disk, events, settle, pass } = world();
  const { lifecycle } = allocator;
  const model = new Model(links);
  for (let step = 0; step < 60; step++) {
    const id = random.pick(["c1", "c2", "c3", "svc"]);
    const attachment = random.pick(ATTACHMENTS);
    const addresses = [...model.held.keys()];
    let what = "";
    switch (random.below(11)) {
      case 0:
      case 1: {
        // A link of its own, unless it fails.
        const address = hostRange(SUBNET).start + random.below(13);
        what = `claim ${formatIPv4(address)} for ${id} ${attachment}`;
        const isContainer = id !== "svc";
        if (model.held.has(address)) break;
        const expected = model.full ? "disk" : true;
        expect(
          await outcomeOf(() => allocator.claim(id, { address, prefix: 28 }, { isContainer, attachment })),
        ).toBe(expected);
        if (expected !== true) break;
        model.held.set(address, { id, attachment, isContainer });
        if (random.below(3) > 0) links.add(address);
        break;
      }
      case 2:
        if (addresses.length > 0) links.delete(random.pick(addresses));
        what = "a link goes";
        break;
      case 3:
        lifecycle.died(id);
        if (model.isContainer(id))
          model.died(
            model.of(id).map(([address]) => address),
            id,
            30_000,
          );
        what = `${id} dies`;
        break;
      case 4:
        lifecycle.started(id);
        for (const [address, due] of model.due) if (due.id === id) model.due.delete(address);
        what = `${id} starts`;
        break;
      case 5:
        lifecycle.destroyed(id);
        await settle();
        if (model.isContainer(id)) model.release(id, undefined, false);
        what = `${id} is removed`;
        break;
      case 6: {
        const detached = random.below(2) === 0;
        what = `release ${id} ${attachment} ${detached}`;
        const got = await outcomeOf(async () => allocator.delete(id, { attachment, detached }));
        expect([what, got]).toEqual([what, model.release(id, attachment, detached)]);
        break;
      }
      case 7: {
        const address = hostRange(SUBNET).start + random.below(13);
        what = `free ${formatIPv4(address)} of ${id}`;
        const got = await outcomeOf(async () => allocator.free(id, address));
        let expected: boolean | "disk" = model.held.get(address)?.id === id;
        if (expected && model.isContainer(id)) {
          model.due.set(address, { id, at: model.now, obstacle: "unseen" });
          model.look(false);
        } else if (expected) expected = model.remove(id, [address]) || "disk";
        expect([what, got]).toEqual([what, expected]);
        break;
      }
      case 8:
        await lifecycle.checkGone();
        model.look(true);
        what = "look who is gone";
        break;
      case 9: {
        disk.full = random.below(3) === 0;
        model.full = disk.full;
        const valid = new Set(["c1/eth0", "c2/net1"].filter(() => random.below(2) === 0));
        what = `GC ${[...valid]}`;
        await lifecycle.collect("a", valid);
        const unlisted = new Map<string, [string, Attachment]>();
        for (const { id: holder, attachment: its, isContainer } of model.held.values())
          if (isContainer && its?.startsWith("a/") && !valid.has(`${holder}/${its.slice(2)}`))
            unlisted.set(`${holder} ${its}`, [holder, its]);
        for (const [holder, its] of unlisted.values()) model.release(holder, its, false);
        break;
      }
      default:
        await pass(5_000);
        model.now += 5_000;
        model.look(false);
        what = "5 s pass";
    }
    const held = (list: Iterable<readonly [IPv4, string, Attachment]>) =>
      [...list].map(([address, holder, its]) => `${formatIPv4(address)} ${holder} ${its}`).sort();
    const theirs = [...allocator.holders()].flatMap(([holder, { cidrs }]) =>
      cidrs.map(({ address, attachment: its }) => [address, holder, its as Attachment] as const),
    );
    const ours = [...model.held].map(
      ([address, { id: holder, attachment: its }]) => [address, holder, its] as const,
    );
    expect([step, what, held(theirs)]).toEqual([step, what, held(ours)]);
    expect([what, [...lifecycle.departing()].sort()]).toEqual([
      what,
      [...new Set([...model.due.values()].map((due) => due.id))].sort(),
    ]);
    for (const address of [...model.held.keys()]) {
      expect([what, lifecycle.holderOf(address)]).toEqual([what, model.held.get(address)?.id]);
      expect([what, lifecycle.isGivenBack(address)]).toEqual([
        what,
        model.due.get(address)?.obstacle !== undefined,
      ]);
    }
    expect([what, events.splice(0).sort()]).toEqual([what, model.events.splice(0).sort()]);
    expect(allocator.report(SUBNET).ActiveIPs).toBe(model.held.size);
    const noted = [...model.due.values()].filter(
      ({ obstacle }) => obstacle === "on-link" || obstacle === "not-saved",
    );
    expect(allocator.notes()).toHaveLength(noted.length > 5 ? 6 : noted.length);
  }
  allocator.stop();
}

test("holders, links and a disk that fills: as the model has it, after every step", async () => {
  const random = randomOf("releases against a model");
  for (let run = 0; run < 15; run++) await history(random);
});

describe("links that cannot all be searched", () => {
  test("are searched again with each tick, six times; then not before another link goes", async () => {
    let complete = false;
    const { allocator, looks, pass } = world(async () => ({ addresses: [], complete }));
    const address = await allocator.allocate("c", SUBNET, { isContainer: true });
    await allocator.lifecycle.checkGone();
    const begun = looks.count;
    await pass(5_000);
    expect(looks.count).toBe(begun + 1);
    for (let i = 0; i < 10; i++) await pass(5_000);
    expect(looks.count).toBe(begun + 5);
    expect(allocator.leases("c").map((lease) => lease.address)).toEqual([address]);
    expect(allocator.lifecycle.departing().size).toBe(0);
    complete = true;
    await allocator.lifecycle.checkGone();
    expect([...allocator.lifecycle.departing()]).toEqual(["c"]);
    const done = looks.count;
    await pass(5_000);
    expect(looks.count).toBe(done);
    await pass(25_000);
    expect(allocator.leases("c")).toEqual([]);
    allocator.stop();
  });

  test("or not at all: said once a minute, nothing is released, and a search asked for meanwhile is not lost", async () => {
    let fails = true;
    const { allocator, lines, looks, pass, settle } = world(async () => {
      if (fails) throw new Error("no netlink");
      return { addresses: [], complete: true };
    });
    await allocator.allocate("c", SUBNET, { isContainer: true });
    void allocator.delete("c");
    await settle();
    await pass(5_000);
    expect(
      lines.filter((line) => line.includes("cannot list the addresses in use: no netlink")),
    ).toHaveLength(1);
    expect(allocator.leases("c")).toHaveLength(1);
    fails = false;
    await pass(5_000);
    expect([allocator.leases("c"), looks.count]).toEqual([[], 3]);
    allocator.stop();
  });

  test("are searched one after the other: what becomes due during a search waits for the next", async () => {
    const answers: ((sighting: Sighting) => void)[] = [];
    const { allocator, looks, settle } = world(() => new Promise((resolve) => answers.push(resolve)));
    const [first, second] = [
      await allocator.allocate("c", SUBNET, { isContainer: true, attachment: "a/eth0" }),
      await allocator.allocate("c", SUBNET, { isContainer: true, attachment: "a/net1" }),
    ];
    void allocator.delete("c", { attachment: "a/eth0" });
    await settle();
    void allocator.lifecycle.checkGone();
    void allocator.delete("c", { attachment: "a/net1" });
    await allocator.allocate("d", SUBNET, { isContainer: true });
    await settle();
    expect([looks.count, allocator.notes()]).toEqual([1, []]);
    answers[0]?.({ addresses: [], complete: true });
    await settle();
    expect(allocator.leases("c").map(({ address }) => address)).toEqual([second]);
    expect(looks.count).toBe(2);
    // It is taken into use again during the search.
    await allocator.allocate("c", SUBNET, { isContainer: true, attachment: "a/net1" });
    answers[1]?.({ addresses: [], complete: true });
    await settle();
    expect(allocator.leases("c").map(({ address }) => address)).toEqual([second]);
    expect(first).not.toBe(second);
    // Both were asked for before the second search, which was the last.
    expect([looks.count, [...allocator.lifecycle.departing()].sort()]).toEqual([2, ["c", "d"]]);
    allocator.stop();
  });

  test("both addresses of a dead attachment are released, and more than five are counted in the notes", async () => {
    const { allocator, links, pass, lines } = world();
    for (const address of [3, 4, 5, 6, 7, 8]) {
      await allocator.claim("c", { address: SUBNET.address + address, prefix: 28 }, { isContainer: true });
      links.add(SUBNET.address + address);
    }
    await allocator.delete("c");
    expect(allocator.notes()).toHaveLength(6);
    expect(allocator.notes()[5]).toBe("1 more addresses are held back");
    links.clear();
    await pass(5_000);
    expect(allocator.leases("c")).toEqual([]);
    expect(
      lines.filter((line) => line.includes("released the address of a container that was removed")),
    ).toHaveLength(6);
    for (const address of [3, 4]) {
      await allocator.claim("d", { address: SUBNET.address + address, prefix: 28 }, { isContainer: true });
    }
    allocator.lifecycle.died("d");
    await pass(29_999);
    expect(allocator.leases("d")).toHaveLength(2);
    await pass(5_001);
    expect(allocator.leases("d")).toEqual([]);
    expect(lines.at(-1)).toBe("info: released the address of a container that ended");
    allocator.stop();
  });
});

/** Of sorted addresses: the last of the longest runs that have a power of two as length and start at a multiple of it. */
function biggestAlignedRun(addresses: readonly number[]): { start: number; length: number } {
  const runs: { start: number; end: number }[] = [];
  for (const address of addresses) {
    const last = runs.at(-1);
    if (last?.end === address) last.end++;
    else runs.push({ start: address, end: address + 1 });
  }
  for (let length = 64; length >= 1; length /= 2) {
    for (const { start, end } of runs.reverse()) {
      for (let at = start; at + length <= end; at++) if (at % length === 0) return { start: at, length };
    }
    runs.reverse();
  }
  throw new Error("no addresses");
}

test("space: as a list of single addresses has it", () => {
  const random = randomOf("space against a model");
  for (let run = 0; run < 60; run++) {
    const space = new Space();
    type State = "free" | "used" | "released" | "foreign";
    const model = new Map<number, State>(Array.from({ length: 40 }, (_, i) => [100 + i, "foreign"]));
    let order: number[] = [];
    const of = (...states: State[]) =>
      [...model].filter(([, s]) => states.includes(s)).map(([address]) => address);
    const range = () => {
      const start = 100 + random.below(40);
      return { start, end: start + 1 + random.below(140 - start) };
    };
    const inside = (address: number, ranges: readonly { start: number; end: number }[]) =>
      ranges.some(({ start, end }) => start <= address && address < end);
    for (let step = 0; step < 30; step++) {
      const [within, except] = [range(), Array.from({ length: random.below(3) }, range)];
      const address = 100 + random.below(40);
      const available = of("free", "released").filter(
        (each) => inside(each, [within]) && !inside(each, except),
      );
      switch (random.below(7)) {
        case 0: {
          const owned = of("used", "free", "released").filter(
            (each) => model.get(each) === "used" || random.below(9) > 0,
          );
          owned.push(...of("foreign").filter(() => random.below(3) === 0));
          space.update(owned.sort((a, b) => a - b).map((each) => ({ start: each, end: each + 1 })));
          for (const [each, state] of model) {
            if (!owned.includes(each)) model.set(each, "foreign");
            else if (state === "foreign") model.set(each, order.includes(each) ? "released" : "free");
          }
          break;
        }
        case 1:
        case 2: {
          const fresh = available.filter((each) => !order.includes(each));
          const expected = fresh[0] ?? order.find((each) => available.includes(each));
          expect(space.canAllocate(within, except)).toBe(available.length > 0);
          expect(space.allocate(within, except)).toBe(expected);
          if (expected !== undefined) {
            model.set(expected, "used");
            order = order.filter((each) => each !== expected);
          }
          break;
        }
        case 3: {
          const isFree = of("free", "released").includes(address);
          expect(space.claim(address)).toBe(isFree);
          if (isFree) {
            model.set(address, "used");
            order = order.filter((each) => each !== address);
          }
          break;
        }
        case 4:
        case 5: {
          const undone = random.below(4) === 0;
          const isUsed = model.get(address) === "used";
          expect(undone ? space.unuse(address) : space.release(address)).toBe(isUsed);
          if (!isUsed) break;
          model.set(address, undone ? "free" : "released");
          if (!undone) order.push(address);
          break;
        }
        default: {
          const most = random.pick([1, 2, 5, Number.POSITIVE_INFINITY]);
          const freeWithin = of("free", "released").filter((each) => inside(each, [within])).length;
          const given = space.donate(within, except, most);
          expect(given === undefined).toBe(available.length === 0);
          if (!given) break;
          const size = given.end - given.start;
          for (let each = given.start; each < given.end; each++) {
            expect(available).toContain(each);
            model.set(each, "foreign");
            order = order.filter((other) => other !== each);
          }
          // The last of the biggest runs that fit a prefix, or its upper half: half of what is free at most, rounded up.
          let start = biggestAlignedRun(available);
          let length = start.length;
          const half = Math.floor(freeWithin / 2);
          const halve = () => {
            start = { start: start.start + length / 2, length: length / 2 };
            length = start.length;
          };
          if (length > half && length > 1) halve();
          while (length > most && length > 1) halve();
          expect([given.start, size]).toEqual([start.start, length]);
        }
      }
      expect([space.usedCount, space.freeCount(), space.releasedCount]).toEqual([
        of("used").length,
        of("free", "released").length,
        order.length,
      ]);
      expect(space.freeCount(within)).toBe(
        of("free", "released").filter((each) => inside(each, [within])).length,
      );
    }
  }
});

test("space that loses addresses in use says so, and a range without any is all free", () => {
  const space = new Space();
  space.update([cidrRange(SUBNET)]);
  expect(space.freeCount()).toBe(16);
  space.claim(SUBNET.address + 5);
  expect(() => space.update([{ start: SUBNET.address, end: SUBNET.address + 5 }])).toThrow(
    "addresses in use at 10.32.0.5 are no longer ours",
  );
  space.clear();
  expect([space.freeCount(), space.usedCount]).toEqual([0, 0]);
});
