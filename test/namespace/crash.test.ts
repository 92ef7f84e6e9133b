// A router that crashes: it goes on in place, with a report; and frames go on meanwhile.
import { afterEach, beforeEach, expect, test } from "bun:test";
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { EXIT_CODES } from "../../lib/sys/failure.ts";
import { eventually, type Host, Hosts } from "../support/hosts.ts";
import { addPod, type Pod, ping, podCommand } from "../support/pods.ts";
import { Stream } from "../support/stream.ts";
import { COMPILE } from "../tools/build.ts";

let hosts: Hosts;

beforeEach(async () => {
  hosts = await Hosts.create("crs", 2);
});
afterEach(() => hosts.disposeSync());

const pidOf = (host: Host) => Number(readFileSync(join(host.folder, "run/weave.pid"), "utf8"));
const isThere = (pid: number) => {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
};
const reports = (host: Host) => {
  try {
    return readdirSync(join(host.folder, "lib/crashes")).sort();
  } catch {
    return [];
  }
};
const crashed = (host: Host, count: number) =>
  eventually(
    `${count} crash reports, and the router answers`,
    async () => (reports(host).length < count ? "" : host.status().catch(String)),
    (text) => text.includes("Service: router"),
  );
const established = (host: Host) =>
  eventually(
    "a connection by fastdp",
    () => host.status("connections").catch(String),
    (text) => / established .*fastdp /.test(text),
  );

const talk = (from: Pod, to: Pod) =>
  eventually(
    `${from.netns} reaches ${to.netns}`,
    () => ping(from, to.address),
    ({ code }) => code === 0,
  );

test.each(["throw", "reject"])(
  "compiled, a daemon whose timer does %s starts again in place five times, in order, and names our source",
  async (how) => {
    const folder = mkdtempSync(join(tmpdir(), "weave-daemon-"));
    try {
      const source = "test/support/crashingdaemon.ts";
      const file = join(folder, "daemon");
      const root = join(import.meta.dir, "../..");
      const compile = [process.execPath, "build", source, ...COMPILE, `--outfile=${file}`];
      Bun.spawnSync(compile, { cwd: root });
      const child = Bun.spawn([file, how], {
        env: { ...process.env, WEAVE_STATE_DIR: folder },
        stdout: "pipe",
        stderr: "pipe",
      });
      const [out, log] = await Promise.all([child.stdout.text(), child.stderr.text()]);
      expect([await child.exited, child.signalCode]).toEqual([EXIT_CODES.crashed, null]);
      expect(out.trim().split("\n")).toEqual(Array.from({ length: 6 }, () => `ready ${child.pid}`));
      expect(log.match(/the part has stopped/g)?.length).toBe(6);
      expect(log).toContain("not starting again: 5 times within a minute are enough; see 'weave doctor'");
      const names = readdirSync(join(folder, "crashes"));
      expect(names.length).toBe(6);
      for (const name of names) {
        const report = JSON.parse(readFileSync(join(folder, "crashes", name), "utf8"));
        expect(report).toMatchObject({
          kind: "uncaught error",
          what: how === "throw" ? "a callback" : "a detached promise",
          error: { message: "a fault of ours" },
          state: { known: "something" },
        });
        // The line of "new Error".
        expect(report.error.stack[0]).toContain(`${source}:8:`);
      }
    } finally {
      rmSync(folder, { recursive: true });
    }
  },
  300_000,
);

test("a thread that fails, ends or hangs is made again, and leaves a report that names our source", async () => {
  const folder = mkdtempSync(join(tmpdir(), "weave-daemon-"));
  try {
    const support = "test/support/failingthread";
    const threads = [`${support}.ts`, "lib/overlay/sleeve/worker.ts"];
    const file = join(folder, "daemon");
    const compile = [
      process.execPath,
      "build",
      `${support}s.ts`,
      ...threads,
      ...COMPILE,
      `--outfile=${file}`,
    ];
    Bun.spawnSync(compile, { cwd: join(import.meta.dir, "../..") });
    const child = Bun.spawn([file], {
      env: { ...process.env, WEAVE_STATE_DIR: folder },
      stdout: "pipe",
      stderr: "pipe",
    });
    const [out, log] = await Promise.all([child.stdout.text(), child.stderr.text()]);
    expect(await child.exited).toBe(0);
    const again = (why: string) => `2 engines, the sleeve engine has failed 1 times, the last: ${why}`;
    const broken = "undefined is not an object (evaluating 'params.peer')";
    expect(out.trim().split("\n")).toEqual([
      ...["throw", "exit", "loop"].map((how) => `${how}: BusyError, then answered`),
      `engine message: ${again(broken)}`,
      "engine frame: 1 engines, ",
      `engine exit: ${again("its thread has ended (exit code 3)")}`,
      `engine loop: ${again("it has handled no message for 60 s")}`,
      `done ${child.pid}`,
    ]);
    const crashes = readdirSync(join(folder, "crashes"))
      .sort()
      .map((name) => JSON.parse(readFileSync(join(folder, "crashes", name), "utf8")));
    const [work, engine] = ["the container work thread", "the sleeve engine"];
    expect(
      crashes.map(({ what, error }) => [
        what,
        error.message,
        error.stack[0].replace(/^.*?([\w/.]+:\d+).*$/, "$1"),
      ]),
    ).toEqual([
      [work, "a fault of ours", `${support}.ts:5`],
      [work, "container work: the thread has ended (exit code 3)", expect.stringContaining("workthread.ts:")],
      [work, "container work: no answer within 0.5 s (inspect)", expect.stringContaining("workthread.ts:")],
      [engine, broken, expect.stringContaining("lib/overlay/sleeve/link.ts:")],
      [
        engine,
        expect.stringContaining("broadcast"),
        expect.stringContaining("lib/overlay/sleeve/routes.ts:"),
      ],
      [engine, "its thread has ended (exit code 3)", expect.stringContaining("sleeve/thread.ts:")],
      [engine, "it has handled no message for 60 s", expect.stringContaining("sleeve/thread.ts:")],
    ]);
    for (const [i, { kind, state, log }] of crashes.entries()) {
      expect([kind, state]).toEqual(["failed part", { known: "something" }]);
      expect(log.filter((line: string) => line.includes("unexpected error in")).length).toBe(i + 1);
    }
    expect(log).not.toContain("starting again");
  } finally {
    rmSync(folder, { recursive: true });
  }
}, 300_000);

