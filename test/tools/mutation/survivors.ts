// Survivors that stay, each with its reason, as test/tools/mutation/survivors.txt lists them: on lines that begin with a
// path, "path | before -> after | reason". `before` is the whole line of code that is changed, without indentation.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { Mutant } from "./mutants.ts";

const root = join(import.meta.dir, "../../..");

function load(): ReadonlyMap<string, string> {
  const text = readFileSync(join(import.meta.dir, "survivors.txt"), "utf8");
  return new Map(
    text
      .split("\n")
      .filter((line) => /^(lib|cmd)\//.test(line))
      .map((line) => {
        const [file = "", change = "", reason = ""] = line.split(" | ");
        return [`${file} | ${change}`, reason];
      }),
  );
}

/** The line that a mutant changes, and what it becomes. */
function describe({ file, start, end, text }: Mutant): string {
  const source = readFileSync(join(root, file), "utf8");
  const from = source.lastIndexOf("\n", start - 1) + 1;
  const to = source.indexOf("\n", end);
  const oneLine = (code: string) => code.trim().replace(/\s+/g, " ");
  const after = source.slice(from, start) + text + source.slice(end, to);
  return `${file} | ${oneLine(source.slice(from, to))} -> ${oneLine(after)}`;
}

let known: ReadonlyMap<string, string> | undefined;

/** Why a mutant may survive; undefined where it may not. */
export function reasonFor(mutant: Mutant): string | undefined {
  known ??= load();
  return known.get(describe(mutant));
}
