// bench.json: the last rows of each benchmark on one machine, and the commit that they are of.
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { cpus, release } from "node:os";
import * as v from "valibot";
import type { Row } from "./row.ts";

const Figure = v.nullable(v.number());
const RowShape = v.object({
  name: v.string(),
  unit: v.string(),
  ours: Figure,
  reference: Figure,
  ratio: Figure,
  runs: v.number(),
  against: v.optional(v.string()),
});
const Machine = v.object({ cpu: v.string(), cores: v.number(), kernel: v.string() });
const Part = v.object({ commit: v.string(), date: v.string(), rows: v.array(RowShape) });
const ResultShape = v.object({ machine: Machine, benches: v.record(v.string(), Part) });

export type ResultRow = v.InferOutput<typeof RowShape>;
type Part = v.InferOutput<typeof Part>;
export type Result = v.InferOutput<typeof ResultShape>;

/** Read bench.json or an older one. Throws where it is none. */
export function readResult(path: string): Result {
  try {
    return v.parse(ResultShape, JSON.parse(readFileSync(path, "utf8")));
  } catch (error) {
    throw new Error(`cannot read benchmark results from ${path}: ${(error as Error).message}`, {
      cause: error,
    });
  }
}

/** Return the results with these rows of a benchmark in place of its older ones; of another machine nothing is kept. */
export function withRows(before: Result | undefined, machine: Result["machine"], name: string, part: Part) {
  const same = before && JSON.stringify(before.machine) === JSON.stringify(machine);
  return { machine, benches: { ...(same ? before.benches : {}), [name]: part } };
}

/** Write rows into the results at this path, beside those of other benchmarks. */
export function saveRows(path: string, name: string, rows: readonly Row[]): void {
  const before = existsSync(path) ? readResult(path) : undefined;
  const date = new Date().toISOString().slice(0, 16);
  const part = { commit: commit(), date, rows: rows.map((row) => v.parse(RowShape, plain(row))) };
  writeFileSync(path, `${JSON.stringify(withRows(before, machine(), name, part), null, 2)}\n`);
}

/** JSON has no NaN: a figure that could not be taken is null. */
const plain = (row: Row) => JSON.parse(JSON.stringify(row)) as unknown;

function machine(): Result["machine"] {
  const all = cpus();
  return { cpu: all[0]?.model.trim() ?? "unknown", cores: all.length, kernel: release() };
}

/** The commit that is measured; with "+" where the files differ from it. */
function commit(): string {
  const git = (...args: string[]) =>
    Bun.spawnSync(["git", ...args], { cwd: import.meta.dir, stderr: "ignore" })
      .stdout.toString()
      .trim();
  const hash = git("rev-parse", "--short", "HEAD");
  return `${hash || "unknown"}${git("status", "--porcelain", "--untracked-files=no") ? "+" : ""}`;
}
