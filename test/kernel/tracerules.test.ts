// The rules that a probe meets: its flow in both directions, what dropped it, and whether policies isolate an end.
import { describe, expect, test } from "bun:test";
import { parseIPv4 } from "../../lib/address/ipv4.ts";
import { describeDrops, flowOf, isolation } from "../../lib/trace/rules.ts";
import { inHost, isRoot, nft } from "../support/newnetns.ts";

const [source, destination] = [parseIPv4("10.32.0.5"), parseIPv4("10.40.0.6")];

test("a flow is told by the identifier of echo requests, else by both ports, source first", () => {
  const probe = { source, destination, port: 80, id: 0x1234 };
  expect(flowOf({ ...probe, protocol: "icmp" })).toEqual({
    ...{ source, destination, protocol: 1, at: 4 },
    ...{ forth: Uint8Array.of(0x12, 0x34), back: Uint8Array.of(0x12, 0x34) },
  });
  for (const [protocol, number] of [
    ["tcp", 6],
    ["udp", 17],
  ] as const)
    expect(flowOf({ ...probe, protocol })).toEqual({
      ...{ source, destination, protocol: number, at: 0 },
      ...{ forth: Uint8Array.of(0x12, 0x34, 0, 80), back: Uint8Array.of(0, 80, 0x12, 0x34) },
    });
});

describe.if(isRoot)("what dropped it", () => {
  const drop = (handle: bigint | undefined, change: object = {}) =>
    ({ family: "ip", table: "t", chain: "c", handle, forth: true, ...change }) as const;

  test("is each rule once a direction, with its comment, and the policy of a chain without", () => {
    inHost(() => {
      nft("add table ip t; add chain ip t c; add rule ip t c drop comment mine; add rule ip t c drop");
      const [one = 0n, two = 0n] = nft("-a", "list chain ip t c")
        .matchAll(/drop.* # handle (\d+)/g)
        .map(([, handle = ""]) => BigInt(handle));
      const back = { forth: false };
      const traced = [drop(one), drop(one), drop(one, back), drop(two), drop(undefined), drop(99n)];
      const told = { family: "ip", table: "t", chain: "c" };
      expect(describeDrops(traced)).toEqual([
        { ...told, handle: `${one}`, comment: "mine", forth: true },
        { ...told, handle: `${one}`, comment: "mine", forth: false },
        { ...told, handle: `${two}`, comment: null, forth: true },
        { ...told, handle: null, comment: null, forth: true },
        { ...told, handle: "99", comment: null, forth: true },
      ]);
    });
  });

  test("is at most 16 rules, with names that are cut", () => {
    const many = Array.from({ length: 20 }, (_, i) => drop(undefined, { chain: `${i}`.padEnd(300, "x") }));
    const told = describeDrops(many);
    expect([told.length, told[0]?.chain.length]).toEqual([16, 256]);
  });
});

describe.if(isRoot)("policies for an address", () => {
  test("are unknown without weave-npc; else they isolate in either direction, or not", () => {
    inHost(() => {
      expect(isolation(source)).toBeNull();
      const map = (name: string, address: string) =>
        `add map inet weave-npc ${name} { type ipv4_addr : verdict; }
         add element inet weave-npc ${name} { ${address} : jump chain-x }`;
      nft(
        `add table inet weave-npc
         add chain inet weave-npc chain-x
         ${map("ingress4", "10.32.0.5")}
         ${map("egress4", "10.40.0.6")}`,
      );
      expect(isolation(source)).toEqual({ ingress: true, egress: false, defaultDeny: false });
      expect(isolation(destination)).toEqual({ ingress: false, egress: true, defaultDeny: false });
      expect(isolation(parseIPv4("10.32.0.7"))).toMatchObject({ ingress: false, egress: false });
    });
  });
});
