// The runner of the tests: whatever a file leaves behind, and whoever is interrupted or killed, the machine is as it was.
import { beforeEach, expect, test } from "bun:test";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { eventually, must } from "../support/hosts.ts";

const ROOT = join(import.meta.dir, "../..");

/** In the environment of all that a run has started. */
let mark: string;
beforeEach(() => {
  mark = crypto.randomUUID();
});

/** What there is on this machine of what the file leaves: processes by their environment, the rest by its name. */
async function traces(): Promise<string[]> {
  const marked = readdirSync("/proc").filter(
    (pid) => /^\d+$/.test(pid) && read(pid, "environ").includes(mark),
  );
  const named = [
    ...readFileSync("/proc/mounts", "utf8").split("\n"),
    ...(existsSync("/run/netns") ? readdirSync("/run/netns") : []),
    ...readdirSync(tmpdir()),
    await must(["ip", "-o", "link"]),
    await must(["nft", "list", "tables"]),
  ];
  return [
    ...marked.map((pid) => read(pid, "cmdline").replaceAll("\0", " ")),
    ...named.filter((text) => text.includes("untidy")),
  ];
}

/** What /proc says of a process; nothing where it has ended. */
function read(pid: string, what: string): string {
  try {
    return readFileSync(`/proc/${pid}/${what}`, "latin1");
  } catch {
    return "";
  }
}

/** Starts the runner with the untidy file. */
function run(how: string) {
  const env = { ...process.env, UNTIDY: how, UNTIDY_MARK: mark };
  const command = [process.execPath, "test/tools/test.ts", "--no-build", "./test/support/untidy.ts"];
  return Bun.spawn(command, { cwd: ROOT, env, stdio: ["ignore", "pipe", "pipe"] });
}

test.each(["passes", "fails"])(
  "what a file that %s leaves behind is named, and gone",
  async (how) => {
    const runner = run(how);
    const output = await new Response(runner.stdout).text();
    expect(await runner.exited).toBe(1);
    expect(output).toContain(`${how === "fails" ? "0 passed" : "1 passed"}, 1 failed, 0 skipped`);
    for (const left of [
      "process \\d+ \\(weave",
      "network namespace untidy",
      "mount /\\w+/weave-untidy-",
      "file /\\w+/weave-untidy-",
      "process \\d+ \\(sleep",
      "link untidy0",
      "table ip untidy",
    ])
      expect(output).toMatch(new RegExp(`^left behind: ${left}`, "m"));
    expect(await traces()).toEqual([]);
  },
  300_000,
);

test.each([
  ["SIGINT", 130],
  ["SIGTERM", 143],
  ["SIGKILL", undefined],
] as const)(
  "a run that is ended by %s leaves nothing",
  async (signal, code) => {
    const runner = run("waits");
    await eventually("the file has started all", traces, (seen) => seen.includes("sleep 1000 "), 60_000);
    expect((await traces()).join()).toContain("weave-router");
    runner.kill(signal);
    await runner.exited;
    if (code !== undefined) expect(runner.exitCode).toBe(code);
    await eventually("all is gone", traces, (left) => left.length === 0);
  },
  300_000,
);
