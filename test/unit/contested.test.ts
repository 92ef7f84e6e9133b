// Contested ranges: until their former owner confirms or cannot object any more; and how often disputes are reasserted.
import { expect, test } from "bun:test";
import { parseCidr } from "../../lib/address/ipv4.ts";
import { Disputes } from "../../lib/ipam/disputes.ts";
import { UnconfirmedRanges } from "../../lib/ipam/unconfirmed.ts";
import { nameFromNumber } from "../../lib/mesh/name.ts";
import { ONE, onePeer, THREE, TWO } from "../support/onepeer.ts";

const RANGE = { start: 100, end: 200 };
const OWNER = nameFromNumber(2n);

test.each([
  ["reachable, but silent", true, 120_000],
  ["gone", false, 2_000],
])("an owner that is %s is waited for as long as that takes", (_what, reachable, ms) => {
  const ranges = new UnconfirmedRanges();
  ranges.add([RANGE], OWNER, 1_000);
  expect(ranges.expire(1_000 + ms - 1, () => reachable)).toBe(false);
  expect(ranges.ranges).toEqual([RANGE]);
  expect(ranges.expire(1_000 + ms, () => reachable)).toBe(true);
  expect(ranges.ranges).toEqual([]);
});

test("an owner that confirms frees its ranges alone, at once", () => {
  const ranges = new UnconfirmedRanges();
  ranges.add([RANGE], OWNER, 0);
  ranges.add([{ start: 300, end: 400 }], nameFromNumber(3n), 0);
  expect(ranges.confirmed(OWNER)).toBe(true);
  expect(ranges.ranges).toEqual([{ start: 300, end: 400 }]);
});

test("a range waits for its owner where another peer gives it to us in its name, which may pass on its ring or make one up", () => {
  const given = (by: typeof TWO) => {
    const peer = onePeer({ reachable: [TWO, THREE] });
    const theirs = peer.allocator.ring.ownedRanges(TWO);
    const ring = peer.ringOf(TWO, (entry) =>
      entry.peer === TWO ? { ...entry, peer: ONE, version: entry.version + 1 } : entry,
    );
    peer.said();
    peer.passOn(by, TWO, ring);
    return { peer, theirs, ring };
  };
  expect(given(TWO).peer.allocator.contested).toEqual([]);
  const { peer, theirs, ring } = given(THREE);
  expect(peer.allocator.contested).toEqual(theirs);
  expect(peer.said()).toContain(`question ${TWO}`);
  peer.say(TWO, ring);
  expect(peer.allocator.contested).toEqual([]);
});

test("a dispute that is heard every 2 s is reasserted every 10 s, as long as it lasts", () => {
  const disputes = new Disputes();
  const dispute = { token: RANGE.start, peer: OWNER, version: 7, ranges: [RANGE] };
  const asserted: number[] = [];
  for (let now = 0; now <= 60_000; now += 2_000)
    if (disputes.heard(OWNER, [dispute], true, now).length > 0) asserted.push(now);
  expect(asserted).toEqual([0, 10_000, 20_000, 30_000, 40_000, 50_000, 60_000]);
  expect(disputes.contested).toEqual([RANGE]);
  disputes.expire(60_000 + 5 * 60_000);
  expect(disputes.contested).toEqual([RANGE]);
  disputes.expire(60_001 + 5 * 60_000);
  expect(disputes.contested).toEqual([]);
});

test("of many peers whose ranges a liar gives us, a few are asked at a time, and in the end all", async () => {
  const many = Array.from({ length: 64 }, (_, i) => nameFromNumber(BigInt(100 + i)));
  const peer = onePeer({ reachable: [TWO, ...many], config: { universe: parseCidr("10.32.0.0/20") } });
  const [start, end] = [0x0a200000, 0x0a201000];
  const theirs = peer.allocator.ring.entries.findIndex((entry) => entry.peer === TWO);
  const token = (peer.allocator.ring.entries[theirs]?.token ?? start) + 8;
  const cut = (owner: (i: number) => typeof TWO, version: number) => ({
    ...{ start, end, seeds: peer.allocator.ring.seeds, peer: TWO },
    entries: [
      ...peer.allocator.ring.entries.filter((entry) => entry.token < token),
      ...many.map((_, i) => ({ token: token + 8 * i, peer: owner(i), version, free: 0 })),
      ...peer.allocator.ring.entries.filter((entry) => entry.token > token + 8 * 63),
    ].map((entry) => ({ ...entry, free: 0 })),
  });
  peer.passOn(
    TWO,
    TWO,
    cut((i) => many[i] ?? TWO, 5),
  );
  peer.said();
  peer.passOn(
    TWO,
    TWO,
    cut(() => ONE, 9),
  );
  const asked = () => peer.said().flatMap((what) => /^question (.*)/.exec(what)?.[1] ?? []);
  const first = asked();
  expect(first).toHaveLength(16);
  expect(peer.allocator.problems().ring).toHaveLength(17);
  const all = new Set(first);
  for (let tick = 0; tick < 8; tick++) {
    await peer.pass(5_000, 5_000);
    for (const name of asked()) all.add(name);
  }
  expect(all.size).toBe(64);
});
