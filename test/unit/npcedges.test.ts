// Small decisions of weave-npc: selectors that are the same, objects that cannot be read; and of the mesh: crowds that go.
import { describe, expect, test } from "bun:test";
import { SimulatedClock } from "../../lib/clock/simulated.ts";
import { logTo } from "../../lib/log/log.ts";
import { peersGoneLog } from "../../lib/mesh/peersgonelog.ts";
import { Model } from "../../lib/npc/model.ts";
import type { KubeObject } from "../../lib/npc/objects.ts";
import { readObject } from "../../lib/npc/read.ts";
import { Selection, selectionKey } from "../../lib/npc/selection.ts";
import { Unreadable } from "../../lib/npc/unreadable.ts";

type Requirement = [string, string, string[]];

describe("selectors", () => {
  const key = (
    labels: object,
    requirements: [string, string, string[]][] = [],
    namespaces: object = { name: "n" },
  ) =>
    selectionKey({
      pods: {
        labels,
        requirements: requirements.map(([name, operator, values]) => ({ key: name, operator, values })),
      },
      namespaces,
    } as never);

  test("are the same in any order of labels, requirements and values", () => {
    expect(key({ a: "1", b: "2" })).toBe(key({ b: "2", a: "1" }));
    const [one, two]: [Requirement, Requirement] = [
      ["k", "In", ["x", "y"]],
      ["l", "Exists", []],
    ];
    expect(key({}, [one, two])).toBe(key({}, [two, ["k", "In", ["y", "x"]]]));
  });

  test("are not the same by label, value, operator, name or kind of namespace", () => {
    const keys = [
      key({ a: "1" }),
      key({ a: "2" }),
      key({ b: "1" }),
      key({}, [["a", "In", ["1"]]]),
      key({}, [["a", "NotIn", ["1"]]]),
      key({ a: "1" }, [], { name: "m" }),
      key({ a: "1" }, [], { labels: { name: "n" }, requirements: [] }),
    ];
    expect(new Set(keys).size).toBe(keys.length);
  });
});

test("a new selection finds pods by their present labels", () => {
  const model = new Model();
  const pod = (name: string, labels: object | undefined) =>
    readObject("Pod", { metadata: { namespace: "n", name, labels }, status: { podIP: `10.0.0.${name}` } });
  const set = (...pods: KubeObject[]) => model.apply(pods.map((object) => ({ type: "set", object })));
  const selected = (...wanted: Record<string, string>[]) => {
    const selecting = wanted.map((labels) => ({
      pods: { labels, requirements: [] },
      namespaces: { name: "n" },
    }));
    return [...new Selection(selecting, model).members.keys()].sort();
  };
  set(pod("1", { a: "1", b: "1" }), pod("2", { a: "1" }), pod("3", { a: "2" }), pod("4", undefined));
  expect(selected({ a: "1" })).toEqual(["n/1", "n/2"]);
  expect(selected({ a: "1", b: "1" })).toEqual(["n/1"]);
  expect(selected({ b: "1" }, { a: "2" })).toEqual(["n/1", "n/3"]);
  expect(selected({ a: "2" }, {})).toEqual(["n/1", "n/2", "n/3", "n/4"]);
  set(pod("2", { a: "2" }));
  model.apply([{ type: "delete", object: pod("3", { a: "2" }) }]);
  expect([selected({ a: "1" }), selected({ a: "2" })]).toEqual([["n/1"], ["n/2"]]);
});

describe("objects that cannot be read", () => {
  function unreadable() {
    const told: string[] = [];
    const gauge = new Map<string, number>();
    const label = ({ kind, namespace, name }: Record<string, string>) => `${kind} ${namespace}/${name}`;
    const metrics = {
      unreadable: {
        reset: () => gauge.clear(),
        set: (labels: Record<string, string>, value: number) => gauge.set(label(labels), value),
        inc: (labels: Record<string, string>) =>
          gauge.set(label(labels), (gauge.get(label(labels)) ?? 0) + 1),
      },
    };
    const subject = new Unreadable(metrics as never, {
      found: (_, text) => told.push(text),
      mended: ({ object }) => told.push(`mended ${object.name}`),
    });
    return { subject, told, gauge };
  }
  const pod = (name: string, problems: string[] = ["bad labels"], change: object = {}) =>
    ({
      kind: "Pod",
      object: { namespace: "n", name, problems, labels: undefined, ...change },
    }) as unknown as KubeObject;
  const namespace = (name: string, problems: string[] = ["bad labels"]) =>
    ({ kind: "Namespace", object: { name, problems, labels: {} } }) as unknown as KubeObject;

  test("are told when found, when what is wrong changes, and when mended; and counted by name", () => {
    const { subject, told, gauge } = unreadable();
    subject.changed("set", pod("a"));
    subject.changed("set", pod("a"));
    subject.changed("set", pod("well", []));
    expect(told.splice(0)).toEqual([
      "Pod n/a cannot be read: bad labels; it is isolated, and no rule selects it",
    ]);
    subject.changed("set", pod("a", ["bad ports"], { labels: {} }));
    expect(told.splice(0)).toEqual(["Pod n/a cannot be read: bad ports; that part is ignored"]);
    subject.changed("set", namespace("x"));
    expect([...gauge]).toEqual([
      ["Pod n/a", 1],
      ["Namespace /x", 1],
    ]);
    subject.changed("set", pod("a", []));
    expect([told.at(-1), [...gauge.keys()], subject.texts.length]).toEqual(["mended a", ["Namespace /x"], 1]);
  });

  test("that are gone are forgotten: deleted, or in no list of their kind", () => {
    const { subject, told, gauge } = unreadable();
    subject.listed("Pod", [pod("a"), pod("b")]);
    subject.listed("Namespace", [namespace("x")]);
    subject.listed("Pod", [pod("b")]);
    expect([...gauge.keys()]).toEqual(["Pod n/b", "Namespace /x"]);
    subject.changed("delete", pod("b"));
    expect([[...gauge.keys()], told.length]).toEqual([["Namespace /x"], 3]);
  });

  test("are named up to 100, and counted beyond", () => {
    const { subject, gauge } = unreadable();
    subject.listed(
      "Pod",
      Array.from({ length: 103 }, (_, i) => pod(`p${i}`)),
    );
    expect([gauge.size, gauge.get("Pod /"), gauge.get("Pod n/p99"), gauge.get("Pod n/p100")]).toEqual([
      ...[101, 3, 1, undefined],
    ]);
  });
});

test("peers that go are named, 50 within a minute; others are counted", () => {
  const clock = new SimulatedClock();
  const lines: string[] = [];
  const warned: string[] = [];
  const named = peersGoneLog(
    clock,
    logTo((_, text, fields) => lines.push(`${text} ${fields?.["peer"]}`)),
    (kind, text) => warned.push(`${kind}: ${text}`),
  );
  const told = (peers: readonly never[]) => [...named(peers)];
  const crowd = (count: number) => Array.from({ length: count }, (_, i) => `p${i}` as never);
  told(crowd(2));
  expect([lines, warned]).toEqual([["removed an unreachable peer p0", "removed an unreachable peer p1"], []]);
  told(crowd(49));
  expect([lines.length, warned]).toEqual([50, ["gone: removed 1 more unreachable peers"]]);
  clock.advance(60_000);
  told(crowd(1));
  expect([lines.length, warned.length]).toEqual([50, 2]);
  clock.advance(1);
  told(crowd(50));
  expect([lines.length, warned.length]).toEqual([100, 2]);
  told([]);
  expect(warned.length).toBe(2);
});
