// The MTU of the network: records of peers, and what follows from them.
import { describe, expect, spyOn, test } from "bun:test";
import { SimulatedClock } from "../../lib/clock/simulated.ts";
import { MAX_PEERS } from "../../lib/mesh/bounds.ts";
import { nameFromNumber, type PeerName } from "../../lib/mesh/name.ts";
import { LEAST_MTU } from "../../lib/overlay/encapsulation.ts";
import { BATCH_MS, CORRECT_MS, MEASURE_MS, NetworkMtu } from "../../lib/overlay/networkmtu/networkmtu.ts";
import { GONE_MS, RECORD_MS } from "../../lib/overlay/networkmtu/participants.ts";
import { MAX_STRANGERS } from "../../lib/overlay/networkmtu/records.ts";
import { FALL_MS, MAX_RISE_MS, RISE_MS } from "../../lib/overlay/networkmtu/steps.ts";
import {
  decodeRecords,
  encodeRecords,
  MtuGossip,
  type MtuRecord,
  newerRecord,
} from "../../lib/overlay/networkmtu/wire.ts";
import { fc } from "../support/fastcheck.ts";

const peer = (n: number) => nameFromNumber(BigInt(n));
const record = (mtu: number, more: Partial<MtuRecord> = {}): MtuRecord => ({
  version: 1,
  mtu,
  fixed: false,
  by: peer(1),
  ...more,
});

const records = fc.map(
  fc.integer({ min: 1, max: 9 }).map(peer),
  fc.record({
    version: fc.integer({ min: 0, max: 5 }),
    mtu: fc.integer({ min: 0, max: 65_535 }),
    fixed: fc.boolean(),
    by: fc.integer({ min: 1, max: 9 }).map(peer),
  }),
);

describe("records", () => {
  test("come back as they were sent", () => {
    fc.assert(
      fc.property(records, (sent) => {
        expect(decodeRecords(encodeRecords(sent))).toEqual(sent);
      }),
    );
  });

  test("have the bytes that are documented", () => {
    const sent = [
      [peer(0x5e3a_0000_0001), record(1450, { version: 258, fixed: true, by: peer(2) })],
    ] as const;
    expect(encodeRecords(sent).toHex()).toBe("015e3a0000000100000102" + "05aa0100000000000002");
  });

  test("of another format count for nothing; damaged ones are an error", () => {
    expect(decodeRecords(Uint8Array.of(2, 3, 4)).size).toBe(0);
    expect(decodeRecords(new Uint8Array()).size).toBe(0);
    expect(() => decodeRecords(Uint8Array.of(1, 2, 3))).toThrow("a message on MTUs has 3 bytes");
    expect(() => decodeRecords(new Uint8Array(1 + 20 * 3_001).fill(1, 0, 1))).toThrow();
  });

  test("merge to the same, in whatever order and however often", () => {
    const bytes = (...all: ReadonlyMap<PeerName, MtuRecord>[]) => {
      const [first, ...others] = all.map((each) => new MtuGossip(each));
      const [message = new Uint8Array([1])] = first?.join(others).encode() ?? [];
      return [...decodeRecords(message)].sort(([a], [b]) => (a < b ? -1 : 1));
    };
    fc.assert(
      fc.property(records, records, records, (a, b, c) => {
        // The flag is not compared: a peer has either.
        const plain = (map: ReadonlyMap<PeerName, MtuRecord>) =>
          new Map([...map].map(([name, each]) => [name, { ...each, fixed: false }]));
        const [x, y, z] = [a, b, c].map(plain) as [typeof a, typeof b, typeof c];
        expect(bytes(x, y, z)).toEqual(bytes(z, x, y, x));
      }),
    );
    expect(newerRecord(record(1400), record(1300)).mtu).toBe(1300);
    expect(newerRecord(record(1400, { version: 2 }), record(1300)).mtu).toBe(1400);
  });
});

