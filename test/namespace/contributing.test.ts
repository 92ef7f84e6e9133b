// CONTRIBUTING.md shows diffs; they apply to the tree as it is, and compile.
import { afterAll, expect, test } from "bun:test";
import { cpSync, existsSync, mkdtempSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const ROOT = join(import.meta.dir, "../..");
const copy = mkdtempSync(join(tmpdir(), "weave-contributing-"));
afterAll(() => rmSync(copy, { recursive: true }));

/** Apply the diff of one file: each hunk's old lines have to stand in it exactly once. */
function applied(before: string, diff: string): string {
  const [, ...hunks] = diff.split(/^@@.*$/m);
  return hunks.reduce((text, hunk) => {
    const lines = hunk.split("\n").filter((line) => line !== "");
    const side = (mark: string) =>
      lines
        .filter((line) => line.startsWith(mark) || line.startsWith(" "))
        .map((line) => `${line.slice(1)}\n`);
    const [old, fresh] = [side("-").join(""), side("+").join("")];
    if (old === "") return fresh;
    expect([old, text.split(old).length - 1]).toEqual([old, 1]);
    return text.replace(old, () => fresh);
  }, before);
}

test("the diffs apply and compile", async () => {
  const markdown = await Bun.file(join(ROOT, "CONTRIBUTING.md")).text();
  const blocks = [...markdown.matchAll(/^```diff\n(.*?)^```$/gms)].map(([, diff = ""]) => diff);
  expect(blocks.length).toBe(3);
  for (const part of ["cmd", "lib", "test", "package.json", "tsconfig.json"])
    cpSync(join(ROOT, part), join(copy, part), { recursive: true });
  symlinkSync(join(ROOT, "node_modules"), join(copy, "node_modules"));
  for (const diff of blocks.flatMap((block) => block.split(/^(?=diff --git )/m))) {
    const path = /^diff --git a\/(\S+)/.exec(diff)?.[1] ?? "";
    const file = Bun.file(join(copy, path));
    const isNew = diff.includes("--- /dev/null");
    expect([path, await file.exists()]).toEqual([path, !isNew]);
    await file.write(applied(isNew ? "" : await file.text(), diff));
  }
  const types = Bun.spawnSync(["node_modules/.bin/tsc", "--noEmit", "--pretty", "false"], { cwd: copy });
  expect(types.stdout.toString()).toBe("");
});

test("the files and folders that it names are there", async () => {
  const markdown = (await Bun.file(join(ROOT, "CONTRIBUTING.md")).text()).replace(/^```diff.*?^```$/gms, "");
  const named = [...markdown.matchAll(/\b(?:cmd|lib|test)\/[\w/.-]*\w/g)].map(([path]) => path);
  expect(named.length).toBeGreaterThan(20);
  expect(named.filter((path) => !existsSync(join(ROOT, path)))).toEqual([]);
});
