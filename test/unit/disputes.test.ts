// Disputes between rings, and ranges that another peer has promised: what is shown, what nobody is given, for how long.
import { describe, expect, test } from "bun:test";
import { atOnce } from "../../lib/clock/slices.ts";
import { Disputes } from "../../lib/ipam/disputes.ts";
import type { Dispute } from "../../lib/ipam/ring/merge.ts";
import { gainedFrom, UnconfirmedRanges, without } from "../../lib/ipam/unconfirmed.ts";
import { ONE, onePeer, RANGE, SUBNET, THREE, TWO, watched } from "../support/onepeer.ts";
import { randomOf } from "../support/seed.ts";

const MINUTE = 60_000;
const clockAt = (now: number) => ({ now: () => now, wall: () => now });
const range = (start: number, end = start + 1) => ({ start, end });
const dispute = (peer = TWO, ...ranges: Dispute["ranges"]): Dispute => ({
  ...{ token: ranges[0]?.start ?? 0, peer, version: 7, ranges },
});
const annotate = (peer: string) => `<${peer.slice(-2)}>`;

describe("disputes", () => {
  test("are contested where the peer itself claims the ranges, not where another says so", () => {
    const disputes = new Disputes();
    disputes.heard(THREE, [dispute(TWO, range(1))], false, 0);
    expect(disputes.contested).toEqual([]);
    disputes.heard(TWO, [dispute(TWO, range(1), range(5))], true, 10);
    disputes.heard(THREE, [dispute(TWO, range(1), range(5))], false, 20);
    expect(disputes.contested).toEqual([range(1), range(5)]);
    // Without naming it: what it claims is merged already.
    const silent = new Disputes();
    silent.heard(THREE, [dispute(TWO, range(1))], false, 0);
    silent.heard(TWO, [], true, 10);
    expect(silent.contested).toEqual([range(1)]);
  });

  test("are reasserted at once when new, for each claimer by itself", () => {
    const disputes = new Disputes();
    const [two, three] = [dispute(TWO, range(1)), dispute(THREE, range(2))];
    expect(disputes.heard(TWO, [two], true, 0)).toEqual([two]);
    expect(disputes.heard(TWO, [two, three], true, 5_000)).toEqual([three]);
    expect(disputes.heard(TWO, [two, three], true, 9_999)).toEqual([]);
    expect(disputes.heard(TWO, [two, three], true, 10_000)).toEqual([two]);
    expect(disputes.heard(TWO, [two, three], true, 15_000)).toEqual([three]);
  });

  test("with new claimers in each ring are reasserted 16 times at once, then every 5 s, when they are received again", () => {
    const disputes = new Disputes();
    let reasserted = 0;
    for (let now = 0; now < 20_000; now += 10) {
      const claims = [now, now + 1].map((i) => dispute(`p${i}` as typeof TWO, range(7)));
      const due = disputes.heard(THREE, claims, false, now);
      expect([0, 2]).toContain(due.length);
      reasserted += due.length / 2;
    }
    expect(reasserted).toBe(16 + 3);
    const last = [dispute(TWO, range(8))];
    expect(disputes.heard(THREE, last, false, 20_100)).toEqual(last);
    expect(disputes.heard(THREE, [dispute(ONE, range(8))], false, 20_101)).toEqual([]);
    expect(disputes.heard(THREE, [dispute(ONE, range(8))], false, 25_200).length).toBe(1);
  });

  test("end when the claimer gives in, which is shown for 10 min, the latest 16", () => {
    const disputes = new Disputes();
    disputes.heard(TWO, [dispute(TWO, range(1))], true, 0);
    disputes.heard(THREE, [], false, 500);
    expect(disputes.contested).toEqual([range(1)]);
    disputes.heard(TWO, [], false, 1_000);
    expect([disputes.contested, disputes.problems(clockAt(1_000), "us", annotate)]).toEqual([[], []]);
    const settled = (now: number) => disputes.settled(clockAt(now), annotate);
    expect(settled(2_000)).toEqual([
      "a ring assigned 0.0.0.1/32 of this host to <02>, which gave it back at 1970-01-01T00:00:01Z",
    ]);
    expect(settled(1_000 + 10 * MINUTE - 1)).toHaveLength(1);
    expect(settled(1_000 + 10 * MINUTE)).toEqual([]);
    for (let i = 0; i < 20; i++) {
      disputes.heard(THREE, [dispute(THREE, range(100 + i))], true, 2_000);
      disputes.heard(THREE, [], false, 2_000);
    }
    expect(settled(2_000)).toHaveLength(16);
    expect(settled(2_000)[15]).toContain("0.0.0.119/32");
  });

  test("go on while it claims the ranges, whatever its ring says of others", () => {
    const disputes = new Disputes();
    disputes.heard(TWO, [dispute(TWO, range(1))], true, 0);
    disputes.heard(TWO, [dispute(THREE, range(9))], true, 1_000);
    expect(disputes.contested).toEqual([range(1)]);
    expect(disputes.settled(clockAt(1_000), annotate)).toEqual([]);
    // Claiming holds up its expiry.
    disputes.expire(1_000 + 5 * MINUTE);
    expect(disputes.contested).toEqual([range(1)]);
  });

  test("are shown with their first 16 ranges and since when, whoever repeats them; of 64 peers at most", () => {
    const disputes = new Disputes();
    const many = Array.from({ length: 20 }, (_, i) => range(2 * i));
    disputes.heard(TWO, [dispute(TWO, ...many)], true, 0);
    disputes.heard(TWO, [dispute(TWO, ...many)], true, 5_000);
    const [problem = ""] = disputes.problems(clockAt(9_000), "us", annotate);
    expect(problem).toStartWith("rings of us and <02> contradict each other over 0.0.0.0/32, 0.0.0.2/32, ");
    expect(problem).toEndWith("0.0.0.30/32 since 1970-01-01T00:00:00Z");
    for (let i = 0; i < 64; i++)
      disputes.heard(THREE, [dispute(`p${i}` as typeof TWO, range(7))], false, 9_000);
    expect(disputes.problems(clockAt(9_000), "us", annotate)).toHaveLength(64);
    expect(disputes.contested).toEqual([]);
  });
});

