// Policies that are as large as an API server takes them: what they cost grows with their size, and what would not is denied.
import { describe, expect, test } from "bun:test";
import { stateOf } from "../../lib/netlink/nftables/state.ts";
import { MAX_COST } from "../../lib/npc/chain.ts";
import { Compiler } from "../../lib/npc/compiler.ts";
import { wholeTable } from "../../lib/npc/difference.ts";
import { endOf, explain } from "../../lib/npc/explain.ts";
import { type Change, Model } from "../../lib/npc/model.ts";
import { readObject } from "../../lib/npc/read.ts";
import { allows, incompletePods, type Ruleset } from "../../lib/npc/ruleset.ts";

const NODE = "n1";
const POD = "10.32.0.1";

const many = <T>(count: number, make: (i: number) => T) => Array.from({ length: count }, (_, i) => make(i));
const address = (i: number) => `100.${i >> 16}.${(i >> 8) & 255}.${i & 255}`;
const pod = (i: number, nodeName = "n2") =>
  readObject("Pod", {
    metadata: { namespace: "x", name: `p${i}`, labels: { number: String(i) } },
    spec: { nodeName, containers: [{ ports: [{ name: "web", containerPort: 80 }] }] },
    status: { podIP: i === 0 ? POD : address(i) },
  });

/** The model and rules of one pod of this node, of `others` elsewhere, and a policy. */
function compiled(spec: object, others = 0) {
  const policy = readObject("NetworkPolicy", {
    metadata: { namespace: "x", name: "p" },
    spec: { podSelector: {}, ...spec },
  });
  expect(policy.object.problems).toEqual([]);
  const objects = [policy, pod(0, NODE), ...many(others, (i) => pod(i + 1))];
  const model = new Model();
  model.apply(objects.map((object): Change => ({ type: "set", object })));
  return { model, rules: new Compiler(model, { node: NODE }).all() };
}

const enters = (rules: Ruleset, source: string, port: number) =>
  allows(rules, "ingress", { source, destination: POD, protocol: "TCP", port });
const leaves = (rules: Ruleset, destination: string, port: number) =>
  allows(rules, "egress", { source: POD, destination, protocol: "TCP", port });

/** Elements of all sets. */
const size = ({ sets }: Ruleset) =>
  sets.values().reduce((sum, set) => {
    if (set.kind === "blocks") return sum + set.ranges.length;
    return sum + (set.kind === "pods" ? set.addresses.size : set.endpoints.size);
  }, 0);

test("policies for other pods and ports need no more sets of the kernel", () => {
  const kernel = (count: number) => {
    const ingress = many(count, (i) => ({
      from: [{ podSelector: { matchLabels: { number: String(i + 1) } } }],
      ports: [{ port: 1_000 + i }],
    }));
    const requests = wholeTable(compiled({ ingress }, count).rules, { allowMulticast: true });
    const { chains, sets } = stateOf(requests);
    return { chains: chains.size, sets: sets.size, elements: sets.get("pods4")?.elements.length };
  };
  const { chains, sets } = kernel(0);
  expect(kernel(500)).toEqual({ chains: chains + 500, sets: sets + 1, elements: 500 });
});

describe("a policy of a megabyte", () => {
  test("with port ranges in each other", () => {
    const ports = many(32_000, (i) => ({ port: 1 + i, endPort: 65_535 - i }));
    const { rules } = compiled({ ingress: [{ ports, from: [{ ipBlock: { cidr: "100.0.0.0/8" } }] }] });
    const [chain] = rules.chains.values();
    expect(chain?.ports).toMatchObject([{ first: 1, last: 65_535 }]);
    expect(chain?.incomplete).toBeUndefined();
    expect([enters(rules, address(1), 1), enters(rules, address(1), 65_535), enters(rules, POD, 1)]).toEqual([
      true,
      true,
      true,
    ]);
    expect(enters(rules, "1.2.3.4", 5_000)).toBe(false);
  });

  test("with exceptions of a block", () => {
    const except = many(60_000, (i) => `${address(2 * i)}/32`);
    const { rules } = compiled({ ingress: [{ from: [{ ipBlock: { cidr: "0.0.0.0/0", except } }] }] });
    expect([0, 1, 59_999, 60_000].map((i) => enters(rules, address(i), 80))).toEqual([
      false,
      true,
      true,
      false,
    ]);
  });

  test("with selectors that each select all of many pods", () => {
    const to = many(8_000, (i) => ({
      podSelector: { matchExpressions: [{ key: `k${i}`, operator: "DoesNotExist" }] },
    }));
    const egress = [{ to, ports: [{ port: "web" }, { port: 443 }] }];
    const { rules } = compiled({ policyTypes: ["Egress"], egress }, 3_000);
    expect([80, 443, 81].map((port) => leaves(rules, address(3_000), port))).toEqual([true, true, false]);
    expect(leaves(rules, address(3_001), 443)).toBe(false);
    expect(size(rules)).toBe(2 * 3_001);
  });
});

test("5,000 policies of one pod, each with its own peer and port, are all in force", () => {
  const ingress = many(5_000, (i) => ({
    from: [{ podSelector: { matchLabels: { app: `a${i}` } } }],
    ports: [{ port: 10_000 + i }],
  }));
  const { rules } = compiled({ ingress });
  expect([...incompletePods(rules)]).toEqual([]);
});

describe("port ranges that overlap, each with peers of its own", () => {
  const nested = (count: number) => ({
    ingress: many(count, (i) => ({
      ports: [{ port: 1 + i, endPort: 65_535 - i }],
      from: [{ ipBlock: { cidr: `${address(2 * i)}/32` } }],
    })),
  });

  test("are all in force where there are hundreds", () => {
    const { rules } = compiled(nested(500));
    expect([...incompletePods(rules)]).toEqual([]);
    expect([250, 251, 65_286, 65_287].map((port) => enters(rules, address(500), port))).toEqual([
      false,
      true,
      false,
      false,
    ]);
  });

  test("beyond a bound, some of them are denied, and nothing is allowed besides", () => {
    const count = 1_200;
    const { model, rules } = compiled(nested(count));
    expect(size(rules)).toBeLessThanOrEqual(MAX_COST);
    expect(incompletePods(rules).next().value).toEqual({ pod: "x/p0", direction: "ingress" });
    const wanted = (i: number, port: number) => 1 + i <= port && port <= 65_535 - i;
    let denied = 0;
    for (let i = 0; i < count; i += 37) {
      for (const port of [1, i, i + 1, 20_000, 65_535 - i, 65_536 - i]) {
        const entered = enters(rules, address(2 * i), port);
        if (entered) expect([i, port, wanted(i, port)]).toEqual([i, port, true]);
        else if (wanted(i, port)) denied++;
      }
    }
    expect(denied).toBeGreaterThan(0);
    const why = explain(model, endOf(model, address(0)), endOf(model, "x/p0"), "TCP", 20_000).ingress;
    expect([why.verdict, why.reason]).toEqual([
      "deny",
      "policies combine too many overlapping port ranges and peers: this part of x/p is not in force",
    ]);
  });
});
