import { describe, expect, test } from "bun:test";
import {
  AddressError,
  cidrRange,
  formatCidr,
  formatIPv4,
  formatRange,
  hostRange,
  ipv4FromOctets,
  ipv4Octets,
  parseCidr,
  parseIPv4,
  parseSubnet,
} from "../../lib/address/ipv4.ts";
import { formatMac, parseMac } from "../../lib/address/mac.ts";
import {
  nameFromBytes,
  nameFromNumber,
  nameToBytes,
  nameToNumber,
  PeerNameError,
  parsePeerName,
} from "../../lib/mesh/name.ts";
import { fc } from "../support/fastcheck.ts";

const ipv4 = fc.integer({ min: 0, max: 2 ** 32 - 1 });

test("addresses survive text and octets", () => {
  fc.assert(
    fc.property(ipv4, (address) => {
      expect(parseIPv4(formatIPv4(address))).toBe(address);
      expect(ipv4FromOctets(ipv4Octets(address))).toBe(address);
    }),
  );
});

test.each(["", "10.32.0", "10.32.0.256", "10.32.0.0.1", "a.b.c.d", "10.32.0.1 ", "::1", "010.1.1.1111"])(
  "%p is no address",
  (text) => {
    expect(() => parseIPv4(text)).toThrow(AddressError);
  },
);

test.each(["10.32.0.0", "10.32.0.0/33", "10.32.0.0/", "10.32.0.0/-1", "/12", "10.32.0.0/12/3"])(
  "%p is no subnet",
  (text) => {
    expect(() => parseCidr(text)).toThrow(AddressError);
  },
);

test("a subnet has no host bits", () => {
  expect(() => parseSubnet("10.32.0.1/12")).toThrow("bits after network prefix are not all zero");
  expect(formatCidr(parseSubnet("10.32.0.0/12"))).toBe("10.32.0.0/12");
});

test("ranges of subnets", () => {
  expect(cidrRange(parseCidr("0.0.0.0/0"))).toEqual({ start: 0, end: 2 ** 32 });
  expect(hostRange(parseCidr("10.0.0.0/30"))).toEqual({
    start: parseIPv4("10.0.0.1"),
    end: parseIPv4("10.0.0.3"),
  });
  expect(formatRange(cidrRange(parseCidr("10.32.0.0/12")))).toBe("10.32.0.0/12");
  expect(formatRange({ start: parseIPv4("10.0.0.1"), end: parseIPv4("10.0.0.4") })).toBe("10.0.0.1-10.0.0.3");
});

test("the text of a range means that range, and is one subnet's wherever it can be", () => {
  const meant = (text: string) => {
    if (text.includes("/")) return cidrRange(parseSubnet(text));
    const [first = "", last = ""] = text.split("-");
    return { start: parseIPv4(first), end: parseIPv4(last) + 1 };
  };
  // Of sizes of subnets, but not at their places, and the other way round.
  const size = fc.oneof(
    fc.nat(32).map((bits) => 2 ** bits),
    fc.integer({ min: 1, max: 1_000 }),
  );
  fc.assert(
    fc.property(ipv4, size, fc.nat(32), (at, length, bits) => {
      const start = Math.floor(at / 2 ** bits) * 2 ** bits;
      const range = { start, end: Math.min(start + length, 2 ** 32) };
      const text = formatRange(range);
      expect(meant(text)).toEqual(range);
      const count = range.end - range.start;
      expect(text.includes("/")).toBe(Number.isInteger(Math.log2(count)) && start % count === 0);
    }),
  );
});

test("Ethernet addresses", () => {
  expect(formatMac(parseMac("5E:3a:00:00:00:01"))).toBe("5e:3a:00:00:00:01");
  expect(() => parseMac("5e:3a:00:00:00")).toThrow(AddressError);
});

describe("peer names", () => {
  test.each([
    ["5e:3a:00:00:00:01", "5e:3a:00:00:00:01"],
    ["5E:3A:0:0:0:1", "5e:3a:00:00:00:01"],
    ["::1", "00:00:00:00:00:01"],
    ["5e::1", "5e:00:00:00:00:01"],
    ["5e:3a::", "5e:3a:00:00:00:00"],
  ])("%s is %s", (text, name) => {
    expect(parsePeerName(text)).toBe(name as never);
  });

  test.each([
    "",
    "::",
    "5e:3a:00:00:00",
    "5e:3a:00:00:00:01:02",
    "5e:3a:00:00:00:0g",
    "1::2::3",
    "123::1",
    "host1",
  ])("%p is none", (text) => {
    expect(() => parsePeerName(text)).toThrow(PeerNameError);
  });

  test("survive numbers and bytes", () => {
    fc.assert(
      fc.property(fc.bigInt({ min: 0n, max: 2n ** 48n - 1n }), (value) => {
        const name = nameFromNumber(value);
        expect(nameToNumber(name)).toBe(value);
        expect(nameFromBytes(nameToBytes(name))).toBe(name);
      }),
    );
    expect(() => nameFromNumber(2n ** 48n)).toThrow(PeerNameError);
    expect(() => nameFromBytes(new Uint8Array(7))).toThrow(PeerNameError);
    expect(nameFromBytes(Uint8Array.of(1, 2))).toBe(parsePeerName("::1:2"));
    expect(nameFromBytes(new Uint8Array())).toBe(parsePeerName("0:0:0:0:0:0"));
  });
});
