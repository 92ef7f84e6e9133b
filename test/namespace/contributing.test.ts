// CONTRIBUTING.md shows diffs; they apply to the tree as it is, and compile.
import { afterAll, beforeAll, expect, test } from "bun:test";
import { existsSync, mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { must } from "../support/hosts.ts";
import { compiler } from "../tools/typecheck.ts";

const ROOT = join(import.meta.dir, "../..");
const folder = mkdtempSync(join(tmpdir(), "weave-contributing-"));
const copy = join(folder, "tree");

// Of the tree with its packages and what the compiler has found out about both: it looks at what the diffs change alone.
beforeAll(async () => {
  for (const part of ["tree", "changes", "work"]) mkdirSync(join(folder, part));
  const parts = `lowerdir=${ROOT},upperdir=${folder}/changes,workdir=${folder}/work`;
  await must(["mount", "-t", "overlay", "-o", parts, "overlay", copy]);
});

afterAll(async () => {
  await must(["umount", copy]);
  rmSync(folder, { recursive: true });
});

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
  for (const diff of blocks.flatMap((block) => block.split(/^(?=diff --git )/m))) {
    const path = /^diff --git a\/(\S+)/.exec(diff)?.[1] ?? "";
    const file = Bun.file(join(copy, path));
    const isNew = diff.includes("--- /dev/null");
    expect([path, await file.exists()]).toEqual([path, !isNew]);
    await file.write(applied(isNew ? "" : await file.text(), diff));
  }
  const types = Bun.spawnSync(compiler("."), { cwd: copy });
  expect(types.stdout.toString()).toBe("");
}, 600_000);

test("the files and folders that it names are there", async () => {
  const markdown = (await Bun.file(join(ROOT, "CONTRIBUTING.md")).text()).replace(/^```diff.*?^```$/gms, "");
  const named = [...markdown.matchAll(/\b(?:cmd|lib|test)\/[\w/.-]*\w/g)].map(([path]) => path);
  expect(named.length).toBeGreaterThan(20);
  expect(named.filter((path) => !existsSync(join(ROOT, path)))).toEqual([]);
});
