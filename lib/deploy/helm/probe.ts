// The manifest as a function: called with marks in place of values, for all combinations of what changes its structure.
import type { AddonSettings } from "../addon.ts";
import { mark, NUMBER } from "./marks.ts";
import { type Assignment, type Json, mergeSamples, type Tree } from "./tree.ts";
import { type ChartValue, VALUES } from "./values.ts";

/** A value that decides about structure. */
export interface Switch {
  readonly name: string;
  /** OFF and ON, or what the value may be. */
  readonly values: readonly string[];
}

export const ON = "on";
export const OFF = "";

/** Return what a value is set to while probing; one that decides nothing is always ON. */
function valuesOf(value: ChartValue): readonly string[] {
  switch (value.kind) {
    case "choice":
      return value.of;
    case "folder":
    case "map":
    case "number":
      return [ON];
    case "text":
      return value.optional ? [OFF, ON] : [ON];
    default:
      return [OFF, ON];
  }
}

/** Values that decide about structure, in the order of assignments. */
export const SWITCHES: readonly Switch[] = Object.entries(VALUES)
  .map(([name, value]) => ({ name, values: valuesOf(value) }))
  .filter(({ values }) => values.length > 1);

/** Every combination of values of the switches. */
function combinations([first, ...rest]: readonly Switch[]): string[][] {
  if (!first) return [[]];
  const others = combinations(rest);
  return first.values.flatMap((value) => others.map((other) => [value, ...other]));
}

/** What a parameter is set to: a mark, unless it is off. */
function marked(name: string, value: ChartValue, set: string): unknown {
  switch (value.kind) {
    case "flag":
      return set === ON;
    case "map":
      return { [mark(name, "key")]: mark(name, "value") };
    case "list":
      return set === OFF ? [] : [mark(name, "0"), mark(name, "1")];
    case "text":
      return set === OFF ? undefined : mark(name);
    case "pair":
      return set === OFF ? undefined : value.names.map((part) => mark(name, part));
    case "choice":
      return set;
    case "folder":
      return mark(name);
    case "number":
      return mark(name, NUMBER);
  }
}

function settingsOf(base: AddonSettings, assignment: Assignment): AddonSettings {
  const set = new Map(SWITCHES.map(({ name }, i) => [name, assignment[i] ?? ON]));
  const settings: object = Object.fromEntries(
    Object.entries(VALUES).map(([name, value]) => [
      value.parameter,
      marked(name, value, set.get(name) ?? ON),
    ]),
  );
  return { ...base, ...settings };
}

/** Return the tree of the list of objects; parameters that are no values of the chart are those of `base`. */
export function probeManifest(
  manifest: (settings: AddonSettings) => readonly object[],
  base: AddonSettings,
): Tree {
  return mergeSamples(
    combinations(SWITCHES).map((at) => ({
      at,
      // Without undefined members, and without what JSON does not have.
      value: JSON.parse(JSON.stringify(manifest(settingsOf(base, at)))) as Json,
    })),
  );
}
