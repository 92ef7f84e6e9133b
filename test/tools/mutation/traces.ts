// Coverage of test files, kept between runs: a test file is traced again if it, or a file that it loads, has changed.
import { createHash } from "node:crypto";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import * as v from "valibot";

const CACHE = "node_modules/.cache/coverage";

/** Coverage of a test file as a trace file (geninfo(1)), and the time that it took. */
export interface Trace {
  readonly seconds: number;
  readonly lcov: string;
}

const Kept = v.object({ key: v.string(), seconds: v.number(), lcov: v.string() });

/** Return the files that a trace names. */
export function filesOf(lcov: string): string[] {
  return [...lcov.matchAll(/^SF:(.*)$/gm)].map(([, file = ""]) => file);
}

/** Return a hash of a test file and of the files that it loads. */
function keyOf(root: string, test: string, { lcov }: Trace): string {
  const hash = createHash("sha256");
  for (const file of [test, ...filesOf(lcov)].sort())
    hash
      .update(`${file}\0`)
      .update(readFileSync(join(root, file)))
      .update("\0");
  return hash.digest("hex");
}

const pathOf = (root: string, test: string) => join(root, CACHE, `${test}.json`);

/** Return the trace of a test file; undefined if there is none, or a file has changed. */
export function kept(root: string, test: string): Trace | undefined {
  try {
    const found = v.parse(Kept, JSON.parse(readFileSync(pathOf(root, test), "utf8")));
    return found.key === keyOf(root, test, found) ? found : undefined;
  } catch {
    // No trace yet, or one of files that are gone.
    return undefined;
  }
}

/** Keep the trace of a test file. */
export function keep(root: string, test: string, trace: Trace): void {
  const path = pathOf(root, test);
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, JSON.stringify({ key: keyOf(root, test, trace), ...trace }));
}
