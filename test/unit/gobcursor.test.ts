// Numbers of gob at the edges of their message: none is read across its end, and none of more than 8 bytes.
import { describe, expect, test } from "bun:test";
import { Cursor, GobError, messageAt } from "../../lib/gob/cursor.ts";

/** A number of so many bytes, 0x01 each: its length negated, then the bytes. */
const number = (length: number) => Uint8Array.of(256 - length, ...Array<number>(length).fill(1));
const valueOf8 = (length: number) => BigInt(`0x${"01".repeat(length)}`);

describe.each([
  ["small", (cursor: Cursor) => BigInt(cursor.small())],
  ["uint", (cursor: Cursor) => cursor.uint()],
] as const)("a number read as %s", (how, read) => {
  test.each([1, 2, 3, 4, 5, 6, 7, 8])("of %d bytes is whole, and leaves the cursor behind it", (length) => {
    const bytes = Uint8Array.of(...number(length), 9);
    const cursor = new Cursor(bytes, 0, bytes.length);
    // Above 2^53 a small one is inexact.
    const expected = how === "small" ? BigInt(Number(valueOf8(length))) : valueOf8(length);
    expect([read(cursor), cursor.at]).toEqual([expected, length + 1]);
  });

  test.each([1, 2, 6, 7, 8])("of %d bytes that its message cuts is an error, whatever follows", (length) => {
    const bytes = Uint8Array.of(...number(length), 1, 1, 1);
    for (let end = 0; end <= length; end++)
      expect(() => read(new Cursor(bytes, 0, end))).toThrow("gob ends inside a number");
    expect(() => read(new Cursor(bytes, 0, length + 1))).not.toThrow();
  });

  test.each([9, 64, 128])("of %d bytes is none", (length) => {
    const bytes = number(length);
    expect(() => read(new Cursor(bytes, 0, bytes.length))).toThrow(`gob number of ${length} bytes`);
  });

  test("below 128 is its byte", () => {
    for (const value of [0, 1, 127]) expect(read(new Cursor(Uint8Array.of(value), 0, 1))).toBe(BigInt(value));
  });
});

test("what is counted or taken has to be there", () => {
  const bytes = Uint8Array.of(3, 1, 2, 3);
  expect([...new Cursor(bytes, 0, 4).take()]).toEqual([1, 2, 3]);
  expect(() => new Cursor(bytes, 0, 3).take()).toThrow("gob counts 3 where 2 bytes are left");
  expect(new Cursor(bytes, 0, 4).count()).toBe(3);
});

test("the sign of an integer is its lowest bit", () => {
  const int = (value: number) => new Cursor(Uint8Array.of(value), 0, 1).int();
  expect([0, 1, 2, 3, 4, 127].map(int)).toEqual([0n, -1n, 1n, -2n, 2n, -64n]);
  const id = (value: number) => new Cursor(Uint8Array.of(value), 0, 1).typeId();
  expect([0, 2, 3, 1].map(id)).toEqual([0, 1, -2, -1]);
});

describe("a message", () => {
  const whole = Uint8Array.of(0xfe, 0, 3, 7, 8, 9, 1);

  test("is read once all of it is there", () => {
    for (let length = 0; length < 6; length++)
      expect(messageAt(whole.slice(0, length), 0, 10)).toBeUndefined();
    const found = messageAt(whole, 0, 10);
    expect([found?.at, found?.end, found?.left]).toEqual([3, 6, 3]);
    expect(messageAt(whole, 7, 10)).toBeUndefined();
  });

  test("may be as long as allowed, and no longer", () => {
    expect(messageAt(whole, 0, 3)).toBeDefined();
    expect(() => messageAt(whole, 0, 2)).toThrow("gob message of 3 bytes, more than 2");
    expect(() => messageAt(whole, 0, 2)).toThrow(GobError);
  });
});

test("fields come by their distances, up to 1,000", () => {
  const fields: number[] = [];
  new Cursor(Uint8Array.of(1, 2, 0xfe, 3, 0xe8, 0), 0, 6).eachField((field) => fields.push(field));
  expect(fields).toEqual([1, 3, 1_003]);
  expect(() => new Cursor(Uint8Array.of(0xfe, 3, 0xe9), 0, 3).nextField(0)).toThrow(
    "gob struct skips 1001 fields",
  );
});
