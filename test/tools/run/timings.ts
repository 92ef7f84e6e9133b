// How long each file of tests took the last time, and how much processor time it used; kept between runs. Where a file has not
// run yet, as on a fresh checkout, what it took on a machine of two processors (expected.json).
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import * as v from "valibot";
import expected from "./expected.json" with { type: "json" };

const FILE = join(import.meta.dir, "../../../node_modules/.cache/test-durations.json");

const Timing = v.object({ wallMs: v.number(), cpuMs: v.number() });
export type Timing = v.InferOutput<typeof Timing>;

/** Timings by path; those of files that have not run here, or whose record cannot be read, are expected.json's. */
export function readTimings(): Map<string, Timing> {
  return new Map([...Object.entries(expected), ...ownTimings()]);
}

function ownTimings(): [string, Timing][] {
  try {
    const text = existsSync(FILE) ? readFileSync(FILE, "utf8") : "{}";
    return Object.entries(v.parse(v.record(v.string(), Timing), JSON.parse(text)));
  } catch {
    return [];
  }
}

export function writeTimings(timings: ReadonlyMap<string, Timing>): void {
  mkdirSync(dirname(FILE), { recursive: true });
  writeFileSync(FILE, JSON.stringify(Object.fromEntries(timings), undefined, 1));
}
