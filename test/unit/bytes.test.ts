import { expect, test } from "bun:test";
import { be16, be64, readBe16 } from "../../lib/bytes/bigendian.ts";
import { concat } from "../../lib/bytes/concat.ts";
import { viewOf } from "../../lib/bytes/view.ts";

test("numbers are written most significant octet first, and cut to their size", () => {
  expect(be16(0x1234)).toEqual(Uint8Array.of(0x12, 0x34));
  expect(be16(0x5_6789)).toEqual(Uint8Array.of(0x67, 0x89));
  expect(be64(0x0102_0304_0506_0708n)).toEqual(Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8));
});

test("a number is read from its place; octets after the end are 0", () => {
  expect(readBe16(Uint8Array.of(9, 0x12, 0x34), 1)).toBe(0x1234);
  expect(readBe16(Uint8Array.of(0x12), 0)).toBe(0x1200);
  expect(readBe16(new Uint8Array(0), 0)).toBe(0);
});

test("joined bytes have a buffer of their own", () => {
  const joined = concat([Buffer.from("we"), new Uint8Array(0), Buffer.from("ave")]);
  expect(joined).toEqual(new Uint8Array(Buffer.from("weave")));
  expect(joined.buffer.byteLength).toBe(5);
});

test("a view begins and ends where the bytes do", () => {
  const view = viewOf(Uint8Array.of(0, 1, 2, 3, 4).subarray(1, 3));
  expect([view.byteLength, view.getUint16(0)]).toEqual([2, 0x0102]);
});
