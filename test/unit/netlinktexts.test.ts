// What is read out of others' rules, and how ours match: comments, targets that reject, subnets, and differences of tables.
import { describe, expect, test } from "bun:test";
import { parseCidr } from "../../lib/address/ipv4.ts";
import { commentOf } from "../../lib/host/hostports/table.ts";
import { vethAlias } from "../../lib/host/names.ts";
import { AttributeEncoder, decodeAttributes } from "../../lib/netlink/attributes.ts";
import { legacyRule } from "../../lib/netlink/iptables/table.ts";
import { rejects } from "../../lib/netlink/nftables/expr/reject.ts";
import { matchAddress } from "../../lib/netlink/nftables/match.ts";
import { addRule, commentIn } from "../../lib/netlink/nftables/rule.ts";
import { tableDifference } from "../../lib/netlink/nftables/state.ts";

test("the comment of a rule is that of its type, whole, without what follows a zero", () => {
  const attribute = (type: number, text: string) => [type, text.length, ...Buffer.from(text)];
  const comment = (...bytes: number[]) => commentIn(Uint8Array.from(bytes));
  expect(comment(...attribute(1, "x"), ...attribute(0, "no pods\0"))).toBe("no pods");
  expect(comment(...attribute(0, ""))).toBe("");
  expect(comment(0, 0)).toBe("");
  expect(comment(...attribute(1, "no pods"))).toBeUndefined();
  expect(comment(0, 5, 0x61)).toBeUndefined();
  expect(comment(0)).toBeUndefined();
  expect(comment()).toBeUndefined();
});

describe("a rule rejects", () => {
  const target = (name: string) => ({
    name: "target",
    // NFTA_EXPR_DATA, with NFTA_TARGET_NAME in it.
    data: decodeAttributes(new AttributeEncoder().nested(2, (data) => data.string(1, name)).done()).get(2),
  });
  test.each([
    ["by nftables' own", { name: "reject", data: undefined }, true],
    ["by iptables' REJECT", target("REJECT"), true],
    ["not by another target", target("ACCEPT"), false],
    ["not by another expression", { name: "counter", data: undefined }, false],
    ["not by a target without data", { name: "target", data: undefined }, false],
  ])("%s", (_what, expression, expected) => {
    expect(rejects(expression as never)).toBe(expected);
  });
});

test.each([
  ["10.32.0.7/32", undefined, "0a200007"],
  ["10.32.0.7/31", "fffffffe", "0a200006"],
  ["10.32.9.9/12", "fff00000", "0a200000"],
  ["128.1.1.1/1", "80000000", "80000000"],
  ["10.32.0.7/0", "00000000", "00000000"],
] as const)("%s matches by mask %s and value %s", (cidr, mask, value) => {
  const match = matchAddress("saddr", parseCidr(cidr));
  const rule = addRule({ family: "ip", name: "t" }, "c", match).body?.toHex() ?? "";
  expect(rule).toContain(`08000100${value}`);
  if (mask === undefined) expect(match.length).toBe(2);
  else expect(rule).toContain(`08000100${mask}`);
});

describe("a table", () => {
  const set = (definition: string, ...elements: string[]) => ({ definition, elements });
  const table = (change: object = {}) =>
    ({
      dormant: false,
      foreign: false,
      chains: new Map([["c", { hook: "input 0", rules: [] }]]),
      sets: new Map([["s", set("ipv4", "1", "2")]]),
      ...change,
    }) as never;

  test.each<[string, unknown, string[]]>([
    ["as it is wanted", table(), []],
    ["that is not there", undefined, ["missing"]],
    ["without its set", table({ sets: new Map() }), ["without set s"]],
    ["with another set", table({ sets: new Map([["s", set("ipv6", "1", "2")]]) }), ["with another set s"]],
    [
      "with other elements",
      table({ sets: new Map([["s", set("ipv4", "1")]]) }),
      ["with other elements in set s"],
    ],
    ["without its chain", table({ chains: new Map() }), ["without chain c"]],
    [
      "with another hook",
      table({ chains: new Map([["c", { hook: "output 0", rules: [] }]]) }),
      ['with "output 0" of chain c'],
    ],
    [
      "that sleeps, with others' chains",
      table({ dormant: true, foreign: true }),
      ["dormant", "with foreign chains or sets"],
    ],
  ])("%s", (_what, found, wrong) => {
    expect(tableDifference(table(), found as never)).toEqual(wrong);
  });
});

test("an alias of up to 255 bytes names the owner, a longer one its digest", () => {
  const alias = (length: number) => vethAlias({ containerId: "c".repeat(length - 6), ifName: "eth0" });
  expect(alias(255)).toHaveLength(255);
  expect(alias(255)).toStartWith("/c");
  expect(alias(256)).toMatch(/^sha256:[0-9a-f]{64}$/);
});

test("a rule of iptables matches links by their whole names, with the zero behind them, and a subnet by its mask", () => {
  // struct ipt_ip (linux/netfilter_ipv4/ip_tables.h): src, dst, smsk, dmsk, iniface, outiface and their masks of 16 bytes.
  const { bytes } = legacyRule({ inLink: "weave", outLink: "eth0", destination: parseCidr("10.32.9.9/12") });
  const field = (at: number, length: number) => bytes.slice(at, at + length).toHex();
  const padded = (hex: string) => hex.padEnd(32, "0");
  expect([field(16, 16), field(48, 16)]).toEqual([padded("7765617665"), padded("ffffffffffff")]);
  expect([field(32, 16), field(64, 16)]).toEqual([padded("65746830"), padded("ffffffffff")]);
  expect([field(4, 4), field(12, 4), field(0, 4), field(8, 4)]).toEqual([
    ...["0a200000", "fff00000", "00000000", "00000000"],
  ]);
  const any = legacyRule({}).bytes;
  expect(any.slice(0, 84).toHex()).toBe("00".repeat(84));
});

test("the owner of a host port is named whole up to 126 characters, else by its digest", () => {
  const comment = (length: number) => commentOf("x".repeat(length));
  expect(comment(126)).toBe("x".repeat(126));
  expect(comment(127)).toMatch(/^[0-9a-f]{64}$/);
});
