// The executables themselves: what they need, what they ignore, what they answer to.
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { copyFileSync, existsSync, linkSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DIST, must } from "../support/hosts.ts";

const EXECUTABLES = ["weave", "weave-net", "weave-router", "weave-npc"];
let folder: string;

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "weave-exe-"));
});

afterAll(() => rmSync(folder, { recursive: true, force: true }));

test.each(EXECUTABLES)("%s needs nothing but libc", async (name) => {
  const libraries = (await must(["ldd", join(DIST, name)])).matchAll(
    /^\s*(?:\/\S*\/)?([\w-]+)(?:\.so|\.)\S*/gm,
  );
  for (const [, library] of libraries)
    expect([
      "linux-vdso",
      "libc",
      "ld-linux-x86-64",
      "ld-linux-aarch64",
      "libpthread",
      "libdl",
      "libm",
    ]).toContain(library ?? "");
});

test.each(EXECUTABLES)("%s ignores .env and bunfig.toml of the folder it is run in", async (name) => {
  const hit = join(folder, "preloaded");
  writeFileSync(join(folder, ".env"), "WEAVE_RUN_DIR=/nowhere\nBUN_CONFIG_PRELOAD=./evil.ts\nHOSTILE=1\n");
  writeFileSync(join(folder, "bunfig.toml"), 'preload = ["./evil.ts"]\n[run]\npreload = ["./evil.ts"]\n');
  writeFileSync(join(folder, "evil.ts"), `require("node:fs").writeFileSync(${JSON.stringify(hit)}, "");`);
  const { stdout, exitCode } = Bun.spawnSync([join(DIST, name), "--version"], { cwd: folder });
  expect([stdout.toString().startsWith("weave "), exitCode]).toEqual([true, 0]);
  expect(existsSync(hit)).toBe(false);
});

test.each(EXECUTABLES)("%s takes no code from the environment", (name) => {
  const hit = join(folder, "preloaded");
  const evil = join(folder, "evil.ts");
  writeFileSync(evil, `require("node:fs").writeFileSync(${JSON.stringify(hit)}, "");`);
  for (const env of [
    { BUN_OPTIONS: `--preload ${evil}` },
    { BUN_BE_BUN: "1" },
    { BUN_INSPECT_PRELOAD: evil },
  ]) {
    const { stdout } = Bun.spawnSync([join(DIST, name), "--version"], {
      cwd: folder,
      env: { ...process.env, ...env },
    });
    expect(stdout.toString()).toStartWith("weave ");
    expect(existsSync(hit)).toBe(false);
  }
});

describe("one file is enough", () => {
  // Hard links need one file system.
  beforeAll(() => {
    mkdirSync(join(folder, "one"));
    copyFileSync(join(DIST, "weave"), join(folder, "one/file"));
  });

  test.each(EXECUTABLES)("called %s, weave is that", async (name) => {
    const file = join(folder, name);
    linkSync(join(folder, "one/file"), file);
    const help = await must([file, "--help"]);
    expect(help).toContain(name === "weave" ? "LIFE CYCLE" : name);
    expect(await must([file, "--version"])).toStartWith("weave ");
  });
});
