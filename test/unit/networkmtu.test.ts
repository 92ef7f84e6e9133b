// The MTU of the network: records of peers, and what follows from them.
import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { SimulatedClock } from "../../lib/clock/simulated.ts";
import { nameFromNumber, type PeerName } from "../../lib/mesh/name.ts";
import {
  decodeRecords,
  encodeRecords,
  MtuGossip,
  type MtuRecord,
  newerRecord,
} from "../../lib/overlay/mtu.ts";
import {
  GONE_MS,
  LEAST_MTU,
  MAX_RISE_MS,
  NetworkMtu,
  RECORD_MS,
  RISE_MS,
} from "../../lib/overlay/networkmtu.ts";

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
function router({ fixed, agreed = 1376 }: { fixed?: number; agreed?: number } = {}) {
  const clock = new SimulatedClock(1_000_000);
  const peers = new Set<PeerName>();
  const without = new Set<PeerName>();
  const set: number[] = [];
  const accepted: number[] = [];
  const said: MtuRecord[] = [];
  let refuses = false;
  const subject = new NetworkMtu({
    clock,
    self: peer(1),
    fixed,
    agreed,
    peers: () => peers,
    takesPart: (name) => (without.has(name) ? false : undefined),
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
  subject.start({ unicast: () => false, broadcast: listen, neighbours() {} });
  const hear = (n: number, mtu: number, more: Partial<MtuRecord> = {}) =>
    subject.onGossip(encodeRecords([[peer(n), record(mtu, { by: peer(9), ...more })]]));
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
  return { clock, subject, set, said, accepted, without, hear, join, measure, leave, refuse };
}

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

  test("falls at once, for a path of ours and of others", async () => {
    const { clock, set, said, hear, join, measure } = router({ agreed: 1450 });
    join(2, 1450);
    await measure(1450);
    await measure(1300);
    expect([set, said.at(-1)?.mtu]).toEqual([[1300], 1300]);
    hear(2, 1250, { version: 2 });
    expect(set).toEqual([1300, 1250]);
    // The newer of two counts.
    hear(2, 1450, { version: 1 });
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
    clock.advance(GONE_MS - 1);
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
    const { said, hear } = router({ agreed: 1450 });
    hear(1, 1200, { version: 41 });
    expect(said.at(-1)).toMatchObject({ version: 42, mtu: 1450 });
    hear(1, 1200, { version: 0xffff_ffff });
    expect(said.at(-1)).toMatchObject({ version: 42 });
  });

  test("what is new is passed on, once", () => {
    const { hear, join } = router();
    join(2);
    expect(hear(2, 1400)).toBeInstanceOf(MtuGossip);
    expect(hear(2, 1400)).toBeUndefined();
  });
});
