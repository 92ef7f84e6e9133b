// Network policy in memory: every case of test/conformance as the compiled rules decide it; and that rules that were
// brought up to date, change by change, are those that are compiled from nothing.
import { describe, expect, test } from "bun:test";
import { parseIpSubnet } from "../../lib/address/ip.ts";
import { AddressError } from "../../lib/address/ipv4.ts";
import { parseLenientIp, parseLenientSubnet } from "../../lib/address/lenient.ts";
import { below, seededRandom } from "../../lib/clock/random.ts";
import { Compiler } from "../../lib/npc/compiler.ts";
import { endOf, explain } from "../../lib/npc/explain.ts";
import { type Change, Model } from "../../lib/npc/model.ts";
import { readObject } from "../../lib/npc/read.ts";
import { allows, type Ruleset } from "../../lib/npc/ruleset.ts";
import { readSnapshot } from "../../lib/npc/snapshot.ts";
import {
  baseCluster,
  type Case,
  conformanceCases,
  modelOf,
  NODE,
  type Probe,
} from "../support/conformance.ts";

const cases = conformanceCases();

test("there are cases enough, each with a name of its own", () => {
  expect(cases.length).toBeGreaterThanOrEqual(150);
  expect(new Set(cases.map(({ name }) => name)).size).toBe(cases.length);
});

const text = ({ from, to, port, protocol, allowed }: Probe) =>
  `${allowed ? "allow" : "deny"} ${from} -> ${to} ${port}/${protocol}`;

describe.each(cases.map((each) => [each.file, each.name, each] as const))(
  "%s: %s",
  (_file, _name, each: Case) => {
    test("as compiled", () => {
      const rules = new Compiler(modelOf(each), { node: NODE, legacy: each.legacy }).all();
      const probes = [...each.probes, ...each.replies, ...each.asked];
      expect(probes.length).toBeGreaterThan(0);
      const decided = probes.map((probe) =>
        text({ ...probe, allowed: allows(rules, "egress", probe) && allows(rules, "ingress", probe) }),
      );
      expect(decided).toEqual(probes.map(text));
    });

    test("as explained: where it is not about this node alone, and with a rule that allows it", () => {
      const model = modelOf(each);
      for (const probe of each.probes) {
        const [from, to] = [endOf(model, probe.source), endOf(model, probe.destination)];
        const { egress, ingress } = explain(model, from, to, probe.protocol, probe.port, each.legacy);
        for (const opinion of [egress, ingress]) {
          if (opinion.isolatedBy.length === 0 || opinion.reason.includes("node may always")) continue;
          expect([opinion.verdict, opinion.allowedBy.length > 0]).toEqual([
            opinion.verdict,
            opinion.verdict === "allow",
          ]);
        }
      }
    });
  },
);

/** Rules as plain data, in order, to be compared. */
function plain({ node, local, isolated, chains, sets }: Ruleset) {
  return {
    node: [...node].sort(),
    local: [...local].sort(),
    ingress: [...isolated.ingress].sort(),
    egress: [...isolated.egress].sort(),
    chains: [...chains.values()].sort((a, b) => (a.key < b.key ? -1 : 1)),
    sets: [...sets.values()]
      .sort((a, b) => (a.key < b.key ? -1 : 1))
      .map((set) => {
        if (set.kind === "blocks") return set;
        return set.kind === "pods"
          ? [set.key, [...set.addresses].sort()]
          : [set.key, [...set.endpoints.keys()].sort()];
      }),
  };
}

test("events in any order, over and over: the rules are always those of the objects as they are", () => {
  for (let seed = 1n; seed <= 20n; seed++) {
    const random = seededRandom(seed);
    const model = new Model();
    const compiler = new Compiler(model, { node: NODE });
    const pool = [...baseCluster(), ...cases.flatMap(({ changes }) => changes)];
    for (let step = 0; step < 60; step++) {
      const changes: Change[] = [];
      for (let i = 0; i <= below(random, 3); i++) {
        const change = pool[below(random, pool.length)];
        if (change) changes.push({ ...change, type: below(random, 4) === 0 ? "delete" : "set" });
      }
      const rules = compiler.update(model.apply(changes));
      expect(plain(rules)).toEqual(plain(new Compiler(model, { node: NODE }).all()));
    }
  }
});

test("what a change does not touch stays the same object", () => {
  const model = new Model();
  const compiler = new Compiler(model, { node: NODE });
  const policy = (name: string, of: string) =>
    readObject("NetworkPolicy", {
      metadata: { namespace: "x", name },
      spec: { podSelector: {}, ingress: [{ from: [{ namespaceSelector: { matchLabels: { ns: of } } }] }] },
    });
  const objects = [policy("p", "y"), policy("q", "z")].map((object): Change => ({ type: "set", object }));
  const before = compiler.update(model.apply([...baseCluster(), ...objects]));
  const moved = readObject("Pod", {
    metadata: { namespace: "y", name: "a" },
    spec: { nodeName: NODE },
    status: { podIP: "10.32.7.7" },
  });
  const after = compiler.update(model.apply([{ type: "set", object: moved }]));
  const [chain] = before.chains.keys();
  expect(after.chains.get(chain ?? "")).toBe(before.chains.get(chain ?? "") as never);
  expect(before.sets.size).toBe(1);
  const [set] = before.sets.values();
  expect(after.sets.get(set?.key ?? "")).not.toBe(set as never);
});

