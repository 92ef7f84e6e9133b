import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { GobDecoder, GobError, GobReader } from "../../lib/gob/decoder.ts";
import { GobEncoder } from "../../lib/gob/encoder.ts";
import { bool, bytes, int64, map, pointer, slice, string, struct, uint, uint64 } from "../../lib/gob/type.ts";

const Inner = struct("Inner", { Name: string, Flag: bool });
const Everything = struct("Everything", {
  Text: string,
  Data: bytes,
  Small: uint(16),
  Big: uint64,
  Signed: int64,
  List: slice(Inner),
  Table: map(string, uint64),
  Maybe: pointer(Inner),
});

const inner = fc.record({ Name: fc.string(), Flag: fc.boolean() });
const everything = fc.record({
  Text: fc.string(),
  Data: fc.uint8Array(),
  Small: fc.integer({ min: 0, max: 65_535 }),
  Big: fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
  Signed: fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }),
  List: fc.array(inner),
  Table: fc
    .array(fc.tuple(fc.string(), fc.bigInt({ min: 0n, max: 2n ** 64n - 1n })))
    .map((list) => new Map(list)),
  Maybe: fc.option(inner, { nil: undefined }),
});

test("what was encoded is decoded", () => {
  fc.assert(
    fc.property(everything, (value) => {
      expect(new GobReader(new GobEncoder().encode(Everything, value)).read(Everything)).toEqual(value);
    }),
  );
});

test("a stream describes its types once", () => {
  const encoder = new GobEncoder();
  const first = encoder.encode(Inner, { Name: "a", Flag: true });
  const second = encoder.encode(Inner, { Name: "a", Flag: true });
  expect(second.length).toBeLessThan(first.length);
  const reader = new GobReader(Buffer.concat([first, second]));
  expect([reader.read(Inner), reader.read(Inner)]).toEqual([
    { Name: "a", Flag: true },
    { Name: "a", Flag: true },
  ]);
});

test("fields that the receiver does not know are skipped", () => {
  const Newer = struct("Inner", { Extra: slice(map(string, string)), Name: string, Flag: bool });
  const value = { Extra: [new Map([["k", "v"]])], Name: "n", Flag: true };
  expect(new GobReader(new GobEncoder().encode(Newer, value)).read(Inner)).toEqual({ Name: "n", Flag: true });
});

describe("malformed input", () => {
  test("any prefix of a stream waits for more or is refused, and never yields a value", () => {
    const whole = new GobEncoder().encode(Inner, { Name: "some name", Flag: true });
    for (let i = 0; i < whole.length; i++) {
      expect(new GobDecoder().next(Inner, whole.subarray(0, i), 0)).toBeUndefined();
    }
  });

  test("damaged bytes are decoded or refused with a GobError, nothing else", () => {
    fc.assert(
      fc.property(everything, fc.nat(), fc.integer({ min: 0, max: 255 }), (value, at, byte) => {
        const stream = new GobEncoder().encode(Everything, value);
        stream[at % stream.length] = byte;
        try {
          new GobReader(stream).read(Everything);
        } catch (error) {
          expect(error).toBeInstanceOf(GobError);
        }
      }),
      { numRuns: 500 },
    );
  });

  const MANY = new Uint8Array([5, 0x0a, 0, 0xfe, 0xff, 0xff]);
  test.each([
    ["a count larger than the message", MANY, bytes],
    ["a message of 4 GB", new Uint8Array([0xfc, 0xff, 0xff, 0xff, 0xff, 0]), bytes],
    ["a string for bytes", new GobEncoder().encode(string, "x"), bytes],
    ["a number that does not fit", new GobEncoder().encode(uint64, 70_000n), uint(16)],
    ["a type that was not described", new Uint8Array([3, 0xff, 0x84, 0]), Inner],
    ["a number of nine bytes", new Uint8Array([0xf7, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0]), bytes],
  ])("%s", (_what, stream, type) => {
    expect(() => new GobReader(stream).read(type as typeof bytes)).toThrow(GobError);
  });
});
