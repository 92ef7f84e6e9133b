// Lines of a stream, however it is cut.
import { expect, test } from "bun:test";
import { linesOf } from "../../lib/bytes/lines.ts";
import { fc } from "../support/fastcheck.ts";

async function* cut(bytes: Uint8Array, piece: number) {
  for (let at = 0; at < bytes.length; at += piece) yield bytes.subarray(at, at + piece);
}

const read = (text: string, piece: number, limit = 1_000) =>
  Array.fromAsync(linesOf(cut(new TextEncoder().encode(text), piece), limit, () => new Error("too long")));

test("lines are the same however they come", async () => {
  const texts = fc.array(fc.oneof(fc.constant("\n"), fc.string({ unit: "grapheme", maxLength: 8 })));
  await fc.assert(
    fc.asyncProperty(texts, fc.integer({ min: 1, max: 20 }), async (parts, piece) => {
      const text = parts.join("");
      expect(await read(text, piece)).toEqual(text.split("\n").slice(0, -1));
    }),
  );
});

test("a line without end is given up at the limit, one of that length is not", async () => {
  expect(await read(`${"x".repeat(10)}\n\ny\n`, 3, 10)).toEqual(["x".repeat(10), "", "y"]);
  await expect(read("x".repeat(11), 3, 10)).rejects.toThrow("too long");
});

/** Counts the characters that are looked at: each once, not again with each piece. */
test("a long line in many pieces is looked at once", async () => {
  const { split } = String.prototype;
  let looked = 0;
  String.prototype.split = function (this: string, ...args: Parameters<typeof split>) {
    looked += this.length;
    return split.apply(this, args);
  } as typeof split;
  try {
    expect((await read(`${"x".repeat(50_000)}\n`, 10, 100_000)).length).toBe(1);
  } finally {
    String.prototype.split = split;
  }
  expect(looked).toBe(50_001);
});
