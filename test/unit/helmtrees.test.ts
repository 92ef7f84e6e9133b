// One tree out of what a function returns for every combination of settings: read back for each, it is what was returned.
import { describe, expect, test } from "bun:test";
import { OFF, ON, SWITCHES } from "../../lib/deploy/helm/probe.ts";
import { templateText } from "../../lib/deploy/helm/template.ts";
import { type Choice, type Json, mergeSamples, type Node, type Tree } from "../../lib/deploy/helm/tree.ts";
import { fc } from "../support/fastcheck.ts";

/** The value of a tree for one combination of settings. */
function valueAt(tree: Tree, at: readonly string[]): Json | undefined {
  const node = decide(tree, at);
  return node === undefined ? undefined : jsonOf(node, at);
}

function decide<T>(choice: Choice<T>, at: readonly string[]): T {
  if ("leaf" in choice) return choice.leaf;
  const found = choice.branches.filter(({ values }) => values.includes(at[choice.by] ?? ""));
  expect(found.length).toBe(1);
  const [branch = expect.unreachable()] = found;
  return decide(branch.result, at);
}

function jsonOf(node: Node, at: readonly string[]): Json {
  switch (node.kind) {
    case "scalar":
      return node.value;
    case "empty":
      return node.text === "[]" ? [] : {};
    case "list":
      return node.items.flatMap((item) => {
        const value = valueAt(item, at);
        return value === undefined ? [] : [value];
      });
    case "map":
      return Object.fromEntries(
        node.entries.flatMap(({ key, value: tree }) => {
          const value = valueAt(tree, at);
          return value === undefined ? [] : [[key, value]];
        }),
      );
  }
}

const combinations = (...settings: readonly string[][]): string[][] =>
  settings.reduce<string[][]>(
    (all, values) => all.flatMap((some) => values.map((value) => [...some, value])),
    [[]],
  );

/** How many decisions a tree has, whatever is below them. */
const decisions = (value: unknown): number =>
  typeof value !== "object" || value === null
    ? 0
    : Object.values(value).reduce((sum: number, each) => sum + decisions(each), "by" in value ? 1 : 0);

describe("a tree", () => {
  const SETTINGS = [
    ["", "on"],
    ["", "a", "b"],
    ["", "on"],
  ];
  const scalar = fc.constantFrom<Json>(1, 2, "x", true, null);
  const part = fc.oneof(
    scalar,
    fc.constant<Json>([]),
    fc.constant<Json>({}),
    // Lists of all settings have one order.
    fc.subarray<Json>([1, 2, "x", true, null]),
    fc.dictionary(fc.constantFrom("p", "q"), scalar),
  );

  test("gives back what was returned, whatever depends on which setting", () => {
    fc.assert(
      fc.property(
        fc.array(
          fc.record({
            key: fc.constantFrom("a", "b", "c", "d"),
            by: fc.nat(2),
            of: fc.array(part, { minLength: 3, maxLength: 3 }),
            absent: fc.boolean(),
          }),
          { maxLength: 5 },
        ),
        (parts) => {
          const at = combinations(...SETTINGS);
          const samples = at.map((each) => {
            const value: Record<string, Json> = {};
            for (const { key, by, of, absent } of parts) {
              const index = SETTINGS[by]?.indexOf(each[by] ?? "") ?? 0;
              if (!(absent && index === 0)) value[key] = of[index] ?? null;
            }
            return { at: each, value: value as Json };
          });
          const tree = mergeSamples(samples);
          for (const { at: each, value } of samples) expect(valueAt(tree, each)).toEqual(value);
        },
      ),
    );
  });

  test("has the items of lists in the order that all of them have", () => {
    const lists: Json[] = [["a", "c"], ["b"], ["a", "b", "c"]];
    const tree = mergeSamples(lists.map((value, i) => ({ at: [`${i}`], value })));
    for (const [i, value] of lists.entries()) expect(valueAt(tree, [`${i}`])).toEqual(value);
  });

  test("of what does not differ has no decision", () => {
    const value = { kind: "Pod", list: [1, { name: "a" }], none: {} };
    const tree = mergeSamples(combinations(...SETTINGS).map((at) => ({ at, value })));
    expect([decisions(tree), valueAt(tree, ["", "", ""])]).toEqual([0, value]);
  });

  test("decides at the part that differs, by the setting that makes it, with equal values in one branch", () => {
    const tree = mergeSamples(
      combinations(...SETTINGS).map((at) => ({ at, value: { same: 1, other: at[1] === "a" ? 2 : 3 } })),
    );
    expect(decisions(tree)).toBe(1);
    expect(JSON.stringify(tree)).toContain('"by":1,"branches":[{"values":["","b"]');
  });

  test("leaves out an object, an entry or an item that is not always there, and keeps all in order", () => {
    const of = (at: readonly string[]) => ({
      items: [{ name: "a" }, ...(at[0] === "on" ? [{ name: "b", of: at[1] ?? "" }] : []), { name: "c" }],
      ...(at[2] === "on" ? { extra: true } : {}),
    });
    const at = combinations(...SETTINGS);
    const tree = mergeSamples(at.map((each) => ({ at: each, value: of(each) as Json })));
    for (const each of at) expect(JSON.stringify(valueAt(tree, each))).toBe(JSON.stringify(of(each)));
    const whole = mergeSamples(at.map((each) => ({ at: each, value: each[0] === "on" ? 1 : undefined })));
    expect([valueAt(whole, ["on", "", ""]), valueAt(whole, ["", "", ""])]).toEqual([1, undefined]);
  });

  test("cannot be made of results that no setting explains", () => {
    expect(() =>
      mergeSamples([
        { at: ["a"], value: 1 },
        { at: ["a"], value: 2 },
      ]),
    ).toThrow("results differ without a setting that differs");
  });
});

describe("a template", () => {
  const leaf = <T>(value: T) => ({ leaf: value });
  const scalar = (value: string | number) => leaf<Node>({ kind: "scalar", value });
  const map = (entries: Record<string, Tree>) =>
    leaf<Node>({ kind: "map", entries: Object.entries(entries).map(([key, value]) => ({ key, value })) });
  const list = (...items: Tree[]) => leaf<Node>({ kind: "list", items });
  const by = SWITCHES.findIndex(({ values }) => values.includes(ON));
  const { name } = SWITCHES[by] ?? expect.unreachable();
  const when = (on: Tree, off: Tree): Tree => ({
    by,
    branches: [
      { values: [OFF], result: off },
      { values: [ON], result: on },
    ],
  });
  const nothing: Tree = leaf(undefined);

  test("puts an item whose first entry is conditional on separate lines", () => {
    const items = list(
      map({ a: when(scalar(1), nothing), b: scalar("x") }),
      map({ c: scalar(2), d: when(scalar(3), scalar(4)), e: list(scalar(5), list(scalar(6))) }),
      when(nothing, scalar(7)),
      scalar(8),
    );
    expect(templateText(list(map({ items }))).split("\n")).toEqual([
      "---",
      "items:",
      ...["-", `{{- if .Values.${name} }}`, "  a: 1", "{{- end }}", '  b: "x"'],
      ...["- c: 2", `{{- if .Values.${name} }}`, "  d: 3", "{{- else }}", "  d: 4", "{{- end }}"],
      ...["  e:", "  - 5", "  - - 6"],
      ...[`{{- if not (.Values.${name}) }}`, "- 7", "{{- end }}"],
      "- 8",
      "",
    ]);
  });
});
