// Take-over from peers that are gone: who may be taken over from, what nobody is given meanwhile, and ranges of nobody.
import { describe, expect, test } from "bun:test";
import { rangeContains, rangeSize } from "../../lib/address/ipv4.ts";
import { nameFromNumber, UNKNOWN_PEER } from "../../lib/mesh/name.ts";
import { ONE, onePeer, SUBNET, THREE, TWO, watched } from "../support/onepeer.ts";

const FOUR = nameFromNumber(4n);

test("what waits for an address gets none of a range that was just taken over, for 2 s", async () => {
  const { allocator, pass, said } = onePeer();
  const [own] = allocator.ring.ownedRanges();
  const [theirs] = allocator.ring.ownedRanges(TWO);
  if (!own || !theirs) throw new Error("no ranges");
  for (let i = 0; i < rangeSize(own) - 1; i++) await allocator.allocate(`c${i}`, SUBNET);
  const late = watched(allocator.allocate("late", SUBNET));
  const own5 = watched(allocator.claim("own", { address: theirs.start + 5, prefix: 26 }));
  said();
  const taken = watched(allocator.takeOver(TWO));
  expect(said()).toEqual(["ring all"]);
  await pass(1_990, 10);
  expect([late(), own5(), taken()]).toEqual(["waiting", "waiting", "waiting"]);
  expect(allocator.contested).toEqual([theirs]);
  await pass(20, 10);
  expect(rangeContains(theirs, Number(late()))).toBe(true);
  expect([own5(), taken()]).toEqual([undefined, rangeSize(theirs)]);
  expect(allocator.contested).toEqual([]);
  allocator.stop();
});

test("tells how many addresses it has got: not those that another peer took meanwhile", async () => {
  const { allocator, pass, say, ringOf } = onePeer({ reachable: [THREE] });
  const taken = watched(allocator.takeOver(TWO));
  await pass(500);
  // By a greater name, and the same version.
  say(
    THREE,
    ringOf(THREE, (entry) => (entry.version >= 100 ? { ...entry, peer: THREE } : entry)),
  );
  await pass(2_000);
  expect(taken()).toBe(0);
  expect(allocator.contested).toEqual([]);
  allocator.stop();
});

describe("is refused", () => {
  /** Peer two and three are both "same"; four has a nickname and no range. */
  const named = (options: Parameters<typeof onePeer>[0] = {}) => {
    const subject = onePeer(options);
    const nicknames = new Map([
      [TWO, "same"],
      [THREE, "same"],
      [FOUR, "guest"],
    ]);
    subject.tell(TWO, { nicknames });
    return subject;
  };

  test.each<[string, string, boolean, Parameters<typeof onePeer>[0], string]>([
    [
      "before there is a ring",
      TWO,
      true,
      { config: { seed: [], observer: true } },
      "the peers have not divided the range yet",
    ],
    ["of ourself", ONE, true, {}, "it is this host; use 'weave reset'"],
    ["of ourself by the nickname", "one", true, {}, "it is this host; use 'weave reset'"],
    [
      "of two by one nickname",
      "same",
      true,
      {},
      `"same" is the nickname of ${TWO} and ${THREE}: use the name`,
    ],
    ["of a peer that owns nothing", "guest", true, {}, 'no peer "guest" owns addresses'],
    ["of nobody", "nobody", true, {}, 'no peer "nobody" owns addresses'],
    ["of a name without a range", nameFromNumber(9n), true, {}, "owns addresses"],
    [
      "of a connected peer",
      TWO,
      false,
      { reachable: [TWO] },
      `peer ${TWO}(same) is connected and still uses`,
    ],
    [
      "of two hosts with one name",
      TWO,
      false,
      { config: { isAmbiguous: (name) => name === TWO } },
      `peer ${TWO}(same) is two hosts`,
    ],
  ])("%s", async (_what, name, force, options, message) => {
    const { allocator } = named(options);
    const before = allocator.ring.state();
    await expect(allocator.takeOver(name, force)).rejects.toThrow(message);
    expect(allocator.ring.state()).toEqual(before);
  });

  test.each([
    ["connected", { reachable: [TWO] }],
    ["of two hosts", { config: { isAmbiguous: () => true } }],
  ])("not by force: of a peer that is %s", async (_what, options) => {
    const { allocator, pass } = named(options);
    const taken = watched(allocator.takeOver(TWO, true));
    await pass(2_100);
    expect(taken()).toBeGreaterThan(0);
    expect(allocator.ring.peerNames().has(TWO)).toBe(false);
  });

  test("not of the one owner among peers of one nickname", async () => {
    const { allocator, tell, pass } = onePeer();
    tell(TWO, {
      nicknames: new Map([
        [FOUR, "same"],
        [TWO, "same"],
      ]),
    });
    const taken = watched(allocator.takeOver("same"));
    await pass(2_100);
    expect(taken()).toBeGreaterThan(0);
    expect(allocator.ring.ownedRanges(TWO)).toEqual([]);
  });
});

describe("ranges of nobody", () => {
  /** A ring in which the range of TWO is nobody's. */
  const orphaned = (seed?: Parameters<typeof onePeer>[0]) => {
    const subject = onePeer(seed);
    subject.say(
      TWO,
      subject.ringOf(TWO, (entry) =>
        entry.peer === TWO ? { ...entry, peer: UNKNOWN_PEER, version: 100 } : entry,
      ),
    );
    return subject;
  };

  test("are taken over after 10 to 20 s, at random, once", async () => {
    const { allocator, clock, lines, pass, say, ringOf } = orphaned();
    let at: number | undefined;
    const began = clock.now();
    while (at === undefined && clock.now() - began < 60_000) {
      await pass(100, 100);
      if (!allocator.ring.peerNames().has(UNKNOWN_PEER)) at = clock.now() - began;
    }
    // The tick that finds them comes after 5 s.
    expect(at).toBeGreaterThan(15_000);
    expect(at).toBeLessThanOrEqual(25_000);
    await pass(60_000, 500);
    expect(lines.filter((line) => line.includes("that no peer owns"))).toHaveLength(1);
    expect(allocator.ring.state().entries.filter(({ version }) => version > 100)).toHaveLength(1);
    // Another peer's later.
    say(
      THREE,
      ringOf(THREE, (entry) =>
        entry.peer === THREE ? { ...entry, peer: UNKNOWN_PEER, version: 300 } : entry,
      ),
    );
    await pass(60_000, 500);
    expect([...allocator.ring.peerNames()]).toEqual([ONE]);
    allocator.stop();
  });

  test("are left alone where another peer has taken them over meanwhile", async () => {
    const { allocator, lines, pass, say, ringOf } = orphaned();
    await pass(6_000, 100);
    say(
      THREE,
      ringOf(THREE, (entry) =>
        entry.peer === UNKNOWN_PEER ? { ...entry, peer: THREE, version: 200 } : entry,
      ),
    );
    await pass(60_000, 500);
    expect(lines.join()).not.toContain("that no peer owns");
    expect(allocator.ring.state().entries.every(({ version }) => version <= 200)).toBe(true);
    allocator.stop();
  });

  test("are left alone by one that has stopped", async () => {
    const { allocator, pass } = orphaned();
    await pass(6_000, 100);
    allocator.stop();
    await pass(60_000, 500);
    expect(allocator.ring.peerNames().has(UNKNOWN_PEER)).toBe(true);
  });
});
