// The executables for arm64, run by qemu: they start, read their command line, carry all their parts,
// and restart in place after a crash.
import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { VERSION } from "../../lib/version.ts";
import { arm64 } from "../support/foreign.ts";
import { DIST, exec, must } from "../support/hosts.ts";
import { build, runtimeOf } from "../tools/build.ts";
import type { About } from "../tools/package/about.ts";
import { makeDeb } from "../tools/package/deb.ts";
import { SETTINGS_FILE } from "../tools/package/payload.ts";
import { makeRpm } from "../tools/package/rpm.ts";

const folder = mkdtempSync(join(tmpdir(), "weave-arm64-"));
let qemu: string[];
/** For programs that end soon: the emulator would have to translate once more what the engine compiles. */
let interpreting: string[];

beforeAll(async () => {
  qemu = await arm64();
  interpreting = [...qemu, "-E", "BUN_JSC_useBaselineJIT=0", "-E", "BUN_JSC_useDFGJIT=0"];
  build("weave", "linux-arm64", folder);
}, 300_000);

afterAll(() => rmSync(folder, { recursive: true }));

test.each(["weave", "weave-router", "weave-npc"])(
  "%s answers by its name",
  async (name) => {
    const path = join(folder, name);
    if (name !== "weave") symlinkSync("weave", path);
    expect(await must([...interpreting, "-0", path, path, "--version"])).toContain(VERSION);
  },
  300_000,
);

test.each([
  ["fault", "SIGSEGV", /^at address 0x10$/],
  ["sent", "SIGABRT", /^sent by process \d+$/],
] as const)(
  "a program goes on in place after a signal that the kernel ends programs by: %s, %s",
  async (how, signal, message) => {
    const runtime = runtimeOf("linux-arm64") ?? "";
    const child = Bun.spawn([...qemu, runtime, join(import.meta.dir, "../support/crashing.ts"), how], {
      env: { ...process.env, BUN_JSC_useWasmIPInt: "0", EMULATOR: qemu.join(" ") },
      stdout: "pipe",
      stderr: "inherit",
    });
    let text = "";
    for await (const chunk of child.stdout) {
      text += new TextDecoder().decode(chunk);
      if (how === "sent" && text.endsWith(`pid ${child.pid}\n`)) process.kill(child.pid, signal);
    }
    const [trap, pid, told = "{}"] = text.trim().split("\n");
    expect([trap, pid, await child.exited]).toEqual(["trap", `pid ${child.pid}`, 7]);
    const crash = JSON.parse(told);
    expect(crash).toMatchObject({ pid: child.pid, name: signal, message: expect.stringMatching(message) });
    expect(crash.frames[0]).toMatch(/^ +at \S+\+0x[0-9a-f]+$/);
  },
  300_000,
);

test("it prints the manifest that this machine's executable prints", async () => {
  const manifest = ["manifest", "kubernetes"];
  const [theirs, ours] = [
    await must([...interpreting, join(folder, "weave"), ...manifest]),
    await must([join(DIST, "weave"), ...manifest]),
  ];
  expect(theirs).toBe(ours);
}, 300_000);

test("the plugin answers as CNI asks", async () => {
  const { code, stdout } = await exec([...interpreting, "-0", "weave-net", join(folder, "weave")], {
    env: { CNI_COMMAND: "VERSION" },
    stdin: '{"cniVersion":"1.0.0"}',
  });
  expect(code).toBe(0);
  expect(JSON.parse(stdout)).toMatchObject({ supportedVersions: expect.arrayContaining(["1.0.0"]) });
}, 300_000);

test("packages are marked for the processor", async () => {
  const payload = join(folder, "payload");
  mkdirSync(join(payload, "etc/default"), { recursive: true });
  writeFileSync(join(payload, SETTINGS_FILE), "");
  const about: About = {
    ...{ version: VERSION, arch: "arm64", compression: 0, seconds: "0" },
    ...{ summary: "network", description: ["Network."], license: "Apache-2.0", maintainer: "Nobody" },
  };
  const [deb, rpm] = [makeDeb(about, payload, folder), makeRpm(about, payload, folder, folder)];
  expect(await must(["dpkg-deb", "-f", deb, "Architecture"])).toBe("arm64\n");
  expect(await must(["rpm", "-qp", "--qf", "%{ARCH}", rpm])).toBe("aarch64");
});
