// Attributes at the bound of their length field: 16 bits, the header of four bytes included.
import { describe, expect, test } from "bun:test";
import { AttributeEncoder, AttributeSizeError, decodeAttributes } from "../../lib/netlink/attributes.ts";

const BOUND = 65_531;

describe("an attribute", () => {
  test("of the longest value is read as it was written", () => {
    const value = new Uint8Array(BOUND).fill(7);
    const read = decodeAttributes(new AttributeEncoder().bytes(3, value).u8(4, 1).done());
    expect(read.need(3).payload).toEqual(value);
    expect(read.need(4).u8).toBe(1);
  });

  test("that is longer is refused", () => {
    const long = new Uint8Array(BOUND + 1);
    expect(() => new AttributeEncoder().bytes(3, long)).toThrow(new AttributeSizeError(3, BOUND + 1 + 4));
    expect(() => new AttributeEncoder().string(5, "x".repeat(BOUND))).toThrow(AttributeSizeError);
  });

  test("with others in it counts these", () => {
    const half = new Uint8Array(32_764);
    const nested = (...values: Uint8Array[]) =>
      new AttributeEncoder().nested(9, (inner) => {
        for (const value of values) inner.bytes(1, value);
      });
    expect(nested(half, half.subarray(8)).done()).toHaveLength(4 + 4 + half.length + 4 + half.length - 8);
    expect(() => nested(half, half)).toThrow("netlink attribute 9 of 65540 bytes: at most 65535 fit");
    const deep = () =>
      new AttributeEncoder().nested(8, (outer) =>
        outer.nested(9, (inner) => inner.bytes(1, half).bytes(2, half).bytes(3, half)),
      );
    expect(deep).toThrow("netlink attribute 9 of");
  });
});
