// Network policy in memory: every case of test/conformance as the compiled rules decide it; and that rules that were
// brought up to date, change by change, are those that are compiled from nothing.
import { describe, expect, test } from "bun:test";
import { Compiler } from "../../lib/npc/compiler.ts";
import { endOf, explain } from "../../lib/npc/explain.ts";
import { type Change, Model } from "../../lib/npc/model.ts";
import { readObject } from "../../lib/npc/read.ts";
import { allows, type Ruleset } from "../../lib/npc/ruleset.ts";
import {
  baseCluster,
  type Case,
  conformanceCases,
  modelOf,
  NODE,
  type Probe,
} from "../support/conformance.ts";
import { randomOf } from "../support/seed.ts";

const cases = conformanceCases();
/** Others in each run, by its seed. */
const HISTORIES = Number(process.env["HISTORIES"] ?? 8);

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
  for (let history = 1; history <= HISTORIES; history++) {
    const random = randomOf(`policy history ${history}`);
    const model = new Model();
    const compiler = new Compiler(model, { node: NODE });
    const pool = [...baseCluster(), ...cases.flatMap(({ changes }) => changes)];
    for (let step = 0; step < 60; step++) {
      const changes: Change[] = [];
      for (let i = 0; i <= random.below(3); i++) {
        const change = pool[random.below(pool.length)];
        if (change) changes.push({ ...change, type: random.below(4) === 0 ? "delete" : "set" });
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

describe("an address that two pods say they have", () => {
  const pod = (name: string, created: string, podIP: string, more: object = {}) =>
    readObject("Pod", {
      metadata: { namespace: "x", name, uid: name, creationTimestamp: created, labels: { name }, ...more },
      spec: { nodeName: NODE },
      status: { podIP },
    });
  const [OLD, NEW] = ["2026-01-01T00:00:00Z", "2026-02-02T00:00:00Z"];
  const set = (...objects: ReturnType<typeof pod>[]) =>
    objects.map((object): Change => ({ type: "set", object }));
  const owner = (model: Model) => model.owner("10.32.0.9")?.name;

  test("is that of the one that has said so last: the sandbox of an old pod is made anew, a new one is not yet", () => {
    const model = new Model();
    model.apply(set(pod("old", OLD, "10.32.0.1"), pod("new", NEW, "10.32.0.9")));
    model.apply(set(pod("old", OLD, "10.32.0.9")));
    expect(owner(model)).toBe("old");
    // Another word of the new one, whose status is of before, takes nothing back.
    model.apply(set(pod("new", NEW, "10.32.0.9", { labels: { changed: "yes" } })));
    expect(owner(model)).toBe("old");
    model.replace("Pod", [pod("old", OLD, "10.32.0.9"), pod("new", NEW, "10.32.0.9")]);
    expect(owner(model)).toBe("old");
    // Another pod of its name is no other word of it.
    model.apply(set(pod("new", NEW, "10.32.0.9", { uid: "other" })));
    expect(owner(model)).toBe("new");
    model.apply([{ type: "delete", object: pod("new", NEW, "10.32.0.9") }]);
    expect(owner(model)).toBe("old");
  });

  test("is that of the one made last, where both are heard of at once", () => {
    for (const order of [0, 1]) {
      const model = new Model();
      const objects = [pod("old", OLD, "10.32.0.9"), pod("new", NEW, "10.32.0.9")];
      model.replace("Pod", order ? objects.reverse() : objects);
      expect(owner(model)).toBe("new");
    }
  });
});

test("a namespace that was not heard of yet is selected by its name, and by no label that it may lack", () => {
  const selected = (namespaceSelector: object, known: boolean) => {
    const model = new Model();
    const policy = readObject("NetworkPolicy", {
      metadata: { namespace: "x", name: "p" },
      spec: { podSelector: {}, ingress: [{ from: [{ namespaceSelector }] }] },
    });
    const pods = [
      ["x", "10.32.0.1"],
      ["new", "10.32.0.2"],
    ].map(([namespace, podIP]) =>
      readObject("Pod", { metadata: { namespace, name: "a" }, spec: { nodeName: NODE }, status: { podIP } }),
    );
    const namespace = readObject("Namespace", { metadata: { name: "new" } });
    const objects = [policy, ...pods, ...(known ? [namespace] : [])];
    const compiler = new Compiler(model, { node: NODE });
    const rules = compiler.update(model.apply(objects.map((object): Change => ({ type: "set", object }))));
    return allows(rules, "ingress", {
      source: "10.32.0.2",
      destination: "10.32.0.1",
      protocol: "TCP",
      port: 80,
    });
  };
  const expression = (key: string, operator: string, ...values: string[]) => ({
    matchExpressions: [{ key, operator, values }],
  });
  const NAME = "kubernetes.io/metadata.name";
  for (const [selector, whileUnknown] of [
    [{}, true],
    [expression(NAME, "In", "new"), true],
    [expression(NAME, "NotIn", "other"), true],
    [expression("tenant", "DoesNotExist"), false],
    [expression("tenant", "NotIn", "b"), false],
  ] as const)
    expect([selector, selected(selector, false), selected(selector, true)]).toEqual([
      selector,
      whileUnknown,
      true,
    ]);
});
