import { describe, expect, test } from "bun:test";
import { GobError } from "../../lib/gob/cursor.ts";
import { GobDecoder, GobReader } from "../../lib/gob/decoder.ts";
import { bytesPrefix, GobEncoder, gobEncode } from "../../lib/gob/encoder.ts";
import { bool, bytes, int64, map, pointer, slice, string, struct, uint, uint64 } from "../../lib/gob/type.ts";
import { fc } from "../support/fastcheck.ts";

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

test("what is left out on the wire is an empty value of its own each time", () => {
  const Parts = struct("Parts", { List: slice(string), Table: map(string, string), Inner: Everything });
  const wire = new GobEncoder().encode(struct("Parts", { Flag: bool }), { Flag: true });
  const read = () => new GobReader(wire).read(Parts);
  const first = read();
  first.List.push("x");
  first.Table.set("k", "v");
  first.Inner.List.push({ Name: "n", Flag: true });
  first.Inner.Table.set("k", 1n);
  first.Inner.Text = "changed";
  expect(read()).toEqual(Parts.zero());
  expect(Parts.zero()).toMatchObject({ List: [], Table: new Map(), Inner: { List: [], Text: "" } });
  expect([read().Table.size, read().Inner.Table.size]).toEqual([0, 0]);
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

/** A length or number as gob has it. */
function uintBytes(value: number): Uint8Array {
  if (value < 128) return Uint8Array.of(value);
  const digits: number[] = [];
  for (let rest = value; rest > 0; rest = Math.floor(rest / 256)) digits.unshift(rest % 256);
  return Uint8Array.of(256 - digits.length, ...digits);
}

const message = (...parts: Uint8Array[]): Uint8Array => {
  const body = Buffer.concat(parts);
  return Buffer.concat([uintBytes(body.length), body]);
};

/** A description of type 65 as a slice, with a name of that length. */
const describing = (name: number) =>
  message(Uint8Array.of(0xff, 0x81, 2, 1, 1), uintBytes(name), new Uint8Array(name), Uint8Array.of(0, 0, 0));

describe("a stream in pieces", () => {
  test("any prefix of a message waits for more, and a message is taken once", () => {
    const whole = new GobEncoder().encode(Inner, { Name: "some name", Flag: true });
    const decoder = new GobDecoder();
    const ends: number[] = [];
    let from = 0;
    let value: unknown;
    for (let i = 0; i <= whole.length; i++) {
      const next = decoder.take(Inner, whole.subarray(from, i), 0);
      if (!next) continue;
      from += next.at;
      ends.push(from);
      value = next.value;
    }
    // The description of Inner, then the value; from each on the decoder is given what follows only.
    expect(ends).toEqual([whole.length - 17, whole.length]);
    expect(value).toEqual({ Name: "some name", Flag: true });
  });
});

describe("what a message may cost", () => {
  const Entry = struct("Entry", { Text: string, Data: bytes, Big: uint64, Signed: int64, Flag: bool });
  const List = struct("List", { Entries: slice(Entry) });

  /** A list of as many empty entries as asked for, one byte each. */
  function blownUp(count: number): Uint8Array {
    const plain = new GobEncoder().encode(List, { Entries: [{ ...Entry.zero(), Text: "x" }] });
    // The value comes last: length, type id, field 1, one entry of "x", and two ends.
    const value = Uint8Array.of(1, 1, 1, 1, 0x78, 0, 0);
    expect(plain.slice(plain.length - value.length)).toEqual(value);
    const descriptions = plain.subarray(0, plain.length - 10);
    const id = plain.subarray(plain.length - 9, plain.length - 7);
    const body = [id, Uint8Array.of(1), uintBytes(count), new Uint8Array(count + 1)];
    return Buffer.concat([descriptions, message(...body)]);
  }

  test("a few empty structs are fine", () => {
    expect(new GobReader(blownUp(100)).read(List).Entries).toHaveLength(100);
  });

  test("millions of empty structs are refused, where they are read and where they are skipped", () => {
    const stream = blownUp(2_000_000);
    expect(() => new GobReader(stream).read(List)).toThrow("more values than its length allows");
    const None = struct("List", { Other: bool });
    expect(new GobReader(blownUp(100)).read(None)).toEqual({ Other: false });
    expect(() => new GobReader(stream).read(None)).toThrow("more values than its length allows");
  });

  test("the allowance is of the stream, not of each message in it", () => {
    const stream = new GobDecoder();
    const small = blownUp(3000);
    const readAll = () => {
      for (let at = 0; at < small.length; ) at = stream.take(List, small, at)?.at ?? small.length;
    };
    expect(readAll).not.toThrow();
    expect(readAll).toThrow(GobError);
  });

  test.each([
    ["endless descriptions", 10, 200],
    ["long descriptions", 6000, 3],
  ])("%s are refused", (_what, name, count) => {
    const stream = Buffer.concat(Array.from({ length: count }, () => describing(name)));
    expect(() => new GobReader(stream).read(Inner)).toThrow("gob describes too many types");
    expect(() => new GobReader(stream).skip()).toThrow("gob describes too many types");
  });
});

describe("malformed input", () => {
  const INNER = [0xff, 0x84];
  const STRING = 12;
  /** Recursive types: their description, the bytes that open one level of a value, and the bytes that close it. */
  const RECURSIVE = {
    slice: { described: [2, 1, 1, 1, 0x49, 0, 1, ...INNER, 0, 0], level: [1], rest: [] },
    "map in its elements": {
      described: [4, 1, 1, 1, 0x49, 0, 1, STRING, 1, ...INNER, 0, 0],
      level: [1, 0],
      rest: [],
    },
    "map in its keys": {
      described: [4, 1, 1, 1, 0x49, 0, 1, ...INNER, 1, STRING, 0, 0],
      level: [1],
      rest: [0],
    },
    struct: {
      described: [3, 1, 1, 1, 0x49, 0, 1, 1, 1, 1, 0x58, 1, ...INNER, 0, 0, 0],
      level: [1],
      rest: [0],
    },
  };

  /** Make a struct of one field of a recursive type, `depth` levels deep. */
  function nested(kind: keyof typeof RECURSIVE, depth: number): Uint8Array {
    const { described, level, rest } = RECURSIVE[kind];
    const levels = (bytes: readonly number[]) => Uint8Array.from(Array(depth).fill(bytes).flat());
    return Buffer.concat([
      message(Uint8Array.of(0xff, 0x83, ...described)),
      message(Uint8Array.of(0xff, 0x81, 3, 1, 1, 1, 0x4f, 0, 1, 1, 1, 1, 0x58, 1, ...INNER, 0, 0, 0)),
      message(Uint8Array.of(0xff, 0x82, 1), levels(level), Uint8Array.of(0), levels(rest), Uint8Array.of(0)),
    ]);
  }

  test.each(Object.keys(RECURSIVE) as (keyof typeof RECURSIVE)[])(
    "a recursive %s nested too deeply is a GobError, whether it is read or skipped",
    (kind) => {
      const Known = struct("O", { X: slice(slice(string)) });
      const Other = struct("O", { Y: bool });
      expect(new GobReader(nested(kind, 20)).read(Other)).toEqual({ Y: false });
      for (const depth of [40, 1_000]) {
        expect(() => new GobReader(nested(kind, depth)).read(Other)).toThrow("gob nested too deeply");
        expect(() => new GobReader(nested(kind, depth)).read(Known)).toThrow(GobError);
      }
    },
  );

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

test.each([0, 1, 127, 128, 255, 256, 70_000])("the prefix of %d bytes is that of their message", (length) => {
  const value = new Uint8Array(length).fill(7);
  expect(Buffer.concat([bytesPrefix(length), value]).equals(gobEncode([bytes, value]))).toBe(true);
});
