// The receive buffer returns the bytes that were pushed; its memory and copies are in proportion to them.
import { afterEach, describe, expect, spyOn, test } from "bun:test";
import { atOnce } from "../../lib/clock/slices.ts";
import { lengthPrefixed, takeMessage } from "../../lib/mesh/framing.ts";
import { BLOCK, ReceiveBuffer, SHORT } from "../../lib/mesh/receivebuffer.ts";
import { fc } from "../support/fastcheck.ts";

test("returns the pushed bytes, whatever the sizes of pieces", () => {
  const lengths = fc.oneof(fc.nat(64), fc.nat(SHORT + 8), fc.nat(3 * BLOCK));
  fc.assert(
    fc.property(fc.array(fc.tuple(lengths, lengths), { maxLength: 30 }), (steps) => {
      const buffer = new ReceiveBuffer();
      let model = new Uint8Array();
      let next = 0;
      for (const [added, taken] of steps) {
        const bytes = Uint8Array.from({ length: added }, () => next++);
        buffer.push(bytes);
        model = new Uint8Array(Buffer.concat([model, bytes]));
        const length = Math.min(taken, model.length);
        expect(Buffer.compare(buffer.peek(length), model.subarray(0, length))).toBe(0);
        expect(Buffer.compare(buffer.take(length), model.subarray(0, length))).toBe(0);
        model = model.slice(length);
        expect(buffer.length).toBe(model.length);
      }
      expect(Buffer.compare(buffer.peek(model.length + 1), model)).toBe(0);
    }),
  );
});

test("a message is taken piece by piece, while more bytes arrive", () => {
  const buffer = new ReceiveBuffer();
  for (let i = 0; i < 3; i++) buffer.push(new Uint8Array(SHORT + 1).fill(1));
  buffer.take(7);
  const work = buffer.takeSliced(3 * SHORT - 4);
  let steps = 0;
  for (let step = work.next(); ; step = work.next()) {
    steps++;
    if (step.done) {
      expect(step.value.every((byte) => byte === 1)).toBe(true);
      break;
    }
    buffer.push(Uint8Array.of(2));
  }
  expect([steps, buffer.take(2)]).toEqual([3, Uint8Array.of(2, 2)]);
});

describe("memory and copies", () => {
  const set = spyOn(Uint8Array.prototype, "set");
  afterEach(() => set.mockClear());
  const copied = () => set.mock.calls.splice(0).map(([bytes]) => bytes.length);

  test.each([
    [1_000, 1],
    [SHORT, 1],
    [50_000, 0],
  ])(
    "pieces of %d bytes are copied %d times when they arrive, and once when they are taken",
    (size, times) => {
      const buffer = new ReceiveBuffer();
      const message = new Uint8Array(1_000_000);
      const wire = lengthPrefixed().frame(message);
      copied();
      for (let at = 0; at < wire.length; at += size) {
        expect(atOnce(takeMessage(lengthPrefixed(), buffer))).toBeUndefined();
        buffer.push(wire.subarray(at, at + size));
      }
      const arrived = copied().filter((length) => length > 4);
      expect(arrived.reduce((sum, length) => sum + length, 0)).toBeLessThanOrEqual(
        wire.length * times + SHORT,
      );
      expect(atOnce(takeMessage(lengthPrefixed(), buffer))?.length).toBe(message.length);
      const taken = copied();
      expect(taken.reduce((sum, length) => sum + length, 0)).toBe(wire.length);
      expect(Math.max(...taken)).toBeLessThanOrEqual(Math.max(size, BLOCK));
    },
  );

  test("single bytes take at most one block more memory than their number", () => {
    const buffer = new ReceiveBuffer();
    const blocks = new Set<ArrayBufferLike>();
    const push = (bytes: Uint8Array) => {
      buffer.push(bytes);
      for (const block of set.mock.contexts.splice(0) as Uint8Array[]) blocks.add(block.buffer);
      set.mockClear();
    };
    for (let i = 0; i < 100_000; i++) push(Uint8Array.of(i));
    expect(blocks.size * BLOCK).toBeLessThanOrEqual(buffer.length + BLOCK);
    // After a long piece, the next short one continues the block.
    for (let i = 0; i < 1_000; i++) {
      push(Uint8Array.of(i));
      buffer.push(new Uint8Array(SHORT + 1));
    }
    expect(blocks.size * BLOCK).toBeLessThanOrEqual(101_000 + BLOCK);
    buffer.take(buffer.length);
    blocks.clear();
    set.mockClear();
    for (let i = 0; i < 100_000; i++) {
      push(Uint8Array.of(1));
      buffer.take(1);
      set.mockClear();
    }
    expect(blocks.size).toBe(1);
  });
});
