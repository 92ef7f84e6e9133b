// Replies of weaveDNS byte by byte: flags, answers that fit, gossip in order, and replies that are kept.
import { describe, expect, test } from "bun:test";
import packet from "dns-packet";
import type { Entry } from "../../lib/dns/entry.ts";
import { Frames, frame } from "../../lib/dns/frames.ts";
import { KnownReplies } from "../../lib/dns/known.ts";
import { RCODE, readQuery, writeReply } from "../../lib/dns/message.ts";
import { encodeNames } from "../../lib/dns/wire.ts";
import { nameFromNumber } from "../../lib/mesh/name.ts";

const query = (recursion: boolean, udpPayloadSize?: number) => {
  const bytes = packet.encode({
    type: "query",
    id: 7,
    flags: recursion ? packet.RECURSION_DESIRED : 0,
    questions: [{ type: "A", name: "web.weave.local" }],
    additionals:
      udpPayloadSize === undefined
        ? []
        : [
            {
              type: "OPT",
              name: ".",
              udpPayloadSize,
              flags: 0,
              extendedRcode: 0,
              ednsVersion: 0,
              flag_do: false,
              options: [],
            },
          ],
  } as never);
  const read = readQuery(new Uint8Array(bytes));
  if (!read || !("query" in read)) throw new Error("unreadable");
  return read.query;
};
const answer = (i: number) => ({
  type: "A" as const,
  name: "web.weave.local",
  ttl: 1,
  data: `10.32.0.${i % 256}`,
});

describe("a reply", () => {
  test.each([
    [true, true, RCODE.ok, 0x8580],
    [false, true, RCODE.ok, 0x8180],
    [true, false, RCODE.nameError, 0x8483],
    [false, false, RCODE.refused, 0x8085],
  ])(
    "authoritative %p, recursion desired %p, rcode %d: flags %d",
    (authoritative, recursion, rcode, flags) => {
      const bytes = writeReply(query(recursion), { rcode, authoritative, answers: [] }, true);
      expect(((bytes[2] ?? 0) << 8) | (bytes[3] ?? 0)).toBe(flags);
    },
  );

  test.each([
    [undefined, 512],
    [512, 512],
    [1_232, 1_232],
    [65_535, 1_232],
  ])(
    "over UDP to one that takes %p bytes has at most %d, as full as can be, and says that it is cut",
    (size, most) => {
      const answers = Array.from({ length: 5_000 }, (_, i) => answer(i));
      const bytes = writeReply(query(true, size), { rcode: RCODE.ok, authoritative: true, answers }, true);
      const { answers: sent = [] } = packet.decode(Buffer.from(bytes));
      expect(bytes.length).toBeLessThanOrEqual(most);
      // One more would not have fitted: 31 bytes.
      expect(bytes.length).toBeGreaterThan(most - 31);
      expect(sent.map((each) => "data" in each && each.data)).toEqual(
        answers.slice(0, sent.length).map(({ data }) => data),
      );
      expect((bytes[2] ?? 0) & 2).toBe(2);
    },
  );

  test("over TCP has as many answers as its length can count, and is not marked as cut", () => {
    const name = `${"a".repeat(60)}.weave.local`;
    const answers = Array.from({ length: 1_024 }, (_, i) => ({ ...answer(i), name }));
    const bytes = writeReply(query(true), { rcode: RCODE.ok, authoritative: true, answers }, false);
    const { answers: sent = [] } = packet.decode(Buffer.from(bytes));
    expect(bytes.length).toBeWithin(65_535 - (name.length + 16), 65_536);
    expect([sent.length < 1_024, (bytes[2] ?? 0) & 2]).toEqual([true, 0]);
    const frames = new Frames();
    frames.push(frame(bytes));
    expect(frames.next()).toEqual(bytes);
  });

  test("that fits is not cut; over TCP none is", () => {
    const few = writeReply(query(true), { rcode: RCODE.ok, authoritative: true, answers: [answer(1)] }, true);
    expect((few[2] ?? 0) & 2).toBe(0);
    const answers = Array.from({ length: 200 }, (_, i) => answer(i));
    const all = writeReply(query(true), { rcode: RCODE.ok, authoritative: true, answers }, false);
    expect([packet.decode(Buffer.from(all)).answers?.length, (all[2] ?? 0) & 2]).toEqual([200, 0]);
  });
});

test("names are sent in one order, whatever order they are in", () => {
  const entries: Entry[] = ["b", "a", "c"].flatMap((host) =>
    [2, 1].map((i) => ({
      ...{ hostname: `${host}.weave.local.`, origin: nameFromNumber(BigInt(i)), containerId: "c" },
      ...{ address: i, version: 1, tombstone: 0 },
    })),
  );
  const bytes = encodeNames({ timestamp: 1, entries });
  expect(encodeNames({ timestamp: 1, entries: entries.toReversed() })).toEqual(bytes);
});

describe("replies that are kept", () => {
  const bytes = (length: number, id = 0, mark = 0) => {
    const made = new Uint8Array(length);
    made.set([id >> 8, id & 255]);
    made[length - 1] = mark;
    return made;
  };

  test("are those of the same query under another id, until names change", () => {
    let version = 1;
    const known = new KnownReplies(() => version);
    known.set(bytes(20, 5), bytes(30, 5, 9));
    expect(known.get(bytes(20, 0x1234))).toEqual(bytes(30, 0x1234, 9));
    expect(known.get(bytes(20, 5, 1))).toBeUndefined();
    version++;
    expect(known.get(bytes(20, 5))).toBeUndefined();
    known.set(bytes(21), bytes(30));
    // The older one is not good again.
    expect(known.get(bytes(20, 5))).toBeUndefined();
  });

  test("are of queries of a header's 12 bytes to 320", () => {
    const known = new KnownReplies(() => 1);
    const kept = [11, 12, 320, 321].map((length) => {
      known.set(bytes(length), bytes(30));
      return known.get(bytes(length)) !== undefined;
    });
    expect(kept).toEqual([false, true, true, false]);
  });

  test("are 1,024; one more gives up all others", () => {
    const known = new KnownReplies(() => 1);
    const asked = (i: number) => {
      const made = bytes(14);
      made.set([i >> 8, i & 255], 12);
      return made;
    };
    for (let i = 0; i < 1_024; i++) known.set(asked(i), bytes(30));
    expect([known.get(asked(0)), known.get(asked(1_023))].every(Boolean)).toBe(true);
    known.set(asked(1_024), bytes(30));
    expect([known.get(asked(0)), known.get(asked(1_023))]).toEqual([undefined, undefined]);
    expect(known.get(asked(1_024))).toBeDefined();
  });
});
