// Attributes at the bound of their length field: 16 bits, the header of four bytes included.
import { describe, expect, test } from "bun:test";
import {
  AttributeEncoder,
  AttributeError,
  AttributeSizeError,
  decodeAttributes,
} from "../../lib/netlink/attributes.ts";

const BOUND = 65_531;

/** Attributes of these types and values, back to back, and where each begins. */
function run(...values: readonly Uint8Array[]): { bytes: Uint8Array; starts: number[] } {
  const encoder = new AttributeEncoder();
  const starts = values.map((value, i) => {
    const at = encoder.done().length;
    encoder.bytes(i + 1, value);
    return at;
  });
  return { bytes: encoder.done(), starts };
}

test("attributes that are cut anywhere but between two of them are refused", () => {
  const values = [0, 1, 2, 3, 4, 5, 9].map((length) => new Uint8Array(length).fill(length));
  const { bytes, starts } = run(...values);
  for (let length = 0; length < bytes.length; length++) {
    // The padding of the last one is not needed.
    const whole = starts.filter((at, i) => at + 4 + (values[i]?.length ?? 0) <= length).length;
    const next = starts[whole] ?? bytes.length;
    const cut = bytes.slice(0, length);
    if (length <= next)
      expect(decodeAttributes(cut).list.map(({ type }) => type)).toEqual(
        Array.from({ length: whole }, (_, i) => i + 1),
      );
    else expect([length, () => decodeAttributes(cut)][1]).toThrow(AttributeError);
  }
});

test("a length that is not that of the attribute's bytes is refused, wherever it stands", () => {
  const values = [4, 4, 4].map((length) => new Uint8Array(length));
  const { bytes, starts } = run(...values);
  for (const at of starts) {
    for (const length of [0, 1, 2, 3, bytes.length - at + 1, bytes.length, bytes.length + 1, 65_535]) {
      if (length >= 4 && length <= bytes.length - at) continue;
      const lying = bytes.slice();
      new DataView(lying.buffer).setUint16(at, length, true);
      expect(() => decodeAttributes(lying)).toThrow(
        `attribute of ${length} bytes where ${bytes.length - at} are left`,
      );
    }
  }
});

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