/** A router, peer 1, among others. */
function router({
  fixed,
  agreed = 1376,
  isNew = false,
}: {
  fixed?: number;
  agreed?: number;
  isNew?: boolean;
} = {}) {
  const clock = new SimulatedClock(1_000_000);
  const peers = new Set<PeerName>();
  const without = new Set<PeerName>();
  const neighbours = new Set<PeerName>();
  const told: PeerName[] = [];
  const set: number[] = [];
  const accepted: number[] = [];
  const said: MtuRecord[] = [];
  let refuses = false;
  const subject = new NetworkMtu({
    clock,
    self: peer(1),
    fixed,
    agreed: isNew ? undefined : agreed,
    peers: () => peers,
    takesPart: (name) => (without.has(name) ? false : neighbours.has(name) || undefined),
    accept: async (mtu) => {
      if (refuses) throw new Error("no");
      accepted.push(mtu);
    },
    changed: (mtu) => set.push(mtu),
  });
  const listen = (data: { encode(): Iterable<Uint8Array> }) => {
    for (const message of data.encode()) {
      const own = decodeRecords(message).get(peer(1));
      if (own) said.push(own);
    }
  };
  const unicast = (name: PeerName, message: Uint8Array) => {
    expect([...decodeRecords(message).keys()]).toEqual([peer(1)]);
    told.push(name);
    return true;
  };
  const passed: string[] = [];
  const neighboursHear = (data: { encode(): Iterable<Uint8Array> }) => {
    for (const message of data.encode())
      passed.push(Array.from(decodeRecords(message), ([name, { mtu }]) => `${name} ${mtu}`).join());
  };
  subject.start({ unicast, broadcast: listen, neighbours: neighboursHear });
  const hear = (n: number, mtu: number, more: Partial<MtuRecord> = {}, from = n) =>
    subject.onGossip(encodeRecords([[peer(n), record(mtu, { by: peer(9), ...more })]]), peer(from));
  const join = (n: number, mtu?: number) => {
    peers.add(peer(n));
    if (mtu !== undefined) hear(n, mtu);
    subject.evaluate();
  };
  const measure = async (mtu: number, by = 2) => {
    subject.measured({ mtu, by: peer(by) });
    await Promise.resolve();
    await Promise.resolve();
  };
  const leave = (n: number) => {
    peers.delete(peer(n));
    subject.evaluate();
  };
  const refuse = (on: boolean) => {
    refuses = on;
  };
  return {
    clock,
    subject,
    peers,
    set,
    said,
    accepted,
    without,
    neighbours,
    told,
    passed,
    hear,
    join,
    measure,
    leave,
    refuse,
  };
}

describe("hosts with different --mtu", () => {
  test("are told: the largest and the smallest, of those that are in the mesh", () => {
    const { subject, hear, join, leave, clock, peers } = router({ fixed: 1400 });
    expect(subject.conflict).toBeUndefined();
    join(2, 1200);
    expect(subject.conflict).toBeUndefined();
    join(3);
    hear(3, 1400, { fixed: true });
    hear(4, 9000, { fixed: true });
    expect(subject.conflict).toBeUndefined();
    join(4);
    const ours = { peer: peer(1), mtu: 1400 };
    expect(subject.conflict).toEqual({ larger: { peer: peer(4), mtu: 9000 }, smaller: ours });
    join(5);
    hear(5, 1200, { fixed: true });
    leave(4);
    clock.advance(GONE_MS + 1);
    subject.evaluate();
    expect([...peers].length).toBe(3);
    expect(subject.conflict).toEqual({ larger: ours, smaller: { peer: peer(5), mtu: 1200 } });
  });

  test("are told by one without it, too", () => {
    const { subject, hear, join } = router();
    for (const [n, mtu] of [
      [2, 1400],
      [3, 1200],
    ] as const) {
      join(n);
      hear(n, mtu, { fixed: true });
    }
    expect(subject.conflict?.larger.mtu).toBe(1400);
    expect(subject.conflict?.smaller).toEqual({ peer: peer(3), mtu: 1200 });
  });
});