test("what is to be is explained, too: pods without a node or an address; what is no more is not", () => {
  const model = new Model();
  const pod = (name: string, more: object = {}) =>
    readObject("Pod", { metadata: { namespace: "x", name, labels: { pod: name } }, ...more });
  const policy = readObject("NetworkPolicy", {
    metadata: { namespace: "x", name: "p" },
    spec: {
      podSelector: { matchLabels: { pod: "a" } },
      ingress: [{ from: [{ podSelector: { matchLabels: { pod: "b" } } }] }],
    },
  });
  const ended = pod("old", { status: { phase: "Failed", podIP: "10.32.0.9" } });
  const objects = [pod("a"), pod("b"), pod("c"), pod("h", { spec: { hostNetwork: true } }), ended, policy];
  model.apply(objects.map((object): Change => ({ type: "set", object })));
  const verdict = (from: string, to: string) =>
    explain(model, endOf(model, from), endOf(model, to), "TCP", 80).verdict;
  expect([verdict("x/b", "x/a"), verdict("x/c", "x/a"), verdict("x/a", "x/c")]).toEqual([
    "allow",
    "deny",
    "allow",
  ]);
  expect(() => verdict("x/old", "x/a")).toThrow("pod x/old has ended");
  expect(() => verdict("x/h", "x/a")).toThrow("the node of pod x/h has no known address");
});

