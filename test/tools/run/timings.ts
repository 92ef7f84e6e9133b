// How long each file of tests took the last time, and how much processor time it used; kept between runs.
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import * as v from "valibot";

const FILE = join(import.meta.dir, "../../../node_modules/.cache/test-durations.json");

const Timing = v.object({ wallMs: v.number(), cpuMs: v.number() });
export type Timing = v.InferOutput<typeof Timing>;

/** Timings by path; empty where there are none, or none that can be read. */
export function readTimings(): Map<string, Timing> {
  try {
    const text = existsSync(FILE) ? readFileSync(FILE, "utf8") : "{}";
    return new Map(Object.entries(v.parse(v.record(v.string(), Timing), JSON.parse(text))));
  } catch {
    return new Map();
  }
}

export function writeTimings(timings: ReadonlyMap<string, Timing>): void {
  mkdirSync(dirname(FILE), { recursive: true });
  writeFileSync(FILE, JSON.stringify(Object.fromEntries(timings), undefined, 1));
}
