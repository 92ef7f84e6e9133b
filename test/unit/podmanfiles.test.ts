// Files by which podman finds us: made, made again, removed; never those of others.
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  ForeignFileError,
  hookFile,
  hookSteps,
  installHook,
  installNetavark,
  netavarkSteps,
} from "../../lib/deploy/podman.ts";

let folder: string;
beforeEach(() => {
  folder = join(mkdtempSync(join(tmpdir(), "weave-podman-")), "a/b");
});
afterEach(() => rmSync(join(folder, "../.."), { recursive: true }));

describe("the hook", () => {
  const path = () => join(folder, "weave.json");

  test("is written, and written again by a later version", () => {
    expect(installHook(folder, "/opt/old/weave")).toEqual([
      `installed ${path()}: containers with WEAVE_CIDR are attached before their first process runs`,
    ]);
    installHook(folder, "/usr/bin/weave", "/run/other");
    expect(readFileSync(path(), "utf8")).toBe(hookFile("/usr/bin/weave", "/run/other"));
    expect(statSync(path()).mode & 0o777).toBe(0o644);
  });

  test("has the folder of the router's sockets only where that is another", () => {
    expect(JSON.parse(hookFile("/w")).hook).toEqual({
      ...{ path: "/w", args: ["weave", "oci-hook"], timeout: 60 },
    });
    expect(JSON.parse(hookFile("/w", "/r")).hook.env).toEqual(["WEAVE_RUN_DIR=/r"]);
  });

  test("takes no other file's place, and removes none", () => {
    mkdirSync(folder, { recursive: true });
    writeFileSync(path(), "{}");
    expect(() => installHook(folder, "/w")).toThrow(ForeignFileError);
    expect([readFileSync(path(), "utf8"), hookSteps(folder)]).toEqual(["{}", []]);
  });

  test("is removed; where there is none, there is nothing to do", async () => {
    expect(hookSteps(folder)).toEqual([]);
    installHook(folder, "/w");
    const steps = hookSteps(folder);
    expect(steps.length).toBe(1);
    for (const { run } of steps) await run?.();
    expect([existsSync(path()), hookSteps(folder)]).toEqual([false, []]);
  });
});

describe("the plugin of netavark", () => {
  const path = () => join(folder, "weave");

  test("is linked, and linked again", () => {
    expect(installNetavark(folder, "/opt/old/weave")).toEqual([
      `linked ${path()}: 'podman network create -d weave NAME' makes a network`,
    ]);
    installNetavark(folder, "/usr/bin/weave");
    installNetavark(folder, "/usr/bin/weave");
    expect(readlinkSync(path())).toBe("/usr/bin/weave");
  });

  test("takes no other file's place", () => {
    mkdirSync(folder, { recursive: true });
    writeFileSync(path(), "theirs");
    expect(() => installNetavark(folder, "/w")).toThrow(ForeignFileError);
    expect([readFileSync(path(), "utf8"), netavarkSteps(folder, "/w")]).toEqual(["theirs", []]);
  });

  test("is removed where it is a link to this executable", async () => {
    expect(netavarkSteps(folder, "/w")).toEqual([]);
    installNetavark(folder, "/w");
    expect(netavarkSteps(folder, "/other")).toEqual([]);
    for (const { run } of netavarkSteps(folder, "/w")) await run?.();
    expect(existsSync(path())).toBe(false);
    symlinkSync("/elsewhere", path());
    expect(netavarkSteps(folder, "/w")).toEqual([]);
  });
});
