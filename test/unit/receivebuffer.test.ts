// The receive buffer returns the bytes that were pushed; its memory is in proportion to them, and freed once they are taken.
import { afterEach, describe, expect, spyOn, test } from "bun:test";
import { atOnce } from "../../lib/clock/slices.ts";
import { lengthPrefixed, takeMessage } from "../../lib/mesh/framing.ts";
import { BLOCK, ReceiveBuffer } from "../../lib/mesh/receivebuffer.ts";
import { fc } from "../support/fastcheck.ts";

test("returns the pushed bytes, whatever the sizes of pieces", () => {
  const edges = fc.integer({ min: BLOCK - 4, max: BLOCK + 4 });
  const lengths = fc.oneof(fc.nat(64), edges, fc.nat(3 * BLOCK));
  fc.assert(
    fc.property(fc.array(fc.tuple(lengths, lengths), { maxLength: 30 }), (steps) => {
      const buffer = new ReceiveBuffer();
      let model = new Uint8Array();
      let next = 0;
      for (const [added, taken] of steps) {
        const bytes = new Uint8Array(added);
        for (let i = 0; i < added; i++) bytes[i] = next++;
        buffer.push(bytes);
        // The caller may reuse the array.
        model = new Uint8Array(Buffer.concat([model, bytes]));
        bytes.fill(0);
        const length = Math.min(taken, model.length);
        expect(Buffer.compare(buffer.peek(length), model.subarray(0, length))).toBe(0);
        expect(Buffer.compare(buffer.take(length), model.subarray(0, length))).toBe(0);
        model = model.slice(length);
        expect(buffer.length).toBe(model.length);
      }
      expect(Buffer.compare(buffer.peek(model.length + 1), model)).toBe(0);
      buffer.clear();
      expect([buffer.length, buffer.peek(1).length]).toEqual([0, 0]);
      buffer.push(Uint8Array.of(7));
      expect(buffer.take(1)).toEqual(Uint8Array.of(7));
    }),
  );
});

test("a message is taken block by block, while more bytes arrive", () => {
  const buffer = new ReceiveBuffer();
  for (let i = 0; i < 3; i++) buffer.push(new Uint8Array(BLOCK).fill(1));
  buffer.take(7);
  const work = buffer.takeSliced(3 * BLOCK - 7);
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
  /** Copied bytes since the last call, and the blocks that they were copied to. */
  const blocks = new Set<ArrayBufferLike>();
  const copied = () => {
    for (const block of set.mock.contexts as Uint8Array[]) blocks.add(block.buffer);
    const lengths = set.mock.calls.map(([bytes]) => bytes.length);
    set.mockClear();
    return lengths.reduce((sum, length) => sum + length, 0);
  };
  const held = () => [...blocks].reduce((sum, { byteLength }) => sum + byteLength, 0);

  test.each([[1], [1_000], [BLOCK], [50_000]])("pieces of %d bytes", (size) => {
    blocks.clear();
    const buffer = new ReceiveBuffer();
    const message = new Uint8Array(60_000);
    const wire = lengthPrefixed().frame(message);
    set.mockClear();
    // Compared once: a call of expect() for each of 60,000 bytes takes longer than the rest.
    let [early, recopied] = [0, 0];
    for (let at = 0; at < wire.length; at += size) {
      if (atOnce(takeMessage(lengthPrefixed(), buffer)) !== undefined) early++;
      const part = wire.subarray(at, at + size);
      set.mockClear();
      buffer.push(part);
      if (copied() !== part.length) recopied++;
    }
    expect([early, recopied]).toEqual([0, 0]);
    expect(held()).toBeLessThan(wire.length + BLOCK);
    expect(atOnce(takeMessage(lengthPrefixed(), buffer))?.length).toBe(message.length);
    expect(held()).toBe(BLOCK);
  });

  test("bytes that are taken as they arrive need one block, and clear() frees all blocks", () => {
    blocks.clear();
    const buffer = new ReceiveBuffer();
    for (let i = 0; i < BLOCK / 10; i++) {
      set.mockClear();
      buffer.push(new Uint8Array(100));
      copied();
      buffer.take(100);
    }
    expect(blocks.size).toBe(1);
    set.mockClear();
    buffer.push(new Uint8Array(10 * BLOCK));
    copied();
    expect(held()).toBe(10 * BLOCK);
    buffer.clear();
    expect(held()).toBe(0);
  });
});
