// Answers of the kernel that are cut or make no sense end in an error that says so, whatever is wrong with them.
import { describe, expect, test } from "bun:test";
import { AddressError, parseCidr, parseIPv4 } from "../../lib/address/ipv4.ts";
import { firewallTable } from "../../lib/host/firewall.ts";
import { AttributeError } from "../../lib/netlink/attributes.ts";
import {
  clearCounters,
  decodeTable,
  dropsByPolicy,
  encodeTable,
  INFO,
  IptablesError,
  type LegacyRule,
  type LegacyTable,
  legacyRule,
  legacyRuleText,
  linksOf,
} from "../../lib/netlink/iptables/table.ts";
import { decodeLink, encodeNewLink } from "../../lib/netlink/link.ts";
import { decodeChain } from "../../lib/netlink/nftables/chain.ts";
import { nftAttributes } from "../../lib/netlink/nftables/message.ts";
import { fillTable } from "../../lib/netlink/nftables/replace.ts";
import { decodeRule, ruleContent, ruleText } from "../../lib/netlink/nftables/rule.ts";
import { stateOf } from "../../lib/netlink/nftables/state.ts";
import { fc } from "../support/fastcheck.ts";

interface Damage {
  readonly keep: number;
  readonly bytes: readonly (readonly [at: number, value: number])[];
}

/** Cuts, and changes bytes: those at `hot` more often than others. */
const damage = (...hot: readonly number[]): fc.Arbitrary<Damage> =>
  fc.record({
    keep: fc.oneof(fc.constant(1), fc.double({ min: 0.1, max: 1, noNaN: true })),
    bytes: fc.array(fc.tuple(fc.oneof(fc.nat(), fc.constantFrom(0, ...hot)), fc.nat({ max: 255 })), {
      maxLength: 4,
    }),
  });

function damaged(bytes: Uint8Array, { keep, bytes: changes }: Damage): Uint8Array {
  const copy = bytes.slice(0, Math.ceil(bytes.length * keep));
  for (const [at, value] of changes) copy[at % copy.length] = value;
  return copy;
}

/** Reads something damaged; what it throws has to be one of these. */
function reads(read: () => unknown, ...errors: (new (...args: never[]) => Error)[]): void {
  try {
    read();
  } catch (error) {
    if (!errors.some((expected) => error instanceof expected)) throw error;
  }
}

describe("nftables", () => {
  const requests = fillTable(
    firewallTable({
      exposed: [{ cidr: parseCidr("10.32.0.1/12"), masquerade: true }],
      controlPort: 6784,
      local: [{ start: parseIPv4("10.32.0.0"), end: parseIPv4("10.32.1.0") }],
    }),
  );

  test("chains, rules, sets and elements that are damaged", () => {
    fc.assert(
      fc.property(fc.constantFrom(...requests), damage(4, 6, 8), (request, how) => {
        const body = damaged(request.body, how);
        reads(() => stateOf([{ ...request, body }]), AttributeError);
        reads(() => ruleText(ruleContent(nftAttributes(body))), AttributeError);
        reads(() => decodeChain({ body }), AttributeError);
        reads(() => decodeRule({ body }), AttributeError);
      }),
      { numRuns: 1_000 },
    );
  });
});

test("links that are damaged", () => {
  const body = encodeNewLink({ kind: "vxlan", name: "vxlan-6784", port: 6784, address: "5e:00:00:00:00:01" });
  fc.assert(
    fc.property(damage(16, 18), (how) => {
      const message = { type: 16, flags: 0, sequence: 0, port: 0, body: damaged(body, how) };
      reads(() => decodeLink(message), AttributeError, AddressError);
    }),
    { numRuns: 1_000 },
  );
});

describe("iptables, the older kind", () => {
  const jump = legacyRule({}, "OURS");
  const chains = [{ name: "OURS", rules: [legacyRule({ inLink: "weave" })] }];
  /** The policy of a chain is a rule that accepts all. */
  const hook = (name: string, number: number, rules: LegacyRule[]) => {
    return { name, hook: number, rules, policy: legacyRule({}).bytes };
  };
  const table: LegacyTable = {
    name: "filter",
    hooks: [
      hook("INPUT", 1, []),
      hook("FORWARD", 2, [jump, legacyRule({ outLink: "weave" })]),
      hook("OUTPUT", 3, []),
    ],
    chains,
    entries: 0,
  };
  const { header, entries } = encodeTable(table);
  /** Of the second entry, which jumps: where its target is and its end, in low and high bytes; the name of its target. */
  const offsets = [88, 89, 90, 91, 114].map((at) => 152 + at);
  /** struct ipt_getinfo from struct ipt_replace: name, valid hooks, where they begin and end, number and size. */
  const info = new Uint8Array(INFO);
  info.set(header.subarray(0, 36));
  info.set(header.subarray(44, 84), 36);
  info.set(header.subarray(36, 44), 76);

  test("a table is read as it was written, behind a header of the kernel's length", () => {
    // struct ipt_replace on 64 bits; its counters are elsewhere.
    expect(header.length).toBe(96);
    const read = decodeTable(info, entries);
    const text = ({ hooks, chains: all }: LegacyTable) =>
      [...hooks, ...all].map(({ name, rules }) => [name, ...rules.map(legacyRuleText)]);
    expect(text(read)).toEqual(text(table));
    expect(read.hooks.map(dropsByPolicy)).toEqual([false, false, false]);
  });

  test("a table is written as it was read, whatever bytes names of chains have", () => {
    // UTF-8, and what is none.
    for (const name of [Buffer.from("é".repeat(15)), Uint8Array.of(0x80, 0xff, 0x9f)]) {
      const bytes = entries.slice();
      const [chain] = chains;
      const at = Buffer.from(bytes).indexOf(`${chain?.name}\0`);
      bytes.fill(0, at, at + 32);
      bytes.set(name, at);
      expect(encodeTable(decodeTable(info, bytes)).entries.toHex()).toBe(bytes.toHex());
    }
  });

  test("a table without its counters is the same after packets, and another after a change", () => {
    const seen = (change: (bytes: Uint8Array) => void) => {
      const bytes = entries.slice();
      change(bytes);
      clearCounters(bytes);
      return Buffer.from(bytes).toString("hex");
    };
    const before = seen(() => {});
    // struct xt_counters of the second entry, then the flags of its match.
    expect(seen((bytes) => bytes.fill(7, 152 + 96, 152 + 112))).toBe(before);
    expect(seen((bytes) => bytes.fill(7, 152 + 83, 152 + 84))).not.toBe(before);
  });

  test("tables that are damaged", () => {
    fc.assert(
      fc.property(damage(36, 40, 56), damage(...offsets), (infoDamage, entriesDamage) => {
        reads(() => {
          const { hooks, chains: all } = decodeTable(
            damaged(info, infoDamage),
            damaged(entries, entriesDamage),
          );
          hooks.map(dropsByPolicy);
          for (const { rules } of [...hooks, ...all])
            for (const rule of rules) [linksOf(rule), legacyRuleText(rule)];
        }, IptablesError);
      }),
      { numRuns: 2_000 },
    );
  });
});
