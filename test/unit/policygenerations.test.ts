// Connections that the rules have let through are judged again where a change may block them, and only there.
import { describe, expect, test } from "bun:test";
import { ipNumber, parseIp } from "../../lib/address/ip.ts";
import { restricts } from "../../lib/npc/difference.ts";
import { following } from "../../lib/npc/generation.ts";
import { type Chain, type Endpoint, endpointKey, NO_RULES, type Ruleset } from "../../lib/npc/ruleset.ts";

const [A, B] = [parseIp("10.32.0.1"), parseIp("fd00::2")];
const pods = (...addresses: string[]): Ruleset["sets"] =>
  new Map([["p", { kind: "pods", key: "p", addresses: new Set(addresses.map(parseIp)) }]]);
const endpoint = (port: number): readonly [string, Endpoint] => {
  const each: Endpoint = { ip: A, protocol: "TCP", port };
  return [endpointKey(each), each];
};
const endpoints = (...ports: number[]): Ruleset["sets"] =>
  new Map([["e", { kind: "endpoints", key: "e", endpoints: new Map(ports.map(endpoint)) }]]);
const isolated = (ingress: [string, string][], egress: [string, string][] = []): Partial<Ruleset> => ({
  isolated: {
    ingress: new Map(ingress.map(([ip, chain]) => [parseIp(ip), chain])),
    egress: new Map(egress.map(([ip, chain]) => [parseIp(ip), chain])),
  },
});

describe("a change may block a connection", () => {
  test.each<[string, Partial<Ruleset>, Partial<Ruleset>]>([
    ["a peer goes", { sets: pods(A, B) }, { sets: pods(A) }],
    ["a peer takes another's place", { sets: pods(A) }, { sets: pods(B) }],
    ["a named port goes", { sets: endpoints(80, 81) }, { sets: endpoints(80) }],
    ["a named port becomes another", { sets: endpoints(80) }, { sets: endpoints(81) }],
    ["a pod is isolated from ingress", {}, isolated([[A, "x"]])],
    ["a pod is isolated from egress", {}, isolated([], [[A, "x"]])],
    ["a pod gets another chain", isolated([[A, "x"]]), isolated([[A, "y"]])],
    [
      "a second pod is isolated",
      isolated([[A, "x"]]),
      isolated([
        [A, "x"],
        [B, "x"],
      ]),
    ],
    ["a pod of egress gets another chain", isolated([], [[B, "x"]]), isolated([], [[B, "y"]])],
  ])("where %s", (_what, before, next) => {
    expect(restricts({ ...NO_RULES, ...before }, { ...NO_RULES, ...next })).toBe(true);
  });
});

describe("a change blocks nothing", () => {
  const chain: Chain = { key: "x", direction: "ingress", any: undefined, ports: [], named: undefined };
  const blocks: Ruleset["sets"] = new Map([
    ["b", { kind: "blocks", key: "b", ranges: [{ family: 4, first: ipNumber(A), last: ipNumber(A) }] }],
  ]);
  test.each<[string, Partial<Ruleset>, Partial<Ruleset>]>([
    ["nothing changes", { sets: pods(A) }, { sets: pods(A) }],
    ["a peer comes", { sets: pods(A) }, { sets: pods(A, B) }],
    ["a named port comes", { sets: endpoints(80) }, { sets: endpoints(80, 81) }],
    ["a set comes", {}, { sets: pods(A) }],
    ["a set goes, whose chains go with it", { sets: pods(A) }, {}],
    ["blocks of one name are read anew", { sets: blocks }, { sets: new Map(blocks) }],
    ["a chain comes that nobody has", {}, { chains: new Map([["x", chain]]) }],
    ["a pod is isolated no longer", isolated([[A, "x"]], [[B, "y"]]), {}],
  ])("where %s", (_what, before, next) => {
    expect(restricts({ ...NO_RULES, ...before }, { ...NO_RULES, ...next })).toBe(false);
  });
});

test("generations count from 1 to 256, which is all that the mark has bits for, then judge each packet", () => {
  expect([1, 2, 128, 254, 255, 256].map(following)).toEqual([2, 3, 129, 255, 256, 0]);
  // Only the end of all marks begins a new count.
  expect(following(0)).toBe(0);
});
