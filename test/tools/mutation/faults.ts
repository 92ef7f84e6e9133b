// Faults from a file, instead of the operators' mutants: [{ file, old, new, why }].
import { readFileSync } from "node:fs";
import { join } from "node:path";
import * as v from "valibot";
import type { Mutant } from "./mutants.ts";

const Faults = v.array(
  v.object({ file: v.string(), old: v.string(), new: v.string(), why: v.optional(v.string(), "") }),
);

/** Read faults from a file; paths are relative to `root`. Throws if `old` is not in its file exactly once. */
export function readFaults(root: string, path: string): Mutant[] {
  return v.parse(Faults, JSON.parse(readFileSync(path, "utf8"))).map(({ file, old, new: text, why }) => {
    const source = readFileSync(join(root, file), "utf8");
    const start = source.indexOf(old);
    const count = source.split(old).length - 1;
    if (count !== 1)
      throw new Error(
        `fault in ${file}: the old text occurs ${count} times, not once: ${JSON.stringify(old)}`,
      );
    const end = start + old.length;
    const lineOf = (at: number) => source.slice(0, at).split("\n").length;
    const before = old.trim().replace(/\s+/g, " ");
    return { file, operator: why, line: lineOf(start), endLine: lineOf(end), start, end, text, before };
  });
}