/** Pings a second. */
const RATE = 50;

test.skipIf(process.arch !== "x64")(
  "ended by SIGSEGV it goes on in the same process, and not one packet is lost",
  async () => {
    const [a, b] = [hosts.host(1), hosts.host(2)];
    await a.weave("launch", "--ipalloc-init=consensus=2");
    await b.weave("launch", "--ipalloc-init=consensus=2", a.ip);
    for (const host of [a, b]) await established(host);
    const [one, two] = [await addPod(hosts, a, "one"), await addPod(hosts, b, "two")];
    await talk(one, two);
    const pid = pidOf(a);
    using stream = new Stream("the pods", podCommand(one), two.address, RATE);
    await stream.flows();
    stream.mark();
    process.kill(pid, "SIGSEGV");
    await crashed(a, 1);
    for (const host of [a, b]) await established(host);
    await stream.sends(RATE);
    await stream.flows();
    expect(stream.sent).toBeGreaterThanOrEqual(RATE);
    expect(stream.lost).toBe(0);
    expect(pidOf(a)).toBe(pid);
    const three = await addPod(hosts, b, "three");
    await talk(one, three);

    const [name = ""] = reports(a);
    const file = join(a.folder, "lib/crashes", name);
    expect(statSync(file).mode & 0o777).toBe(0o600);
    const report = JSON.parse(readFileSync(file, "utf8"));
    expect(report).toMatchObject({
      program: "weave-router",
      kind: "signal",
      what: "the runtime",
      pid,
      error: { name: "SIGSEGV", message: `sent by process ${process.pid}` },
    });
    expect(report.log.join("\n")).toContain("weave is ready");
    expect(await a.status()).toContain("1 crash reports within 24 h, the last at");
    const doctor = await a.exec([join(import.meta.dir, "../../dist/weave"), "doctor"]);
    expect(doctor.stdout).toMatch(
      /warning +crashes +1 crash report within 24 h, .*: signal in the runtime: sent by/,
    );
    expect(await a.must(["curl", "-s", "http://127.0.0.1:6782/metrics"])).toContain(
      "weave_crash_reports_total 1\n",
    );
    const archive = join(a.folder, "report.tar.gz");
    await a.weave("bugreport", "-o", archive);
    expect(await a.must(["tar", "tzf", archive])).toContain(`crashes/${name}`);
  },
  300_000,
);

test.skipIf(process.arch !== "x64")(
  "the sixth time within a minute it ends, says so, and keeps no secret in a report",
  async () => {
    const host = hosts.host(1);
    const password = "a-password-of-the-test";
    await host.must([join(import.meta.dir, "../../dist/weave"), "launch", "--ipalloc-init=consensus=1"], {
      env: { WEAVE_PASSWORD: password },
    });
    const pid = pidOf(host);
    for (let count = 1; count <= 5; count++) {
      process.kill(pid, count % 2 ? "SIGABRT" : "SIGBUS");
      await crashed(host, count);
    }
    process.kill(pid, "SIGILL");
    await eventually(
      "the router has ended",
      async () => isThere(pid),
      (there) => !there,
    );
    expect(reports(host).length).toBe(6);
    const log = readFileSync(join(host.folder, "run/weave.log"), "utf8");
    expect(log).toContain("not starting again: 5 crashes within a minute are enough; see 'weave doctor'");
    for (const name of reports(host)) {
      const text = readFileSync(join(host.folder, "lib/crashes", name), "utf8");
      expect(text).not.toContain(password);
      expect(text).not.toContain(Buffer.from(password).toString("base64"));
    }
    // By hand it starts again.
    await host.weave("launch", "--ipalloc-init=consensus=1");
  },
  300_000,
);
