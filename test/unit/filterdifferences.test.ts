// How our part of the packet filter differs from what is desired: pure, over what we send and what the kernel answers.
import { describe, expect, test } from "bun:test";
import { parseCidr, parseIPv4 } from "../../lib/address/ipv4.ts";
import { withExposed, withoutExposed } from "../../lib/host/expose.ts";
import { firewallTable } from "../../lib/host/firewall.ts";
import { forwardingDifference } from "../../lib/host/forwarding/forwarding.ts";
import { fillTable } from "../../lib/netlink/nftables/replace.ts";
import { stateOf, type TableState, tableDifference } from "../../lib/netlink/nftables/state.ts";

const one = { cidr: parseCidr("10.32.0.1/12"), masquerade: true };
const other = { cidr: parseCidr("10.50.0.1/24"), masquerade: false };
const local = [{ start: parseIPv4("10.32.0.0"), end: parseIPv4("10.32.1.0") }];

const state = (settings: Partial<Parameters<typeof firewallTable>[0]> = {}) =>
  stateOf(fillTable(firewallTable({ exposed: [one], controlPort: 6784, local: [], ...settings })));

describe("a table", () => {
  const wanted = state();
  const chain = (name: string) => wanted.chains.get(name) ?? { hook: "", rules: [] };
  const withChain = (
    name: string,
    change: Partial<{ hook: string; rules: readonly string[] }>,
  ): TableState => {
    return { ...wanted, chains: new Map(wanted.chains).set(name, { ...chain(name), ...change }) };
  };
  const { rules } = chain("forward");
  const cases: [what: string, found: TableState | undefined, wrong: string[]][] = [
    ["the same", state(), []],
    ["none", undefined, ["missing"]],
    ["dormant", { ...wanted, dormant: true }, ["dormant"]],
    ["foreign objects", { ...wanted, foreign: true }, ["with foreign chains or sets"]],
    [
      "an exposed address more",
      state({ exposed: [one, other] }),
      ["with 7 of 5 rules in chain forward", "with 4 of 3 rules in chain input"],
    ],
    [
      "ports of the overlays",
      state({ overlays: { sleeve: 6783, vxlan: 6784, name: "02:00:00:00:00:01" } }),
      ["with 7 of 5 rules in chain forward", "with 5 of 3 rules in chain input"],
    ],
    [
      "no masquerading",
      state({ exposed: [{ ...one, masquerade: false }] }),
      ["with 0 of 4 rules in chain postrouting"],
    ],
    ["another port", state({ controlPort: 6785 }), ["with changed rules in chain input"]],
    [
      "another range",
      state({ local }),
      ["with 5 of 4 rules in chain postrouting", "with other elements in set local"],
    ],
    [
      "rules in another order",
      withChain("forward", { rules: [...rules].reverse() }),
      ["with changed rules in chain forward"],
    ],
    ["another policy", withChain("input", { hook: "x" }), ['with "x" of chain input']],
  ];
  test.each(cases)("%s", (_what, found, wrong) => {
    expect(tableDifference(wanted, found)).toEqual(wrong);
  });
});

describe("forwarding", () => {
  const accept = ["in", "out"];
  const cases: [
    what: string,
    drops: boolean,
    jumps: number[],
    rules: string[] | undefined,
    wrong: string | undefined,
  ][] = [
    ["nothing drops", false, [], undefined, undefined],
    ["nothing drops any more", false, [0], accept, "in place, though FORWARD drops nothing any more"],
    ["a jump is left", false, [2], undefined, "in place, though FORWARD drops nothing any more"],
    ["the chain is left", false, [], accept, "in place, though FORWARD drops nothing any more"],
    ["in front", true, [0], accept, undefined],
    ["no chain", true, [], undefined, "missing"],
    ["no jump", true, [], accept, "not jumped to from FORWARD"],
    ["behind", true, [1], accept, "behind other rules of FORWARD"],
    ["twice", true, [0, 3], accept, "behind other rules of FORWARD"],
    ["flushed", true, [0], [], "with 0 of 2 rules"],
    ["replaced", true, [0], ["in", "drop"], "with changed rules"],
  ];
  test.each(cases)("%s", (_what, drops, jumps, rules, wrong) => {
    expect(forwardingDifference(accept, { drops, jumps, rules })).toBe(wrong);
  });
});

test("exposures: one address has one, whatever was before", () => {
  const masked = { ...one, masquerade: false };
  expect(withExposed([], one)).toEqual([one]);
  expect(withExposed([one, other], masked)).toEqual([masked, other]);
  expect(withExposed([one], { ...one, cidr: parseCidr("10.32.0.1/16") })).toHaveLength(2);
  expect(withoutExposed([one, other], one.cidr)).toEqual([other]);
  expect(withoutExposed([one], other.cidr)).toEqual([one]);
});