describe("unconfirmed ranges", () => {
  test("of one owner wait as long as the latest, and are one above 64", () => {
    const ranges = new UnconfirmedRanges();
    ranges.add([range(10)], TWO, 0);
    ranges.add([range(20)], TWO, 1_500);
    ranges.add([range(30)], THREE, 0);
    expect(ranges.owners).toEqual([TWO, THREE]);
    expect(ranges.expire(2_000, () => false)).toBe(true);
    expect(ranges.ranges).toEqual([range(10), range(20)]);
    expect([ranges.confirmed(THREE), ranges.ranges.length]).toEqual([false, 2]);
    ranges.add(
      Array.from({ length: 62 }, (_, i) => range(100 + 2 * i)),
      TWO,
      2_000,
    );
    expect(ranges.ranges).toHaveLength(64);
    ranges.add([range(1)], TWO, 2_000);
    expect(ranges.ranges).toEqual([range(1, 223)]);
  });

  test("are told of by their owner, the first 8", () => {
    const ranges = new UnconfirmedRanges();
    ranges.add(
      Array.from({ length: 9 }, (_, i) => range(2 * i)),
      TWO,
      0,
    );
    ranges.add([range(99)], THREE, 0);
    const [two = "", three] = ranges.problems(annotate);
    expect(two.split(", ")).toHaveLength(8);
    expect(two).toEndWith(
      "0.0.0.14/32 of <02> was donated to us by another peer; not used until <02> confirms",
    );
    expect(three).toBe("0.0.0.99/32 of <03> was donated to us by another peer; not used until <03> confirms");
  });

  test("what was gained, and from whom; what lies in none of others: address by address", () => {
    const random = randomOf("gained ranges");
    /** Disjoint sorted ranges of 0 … 40. */
    const ranges = () => {
      const found: { start: number; end: number }[] = [];
      for (let at = random.below(4); at < 40; at += random.below(4)) {
        const end = at + 1 + random.below(6);
        found.push({ start: at, end });
        at = end;
      }
      return found;
    };
    const addresses = (list: readonly { start: number; end: number }[]) =>
      list.flatMap(({ start, end }) => Array.from({ length: end - start }, (_, i) => start + i));
    const ascending = (list: number[]) => list.sort((a, b) => a - b);
    for (let run = 0; run < 80; run++) {
      const [owned, others] = [ranges(), ranges()];
      const rest = addresses(owned).filter((address) => !addresses(others).includes(address));
      expect(ascending(addresses(without(owned, others)))).toEqual(rest);
      const before = ranges().map((each) => ({ peer: random.pick([ONE, TWO, THREE]), range: each }));
      const gained = atOnce(gainedFrom([...before].reverse(), owned, ONE));
      for (const peer of [ONE, TWO, THREE]) {
        const theirs = addresses(before.filter((each) => each.peer === peer).map((each) => each.range));
        const expected = peer === ONE ? [] : addresses(owned).filter((address) => theirs.includes(address));
        expect(ascending(addresses(gained.get(peer) ?? []))).toEqual(expected);
      }
    }
  });
});