describe("objects that are not what they should be", () => {
  test.each([
    ["Pod", { metadata: {} }, "Pod without a name"],
    ["Pod", { metadata: { name: "" } }, "Pod without a name"],
    ["NetworkPolicy", { metadata: { name: "p", namespace: 7 } }, "NetworkPolicy without a name"],
    ["Namespace", "x", "Namespace without a name"],
    ["Namespace", null, "Namespace without a name"],
  ] as const)("%s %j is none", (kind, json, message) => {
    expect(() => readObject(kind, json)).toThrow(message);
  });

  const ingress = (...rules: unknown[]) => ({ metadata: { name: "p" }, spec: { ingress: rules } });
  test.each([
    ["NetworkPolicy", ingress({ from: [{}] }), "spec.ingress.0.from.0: a peer has an ipBlock, or else"],
    [
      "NetworkPolicy",
      ingress({}, { from: [{ ipBlock: { cidr: "10.0.0.0/33" } }] }),
      "spec.ingress.1.from.0.ipBlock.cidr: ",
    ],
    ["NetworkPolicy", ingress({ ports: [{ port: 80, endPort: 70 }] }), "spec.ingress.0.ports.0: endPort"],
    ["NetworkPolicy", ingress({ ports: [{ port: "web", endPort: 70 }] }), "spec.ingress.0.ports.0: endPort"],
    [
      "NetworkPolicy",
      ingress({ ports: [{ port: 80, protocol: "ICMP" }] }),
      "spec.ingress.0.ports.0.protocol: ",
    ],
    [
      "NetworkPolicy",
      {
        metadata: { name: "p" },
        spec: { podSelector: { matchExpressions: [{ key: "a", operator: "Like" }] } },
      },
      "spec.podSelector.matchExpressions.0.operator: ",
    ],
    ["NetworkPolicy", { metadata: { name: "p" }, spec: [] }, "spec: expected an object"],
    ["Pod", { metadata: { name: "p" }, status: { podIP: "10.0.0.256" } }, "status.podIP: "],
    [
      "Pod",
      { metadata: { name: "p" }, status: { podIPs: [{ ip: "10.0.0.1" }, { ip: "x" }] } },
      "status.podIPs.1: ",
    ],
    ["Pod", { metadata: { name: "p", labels: { a: 1 } } }, "metadata.labels.a: "],
    ["Namespace", { metadata: { name: "n", labels: "a=b" } }, "metadata.labels: "],
  ] as const)("%s %j is read but for a part", (kind, json, problem) => {
    const { problems } = readObject(kind, json).object;
    expect(problems.length).toBe(1);
    expect(problems[0]).toStartWith(problem);
  });

  test("what is told of one has bounds", () => {
    const rules = Array.from({ length: 1_000 }, () => ({ from: [{ ["x".repeat(5_000)]: 1 }] }));
    const { problems } = readObject("NetworkPolicy", ingress(...rules)).object;
    expect(problems.length).toBe(8);
    expect(Math.max(...problems.map(({ length }) => length))).toBeLessThanOrEqual(200);
  });

  test("garbage of any kind is no accident, and opens nothing", () => {
    const seed = 20_261_125n;
    const random = seededRandom(seed);
    const values: unknown[] = [
      ...[null, 0, -1, 1e99, "", "x", [], {}, true, [null], "__proto__", { a: { b: {} } }],
      ...["10.0.0.0/99", "::/0", "::ffff:1.2.3.4", 65_536, "\0", "a".repeat(5_000), Array(50).fill({})],
    ];
    const garble = (json: unknown, rarity: number): unknown => {
      if (below(random, rarity) === 0) return values[below(random, values.length)];
      if (Array.isArray(json)) return json.map((each) => garble(each, rarity));
      if (json === null || typeof json !== "object") return json;
      return Object.fromEntries(Object.entries(json).map(([key, value]) => [key, garble(value, rarity)]));
    };
    const spec = {
      podSelector: {},
      policyTypes: ["Ingress", "Egress"],
      ingress: [
        { from: [{ ipBlock: { cidr: "192.0.2.0/24", except: ["192.0.2.128/25"] } }], ports: [{ port: 80 }] },
      ],
      egress: [{ to: [{ podSelector: { matchLabels: { pod: "nobody" } }, namespaceSelector: {} }] }],
    };
    const rule = (direction: "ingress" | "egress", policy: { readonly [key in typeof direction]: unknown }) =>
      JSON.stringify(policy[direction], (_key, value) => (typeof value === "bigint" ? String(value) : value));
    for (let i = 0; i < 3_000; i++) {
      // Everything but the selector and the types, which may be read differently, but then isolate more.
      const garbled = {
        ...spec,
        ingress: [garble(spec.ingress[0], 12)],
        egress: [garble(spec.egress[0], 12)],
      };
      const { object } = readObject("NetworkPolicy", { metadata: { name: "p" }, spec: garbled });
      if (!("ingress" in object)) throw new Error(`seed ${seed}: no policy`);
      for (const direction of ["ingress", "egress"] as const) {
        expect(object[direction], `seed ${seed}, ${i}`).toBeDefined();
        // What is read without a problem is what there is; else it allows nobody, or less.
        const everything = object[direction]?.some(({ peers, ports }) => !peers && !ports) ?? false;
        const [given] = garbled[direction] as unknown[];
        const means = given === null || typeof given !== "object" ? false : !hasList(given);
        if (everything) expect(means, `seed ${seed}, ${i}: ${rule(direction, object)}`).toBe(true);
      }
    }
  });

  /** Whether a rule says anything about peers or ports. */
  function hasList(rule: object): boolean {
    return Object.values(rule).some(
      (value) => value !== null && !(Array.isArray(value) && value.length === 0),
    );
  }

  test.each([
    ["172.020.0.0/016", "172.20.0.0/16"],
    ["000010.0000.00.1/32", "10.0.0.1/32"],
    ["::ffff:10.0.0.0/104", "10.0.0.0/8"],
    ["::FFFF:0a00:0001/128", "10.0.0.1/32"],
    ["0:0:0:0:0:ffff:010.0.0.0/96", "0.0.0.0/0"],
    ["02001:0db8::/032", "2001:db8::/32"],
    ["::ffff:0:0/95", "::fffe:0:0/95"],
    ["::/0", "::/0"],
  ])("%s is %s", (text, plain) => {
    expect(parseLenientSubnet(text)).toEqual(parseIpSubnet(plain));
  });
  test.each([
    "10.0.0/8",
    "10.0.0.0.0/8",
    "10.0.0.0/33",
    "10.0.0.0",
    "0x10.0.0.0/8",
    "+10.0.0.0/8",
    " 10.0.0.0/8",
    "fe80::1%eth0/64",
    "::ffff:10.0.0.0/129",
    `${"0".repeat(500)}10.0.0.0/8`,
    "256.0.0.0/8",
    "-1.0.0.0/8",
    "",
  ])("%p is no subnet", (text) => {
    expect(() => parseLenientSubnet(text)).toThrow(AddressError);
  });
  test.each([
    ["010.032.000.005", "10.32.0.5"],
    ["::ffff:10.32.0.5", "10.32.0.5"],
    ["::ffff:a20:5", "10.32.0.5"],
    ["FD00::0001", "fd00::1"],
  ])("the address %s is %s", (text, plain) => {
    expect(parseLenientIp(text)).toBe(plain);
  });

  test("a file", () => {
    expect(() => readSnapshot("{")).toThrow("not JSON");
    expect(() => readSnapshot("7")).toThrow("a list of Kubernetes objects");
    expect(() => readSnapshot('{"kind":"List","items":[{"a":1}]}')).toThrow("each with its kind");
    expect(readSnapshot('{"kind":"List","items":[{"kind":"Service"}]}')).toEqual([]);
    expect(readSnapshot('{"kind":"PodList","items":[{"metadata":{"name":"a"}}]}').length).toBe(1);
  });
});
