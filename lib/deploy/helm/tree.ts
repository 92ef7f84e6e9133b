// One tree out of many: a function of settings is called for every combination of them, and what it returns becomes a tree
// that says where the results differ, and by which settings. A chart's templates are printed from it, so that chart and
// manifest cannot differ.

/** A value of JSON. */
export type Json = null | boolean | number | string | readonly Json[] | { readonly [key: string]: Json };

/** The values of all settings that decide about structure, in the order of their tables. */
export type Assignment = readonly string[];

/** What one combination gave; undefined: nothing. */
interface Sample {
  readonly at: Assignment;
  readonly value: Json | undefined;
}

/** A decision by the setting at an index: a branch for each group of its values. */
interface Decision<T> {
  readonly by: number;
  readonly branches: readonly { readonly values: readonly string[]; readonly result: Choice<T> }[];
}

export type Choice<T> = { readonly leaf: T } | Decision<T>;

/** A node that is the same for all that reach it; its children may still differ. */
export type Node =
  | { readonly kind: "scalar"; readonly value: null | boolean | number | string }
  | { readonly kind: "empty"; readonly text: "[]" | "{}" }
  | { readonly kind: "map"; readonly entries: readonly { readonly key: string; readonly value: Tree }[] }
  | { readonly kind: "list"; readonly items: readonly Tree[] };

/** A node, or undefined where there is none. */
export type Tree = Choice<Node | undefined>;

const isList = (value: Json): value is readonly Json[] => Array.isArray(value);
const isMap = (value: Json): value is { readonly [key: string]: Json } =>
  typeof value === "object" && value !== null && !isList(value);

/** What samples have to agree on to be one node: its kind, and the whole of a scalar. */
function shape(value: Json | undefined): string {
  if (value === undefined) return "none";
  if (isList(value)) return value.length === 0 ? "[]" : "list";
  if (isMap(value)) return Object.keys(value).length === 0 ? "{}" : "map";
  return `scalar ${JSON.stringify(value)}`;
}

/** What tells the items of a list apart: a name, that of an object of Kubernetes with its kind, or all of them. */
function identity(item: Json): string {
  if (!isMap(item)) return JSON.stringify(item);
  const { name, kind, metadata } = item;
  if (name !== undefined) return `name ${name}`;
  return kind !== undefined && metadata !== undefined && isMap(metadata ?? null)
    ? `object ${kind} ${(metadata as { readonly name?: Json }).name}`
    : JSON.stringify(item);
}

/** Merge what a function has returned for all combinations of settings. */
export function mergeSamples(samples: readonly Sample[]): Tree {
  if (new Set(samples.map(({ value }) => shape(value))).size === 1)
    return { leaf: mergeAlike(ifAllEqual(samples)) };
  const { by, groups } = bestSplit(samples);
  return {
    by,
    branches: groups.map(({ values, samples: some }) => ({ values, result: mergeSamples(some) })),
  };
}

/** The first sample alone where all values are equal, as most parts of a manifest are. */
function ifAllEqual(samples: readonly Sample[]): readonly Sample[] {
  const [first] = samples;
  const text = JSON.stringify(first?.value);
  return first && samples.every(({ value }) => JSON.stringify(value) === text) ? [first] : samples;
}

function mergeAlike(samples: readonly Sample[]): Node | undefined {
  const [first] = samples;
  const value = first?.value;
  if (value === undefined) return undefined;
  if (isList(value)) return value.length === 0 ? { kind: "empty", text: "[]" } : mergeLists(samples);
  if (isMap(value))
    return Object.keys(value).length === 0 ? { kind: "empty", text: "{}" } : mergeMaps(samples);
  return { kind: "scalar", value };
}

function mergeMaps(samples: readonly Sample[]): Node {
  const maps = samples.map(({ at, value = null }) => ({ at, map: isMap(value) ? value : {} }));
  const keys = mergeOrders(maps.map(({ map }) => Object.keys(map)));
  return {
    kind: "map",
    entries: keys.map((key) => ({
      key,
      value: mergeSamples(maps.map(({ at, map }) => ({ at, value: map[key] }))),
    })),
  };
}

function mergeLists(samples: readonly Sample[]): Node {
  const lists = samples.map(({ at, value = null }) => ({
    at,
    items: new Map((isList(value) ? value : []).map((item) => [identity(item), item])),
  }));
  const order = mergeOrders(lists.map(({ items }) => [...items.keys()]));
  return {
    kind: "list",
    items: order.map((key) => mergeSamples(lists.map(({ at, items }) => ({ at, value: items.get(key) })))),
  };
}

/** Return all names of some sequences in an order that agrees with each of them, where there is one. */
function mergeOrders(sequences: readonly (readonly string[])[]): string[] {
  const merged: string[] = [];
  let left = [...new Map(sequences.map((names) => [names.join("\n"), names])).values()];
  for (;;) {
    left = left.filter(({ length }) => length > 0);
    const heads = left.flatMap((names) => names.slice(0, 1));
    const next = heads.find((name) => left.every((names) => names.indexOf(name) <= 0)) ?? heads[0];
    if (next === undefined) return merged;
    merged.push(next);
    left = left.map((names) => names.filter((name) => name !== next));
  }
}

/** The setting by which samples part best, and its values in groups of the same results. */
function bestSplit(samples: readonly Sample[]) {
  const [first] = samples;
  const splits = (first?.at ?? []).map((_, by) => {
    const byValue = Map.groupBy(samples, ({ at }) => at[by] ?? "");
    // Values whose samples have the same shapes in the same order are one group.
    const grouped = Map.groupBy([...byValue], ([, some]) => some.map(({ value }) => shape(value)).join("\n"));
    const groups = [...grouped.values()].map((parts) => ({
      values: parts.map(([value]) => value),
      samples: parts.flatMap(([, some]) => some),
    }));
    const mixed = groups.filter(
      ({ samples: some }) => new Set(some.map(({ value }) => shape(value))).size > 1,
    ).length;
    return { by, groups, mixed };
  });
  const [best] = splits
    .filter(({ groups }) => groups.length > 1)
    .sort((a, b) => a.mixed - b.mixed || a.groups.length - b.groups.length);
  if (!best) throw new Error("results differ without a setting that differs");
  return best;
}