test("what lies in none of others is found in one walk along both, however many there are", () => {
  let reads = 0;
  const counted = (start: number) => ({
    get start() {
      reads++;
      return start;
    },
    end: start + 1,
  });
  const count = 1_000;
  const every = (step: number) => Array.from({ length: count }, (_, i) => counted(step * i));
  expect(without(every(2), every(4))).toHaveLength(count / 2);
  // Sorting reads each some 10 times.
  expect(reads).toBeLessThan(100 * count);
});

describe("a range that a third peer says to be ours", () => {
  /** THREE says that what was TWO's is ours. */
  async function promised() {
    const subject = onePeer({ reachable: [TWO, THREE] });
    const [theirs] = subject.allocator.ring.ownedRanges(TWO);
    const [own] = subject.allocator.ring.ownedRanges();
    if (!theirs || !own) throw new Error("no ranges");
    const before = subject.ringOf(TWO);
    subject.said();
    subject.passOn(
      THREE,
      THREE,
      subject.ringOf(THREE, (entry) => (entry.peer === TWO ? { ...entry, peer: ONE, version: 9 } : entry)),
    );
    return { ...subject, theirs, own, before };
  }

  test("is contested until the owner says so itself: at once asked for its ring, and again every 5 s", async () => {
    const { allocator, said, theirs, own, say, ringOf, passOn, pass } = await promised();
    expect(allocator.contested).toEqual([theirs]);
    expect(said()).toEqual([`ring ${TWO}`, `question ${TWO}`]);
    await pass(5_000, 500);
    expect(said()).toEqual([`ring ${TWO}`, `question ${TWO}`]);
    const claimed = watched(allocator.claim("c", { address: theirs.start + 1, prefix: 26 }));
    await pass(100);
    expect(claimed()).toBe("waiting");
    // Word of others is none.
    passOn(THREE, TWO, ringOf(TWO));
    expect(allocator.contested).toEqual([theirs]);
    say(TWO, ringOf(TWO));
    await pass(50);
    expect([allocator.contested, claimed()]).toEqual([[], undefined]);
    expect(own.start).not.toBe(theirs.start);
    allocator.stop();
  });

  test("stays contested while the owner's own ring claims it", async () => {
    const { allocator, theirs, before, say, passOn } = await promised();
    say(TWO, before);
    expect(allocator.contested).toEqual([theirs]);
    passOn(TWO, TWO, before);
    expect(allocator.contested).toEqual([theirs]);
    allocator.stop();
  });

  test("is ours after 2 min where the owner is connected and says nothing", async () => {
    const { allocator, theirs, pass } = await promised();
    await pass(119_000, 1_000);
    expect(allocator.contested).toEqual([theirs]);
    // With the next tick.
    await pass(6_000, 500);
    expect(allocator.contested).toEqual([]);
    allocator.stop();
  });

  test("is not contested where its owner says so, or nobody owned it", () => {
    const { allocator, say, ringOf } = onePeer({ reachable: [TWO, THREE] });
    say(
      TWO,
      ringOf(TWO, (entry) => (entry.peer === TWO ? { ...entry, peer: ONE, version: 9 } : entry)),
    );
    expect(allocator.contested).toEqual([]);
    expect(allocator.ring.ownedRanges(TWO)).toEqual([]);
    allocator.stop();
  });

  test("while another host has our name nothing more of what is said to be ours is used", () => {
    let taken = false;
    const { allocator, say, ringOf } = onePeer({
      reachable: [TWO],
      config: { nameIsTaken: () => taken },
    });
    const [theirs] = allocator.ring.ownedRanges(TWO);
    if (!theirs) throw new Error("no range");
    const give = () =>
      say(
        TWO,
        ringOf(TWO, (entry) => (entry.peer === TWO ? { ...entry, peer: ONE, version: 9 } : entry)),
      );
    taken = true;
    give();
    expect(allocator.contested).toEqual([theirs]);
    taken = false;
    expect(allocator.contested).toEqual([]);
    taken = true;
    expect(allocator.contested).toEqual([]);
    allocator.stop();
  });
});