describe("the MTU of the network", () => {
  test("rises to what all paths carry, once that has lasted", async () => {
    const { clock, subject, set, said, accepted, join, measure } = router();
    join(2, 1450);
    await measure(1450);
    expect({ accepted, own: said.at(-1)?.mtu, mtu: subject.mtu }).toEqual({
      accepted: [1450],
      own: 1450,
      mtu: 1376,
    });
    clock.advance(RISE_MS - 1);
    expect(set).toEqual([]);
    clock.advance(1);
    expect(set).toEqual([1450]);
    expect(subject.limit).toEqual({ peer: peer(1), to: peer(2), why: "path", mtu: 1450 });
  });

  test("is announced only once links accept it, and not where they do not", async () => {
    const { subject, said, join, measure, refuse } = router();
    join(2, 8950);
    refuse(true);
    await measure(8950);
    expect(said.map(({ mtu }) => mtu)).toEqual([1376]);
    refuse(false);
    subject.evaluate();
    await measure(8950);
    expect(said.at(-1)?.mtu).toBe(8950);
  });

  test("records that neighbours unicast are passed on together, the last one of each peer", () => {
    const { clock, subject, passed } = router();
    const say = (n: number, mtu: number, version = 1) =>
      subject.onUnicast(peer(n), encodeRecords([[peer(n), record(mtu, { by: peer(9), version })]]));
    for (const n of [2, 3, 4]) say(n, 1450);
    say(3, 1450);
    clock.advance(BATCH_MS - 1);
    say(3, 1300, 2);
    expect(passed).toEqual([]);
    clock.advance(1);
    expect(passed).toEqual([`${peer(2)} 1450,${peer(3)} 1300,${peer(4)} 1450`]);
    say(2, 1450);
    clock.advance(60_000);
    expect(passed).toHaveLength(1);
    say(2, 1400, 2);
    clock.advance(BATCH_MS);
    expect(passed.slice(1)).toEqual([`${peer(2)} 1400`]);
    say(2, 1350, 3);
    subject.stop();
    clock.advance(BATCH_MS);
    expect(passed).toHaveLength(2);
  });

  test("is not evaluated for measurements that change nothing, and once for records that come together", async () => {
    const { clock, subject, join, hear, measure } = router({ agreed: 1450 });
    for (const n of [2, 3, 4]) join(n);
    await measure(1450);
    using evaluated = spyOn(subject, "evaluate");
    for (let i = 0; i < 5; i++) await measure(1450);
    expect(evaluated).toHaveBeenCalledTimes(0);
    for (const n of [2, 3, 4]) hear(n, 1450);
    clock.advance(BATCH_MS);
    expect(evaluated).toHaveBeenCalledTimes(1);
    await measure(1450, 3);
    expect(evaluated).toHaveBeenCalledTimes(2);
    hear(2, 1300, { version: 2 });
    expect(evaluated).toHaveBeenCalledTimes(3);
  });

  test("falls at once, for a path of ours and of others", async () => {
    const { clock, set, said, hear, join, measure } = router({ agreed: 1450 });
    join(2, 1450);
    await measure(1450);
    await measure(1300);
    expect([set, said.at(-1)?.mtu]).toEqual([[1300], 1300]);
    hear(2, 1250, { version: 2 });
    // Containers have just been told.
    clock.advance(FALL_MS - 1);
    expect(set).toEqual([1300]);
    clock.advance(1);
    expect(set).toEqual([1300, 1250]);
    // The newer of two counts.
    hear(2, 1450, { version: 1 }, 3);
    clock.advance(10 * RISE_MS);
    expect(set).toEqual([1300, 1250]);
  });

  test("rises the later, the more often it falls soon after", async () => {
    const { clock, set, join, measure } = router({ agreed: 1300 });
    join(2, 9000);
    let wait = RISE_MS;
    for (let i = 0; i < 10; i++) {
      await measure(1450);
      clock.advance(wait - 1);
      expect(set.at(-1) ?? 1300).toBe(1300);
      clock.advance(1);
      expect(set.at(-1)).toBe(1450);
      await measure(1300);
      expect(set.at(-1)).toBe(1300);
      wait = Math.min(2 * wait, MAX_RISE_MS);
    }
    expect(wait).toBe(MAX_RISE_MS);
    await measure(1450);
    clock.advance(wait);
    clock.advance(MAX_RISE_MS);
    await measure(1300);
    await measure(1450);
    clock.advance(RISE_MS);
    expect(set.at(-1)).toBe(1450);
  });

  test.each([
    ["a neighbour that takes no part", true],
    ["a peer that says nothing", false],
  ])("is that of the original beside %s, and for a while after it", async (_what, neighbour) => {
    const { clock, subject, set, said, without, join, measure, leave } = router({ agreed: 8950 });
    join(2, 8950);
    await measure(8950);
    if (neighbour) without.add(peer(3));
    join(3);
    if (!neighbour) {
      clock.advance(RECORD_MS - 1);
      expect(set).toEqual([]);
      clock.advance(1);
    }
    expect(set).toEqual([1376]);
    expect(subject.limit).toEqual({ peer: peer(3), why: "no part", mtu: 1376 });
    // Less than all paths carry: 1376 as ever. Nothing larger is announced meanwhile.
    await measure(1300);
    expect(set).toEqual([1376]);
    await measure(8950);
    expect(said.at(-1)?.mtu).toBe(1300);
    without.clear();
    leave(3);
    // Longer than a router takes to restart, while its kernel keeps forwarding.
    clock.advance(69_999);
    await measure(8950);
    expect(set).toEqual([1376]);
    clock.advance(1);
    expect(set).toEqual([1376, 1300]);
    await measure(8950);
    clock.advance(2 * RISE_MS);
    expect(set).toEqual([1376, 1300, 8950]);
  });

  test("waits for the record of a new peer, and keeps that of one that restarts", async () => {
    const { clock, set, hear, join, measure, leave } = router();
    join(2, 1450);
    await measure(1450);
    clock.advance(RISE_MS - 1);
    join(3);
    clock.advance(1);
    expect(set).toEqual([]);
    hear(3, 1400);
    clock.advance(RISE_MS);
    expect(set).toEqual([1400]);
    leave(3);
    clock.advance(GONE_MS - 1);
    expect(set).toEqual([1400]);
    clock.advance(1 + RISE_MS);
    expect(set).toEqual([1400, 1450]);
  });

  test("follows a smaller --mtu of a peer, and is not ruled by a larger one", async () => {
    const { clock, subject, set, join, hear, measure } = router();
    join(2, 8950);
    hear(2, 1200, { version: 2, fixed: true });
    await measure(8950);
    expect(set).toEqual([1200]);
    expect(subject.limit).toMatchObject({ peer: peer(2), why: "option" });
    hear(2, 60_000, { version: 3, fixed: true });
    clock.advance(2 * RISE_MS);
    expect(set).toEqual([1200, 8950]);
  });

  test("by --mtu stays, and is announced", async () => {
    const { clock, subject, set, said, join, measure } = router({ fixed: 1300 });
    join(2, 1200);
    await measure(1250);
    clock.advance(GONE_MS);
    expect({ set, mtu: subject.mtu, said }).toMatchObject({
      set: [],
      mtu: 1300,
      said: [{ mtu: 1300, fixed: true }],
    });
  });

  test("does not follow what nobody may say", async () => {
    const { clock, set, hear, join, measure } = router({ agreed: 1450 });
    join(2, 1450);
    await measure(1450);
    // Of a stranger; too small; in our own name, which is answered with a newer record.
    hear(7, 1300);
    hear(2, LEAST_MTU - 1, { version: 9 });
    hear(2, 0, { version: 9, fixed: true });
    clock.advance(1_000);
    expect(set).toEqual([]);
  });

  test("a record of an earlier run of ours is superseded", async () => {
    const { clock, said, hear } = router({ agreed: 1450 });
    for (const [version, above] of [
      [41, 42],
      [0x7fff_ffff, 0x8000_0000],
      [0xffff_ffff, 0],
    ] as const) {
      hear(1, 1200, { version }, 2);
      clock.advance(CORRECT_MS);
      expect(said.at(-1)).toMatchObject({ version: above, mtu: 1450 });
    }
    // Once for many.
    const before = said.length;
    for (let version = 1; version < 100; version++) hear(1, 1200, { version }, 2);
    clock.advance(10 * CORRECT_MS);
    expect(said.slice(before)).toMatchObject([{ version: 100 }]);
  });

  test("of a neighbour is what it says itself, whatever versions others invent", () => {
    const { subject, set, told, neighbours, join, hear, leave } = router({ agreed: 1450 });
    join(2);
    neighbours.add(peer(2));
    subject.evaluate();
    subject.evaluate();
    expect(told).toEqual([peer(2)]);
    // As long as it has said nothing, others are heard.
    expect(hear(2, 1440, { version: 9 }, 3)).toBeDefined();
    expect(hear(2, 1196, { version: 0x7fff_ffff }, 3)).toBeUndefined();
    expect(set).toEqual([1440]);
    expect(hear(2, 1430, { version: 3 })).toBeDefined();
    expect(hear(2, 8950, { version: 4 }, 3)).toBeUndefined();
    expect(subject.limit).toMatchObject({ peer: peer(2), mtu: 1430 });
    // It may have missed ours while it was away.
    neighbours.clear();
    leave(2);
    neighbours.add(peer(2));
    join(2);
    expect(told).toEqual([peer(2), peer(2)]);
  });

  test("is not limited by a new router before it has measured, or 3 s have passed without", async () => {
    for (const measures of [true, false]) {
      const { clock, subject, said, join, measure } = router({ isNew: true });
      join(2, 1450);
      clock.advance(MEASURE_MS - 1);
      expect([said, [...subject.gossip().encode()].map((each) => each.length)]).toEqual([[], [21]]);
      if (measures) await measure(1450);
      clock.advance(1);
      expect(said.map(({ mtu }) => mtu)).toEqual([measures ? 1450 : 1376]);
      clock.advance(GONE_MS);
      expect(said).toHaveLength(1);
    }
  });

  test("rises no later for many falls after one rise", async () => {
    const { clock, set, join, measure } = router();
    join(2, 9000);
    await measure(9000);
    clock.advance(RISE_MS);
    for (let mtu = 8_000; mtu >= 1_400; mtu -= 100) await measure(mtu);
    expect(set).toEqual([9000, 8000]);
    clock.advance(FALL_MS);
    await measure(1_500);
    clock.advance(2 * RISE_MS - 1);
    expect(set).toEqual([9000, 8000, 1400]);
    clock.advance(1);
    expect(set).toEqual([9000, 8000, 1400, 1500]);
  });

  test("has room for few strangers, and forgets invented peers of topologies", () => {
    const { clock, subject, set, peers } = router({ agreed: 1450 });
    const crowd = (from: number) =>
      encodeRecords(Array.from({ length: 3_000 }, (_, i) => [peer(from + i), record(1200)]));
    const count = () =>
      [...subject.gossip().encode()].reduce((sum, each) => sum + (each.length - 1) / 20, -1);
    for (let i = 0; i < 5; i++) subject.onGossip(crowd(10_000 + i * 3_000), peer(2));
    expect(count()).toBe(MAX_STRANGERS);
    clock.advance(GONE_MS);
    subject.onGossip(encodeRecords([[peer(2), record(1450)]]), peer(2));
    expect(count()).toBe(1);
    expect(set).toEqual([]);
    // Topologies with ever other peers, all of which would count for 70 s.
    for (let i = 0; i < 5; i++) {
      for (let n = 0; n < 4_000; n++) peers.add(peer(100_000 + 4_000 * i + n));
      subject.evaluate();
      peers.clear();
      subject.evaluate();
    }
    clock.advance(RECORD_MS);
    expect(subject.size).toBeLessThanOrEqual(2 * MAX_PEERS);
    clock.advance(2 * GONE_MS);
    expect(subject.size).toBe(0);
  });

  test("what is new is passed on, once", () => {
    const { hear, join } = router();
    join(2);
    expect(hear(2, 1400)).toBeInstanceOf(MtuGossip);
    expect(hear(2, 1400)).toBeUndefined();
  });
});
