// Blocks of addresses without their exceptions, against a model that counts addresses one by one.
import { describe, expect, test } from "bun:test";
import type { IpRange } from "../../lib/address/ip.ts";
import { merged, rangesContain, without } from "../../lib/npc/blocks.ts";
import { fc } from "../support/fastcheck.ts";

const range = (first: number, last: number, family: 4 | 6 = 4): IpRange => ({
  family,
  first: BigInt(first),
  last: BigInt(last),
});
const drawn = fc
  .tuple(fc.nat(20), fc.nat(20), fc.constantFrom(4 as const, 4 as const, 6 as const))
  .map(([a, b, family]) => range(Math.min(a, b), Math.max(a, b), family));
/** Whether an address is in one of these, looked at one by one. */
const contain = (ranges: readonly IpRange[], family: 4 | 6, address: bigint) =>
  ranges.some((each) => each.family === family && each.first <= address && address <= each.last);
const ALL = ([4, 6] as const).flatMap((family) =>
  Array.from({ length: 22 }, (_, i) => [family, BigInt(i)] as const),
);

describe("a block without exceptions", () => {
  test.each<[string, IpRange[], IpRange[]]>([
    ["none", [], [range(5, 9)]],
    ["the first address", [range(5, 5)], [range(6, 9)]],
    ["the last address", [range(9, 9)], [range(5, 8)]],
    ["one in between", [range(7, 7)], [range(5, 6), range(8, 9)]],
    ["all of it", [range(5, 9)], []],
    ["more than it", [range(0, 20)], []],
    ["up to its first", [range(0, 5)], [range(6, 9)]],
    ["from its last", [range(9, 20)], [range(5, 8)]],
    ["what ends before it", [range(0, 4)], [range(5, 9)]],
    ["what begins behind it", [range(10, 20)], [range(5, 9)]],
    ["another family's", [range(5, 9, 6)], [range(5, 9)]],
    ["two", [range(5, 5), range(9, 9)], [range(6, 8)]],
  ])("%s", (_, except, left) => expect(without(range(5, 9), except)).toEqual(left));

  test("has the addresses of the block that are in none of them", () => {
    fc.assert(
      fc.property(drawn, fc.array(drawn, { maxLength: 5 }), (block, except) => {
        const left = without(block, except);
        for (const [family, address] of ALL)
          expect(contain(left, family, address)).toBe(
            contain([block], family, address) && !contain(except, family, address),
          );
      }),
    );
  });
});

test("ranges that are put together have the same addresses, in order and apart from each other", () => {
  fc.assert(
    fc.property(fc.array(drawn, { maxLength: 6 }), (ranges) => {
      const together = merged(ranges);
      for (const [family, address] of ALL)
        expect([contain(together, family, address), rangesContain(together, family, address)]).toEqual([
          contain(ranges, family, address),
          contain(ranges, family, address),
        ]);
      for (const [i, { family, first }] of together.entries()) {
        const before = together[i - 1];
        if (before) expect(before.family < family || before.last + 1n < first).toBe(true);
      }
    }),
  );
  expect(merged([range(3, 4), range(1, 2), range(6, 7), range(1, 1, 6)])).toEqual([
    range(1, 4),
    range(6, 7),
    range(1, 1, 6),
  ]);
});