describe("a range that its owner gives us", () => {
  const given = (ringOf: ReturnType<typeof onePeer>["ringOf"]) =>
    ringOf(TWO, (entry) => (entry.peer === TWO ? { ...entry, peer: ONE, version: 9 } : entry));

  test("itself, is ours at once, and nobody is asked", () => {
    const { allocator, said, passOn, ringOf } = onePeer({ reachable: [TWO, THREE] });
    const [theirs] = allocator.ring.ownedRanges(TWO);
    said();
    passOn(TWO, TWO, given(ringOf));
    expect(allocator.ring.owner(theirs?.start ?? 0)).toBe(ONE);
    expect([allocator.contested, said()]).toEqual([[], []]);
    allocator.stop();
  });

  test("and says to be a third one's, is ours only once the third one says so", () => {
    const { allocator, said, passOn, ringOf } = onePeer({ reachable: [TWO, THREE] });
    const theirs = allocator.ring.ownedRanges(TWO);
    said();
    passOn(TWO, THREE, given(ringOf));
    expect(allocator.contested).toEqual(theirs);
    expect(said()).toEqual([`ring ${TWO}`, `question ${TWO}`]);
    allocator.stop();
  });
});

describe("a range in use here that another claims", () => {
  test("stays ours, with a higher version; the claimer is asked, all are told, and the log says so", async () => {
    const { allocator, said, lines, passOn, ringOf } = onePeer({ reachable: [TWO, THREE] });
    await allocator.allocate("c", SUBNET);
    said();
    const claimed = ringOf(TWO, (entry) =>
      entry.peer === ONE ? { ...entry, peer: TWO, version: 50 } : entry,
    );
    const passed = passOn(THREE, TWO, claimed);
    expect(said()).toEqual([`ring ${TWO}`, `question ${TWO}`, "ring all"]);
    expect(lines.filter((line) => line.startsWith("warning"))).toEqual([
      "warning: keeping ranges with addresses in use here, which the ring of a peer claims",
    ]);
    expect(allocator.ring.owner(RANGE.start)).toBe(ONE);
    expect(allocator.ring.state().entries[0]?.version).toBe(150);
    expect(passed).toBeUndefined();
    // Not a direct claim: it is handed out on.
    expect(allocator.contested).toEqual([]);
    expect(allocator.problems().ring).toEqual([
      expect.stringContaining(
        `rings of ${ONE}(one) and ${TWO} contradict each other over 10.32.0.0/27 since`,
      ),
    ]);
    expect(allocator.notes()).toEqual([]);
    allocator.stop();
  });
});
