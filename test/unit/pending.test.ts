import { expect, test } from "bun:test";
import { atOnce } from "../../lib/clock/slices.ts";
import { type GossipData, RawGossip } from "../../lib/mesh/gossip.ts";
import { nameFromNumber } from "../../lib/mesh/name.ts";
import { MAX_WAITING_BYTES, MAX_WAITING_SOURCES, PendingGossip } from "../../lib/mesh/pending.ts";

const source = (i: number) => nameFromNumber(BigInt(i + 1));

/** Numbers to tell, which counts how many of them joining has touched. */
class Numbers implements GossipData {
  static touched = 0;
  readonly bytes = 0;
  constructor(readonly numbers: ReadonlySet<number>) {}
  join(others: readonly GossipData[]): GossipData {
    const all = new Set(this.numbers);
    for (const other of others) for (const n of (other as Numbers).numbers) all.add(n);
    Numbers.touched += all.size;
    return new Numbers(all);
  }
  encode(): Uint8Array[] {
    return [Uint8Array.of(this.numbers.size)];
  }
}

function drain(pending: PendingGossip) {
  const messages: string[] = [];
  for (let next = atOnce(pending.next()); next; next = atOnce(pending.next())) {
    messages.push(`${next.channel} ${next.source ?? "gossip"} ${next.payload.length}`);
  }
  return messages;
}

test("gossip goes before broadcasts, which go apart by their sources", () => {
  const pending = new PendingGossip();
  const raw = (length: number) => new RawGossip([new Uint8Array(length)]);
  pending.add("x", source(1), raw(1));
  pending.add("x", source(2), raw(2));
  pending.add("x", undefined, raw(3));
  pending.add("x", source(1), raw(4));
  expect(drain(pending)).toEqual(["x gossip 3", `x ${source(1)} 1`, `x ${source(1)} 4`, `x ${source(2)} 2`]);
});

test("what waits for a peer that does not read is bounded, and joined a few times only", () => {
  const pending = new PendingGossip();
  const message = new Uint8Array(10_000);
  let taken = 0;
  while (pending.add("x", undefined, new RawGossip([message]))) taken++;
  expect(taken).toBeLessThan(MAX_WAITING_BYTES / message.length);
  expect(taken).toBeGreaterThan((0.9 * MAX_WAITING_BYTES) / message.length);
  expect(drain(pending).length).toBe(taken);
  expect(pending.add("x", undefined, new RawGossip([message]))).toBe(true);
  drain(pending);

  expect(pending.add("x", undefined, new RawGossip([new Uint8Array(2 * MAX_WAITING_BYTES)]))).toBe(true);
  expect(pending.add("x", undefined, new RawGossip([message]))).toBe(false);
  expect(drain(pending).length).toBe(1);

  for (let i = 0; i < 10_000; i++) pending.add("y", undefined, new Numbers(new Set([i % 100])));
  expect(drain(pending).length).toBe(1);
  expect(Numbers.touched).toBeLessThan(10_000 * 3);

  for (let i = 0; i < 10 * MAX_WAITING_SOURCES; i++) pending.add("z", source(i), new Numbers(new Set([i])));
  const broadcasts = drain(pending);
  expect(broadcasts.length).toBe(MAX_WAITING_SOURCES + 1);
  expect(broadcasts[0]).toBe("z gossip 1");
});

test("what is being sent is in memory until its last message is taken; where no memory is left, messages are dropped", () => {
  let room = 1_000;
  const pending = new PendingGossip((bytes) => bytes <= room);
  const raw = (...lengths: number[]) => new RawGossip(lengths.map((length) => new Uint8Array(length)));
  expect(pending.add("x", undefined, raw(300, 500))).toBe(true);
  expect(pending.bytes).toBeGreaterThan(800);
  room = 0;
  expect(pending.add("x", undefined, raw(1))).toBe(false);
  expect(pending.add("y", undefined, new Numbers(new Set([1])))).toBe(true);
  const taken = () => atOnce(pending.next())?.payload.length;
  expect([taken(), pending.bytes]).toEqual([300, 500]);
  expect([taken(), pending.bytes]).toEqual([500, 0]);
  expect([taken(), pending.bytes]).toEqual([1, 0]);
  expect(taken()).toBe(undefined);
});
