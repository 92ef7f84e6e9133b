// Starting a router in the background, and ending it: what the process is started with, how long is waited for it, and which
// of its errors is told. The process, and time, are the test's.
import { afterEach, beforeEach, describe, expect, spyOn, test } from "bun:test";
import {
  appendFileSync,
  closeSync,
  existsSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readlinkSync,
  rmSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { systemClock } from "../../lib/clock/clock.ts";
import { launchDaemon, stopDaemon } from "../../lib/router/daemon.ts";
import * as instance from "../../lib/router/instance.ts";
import { LAUNCHER_MS } from "../../lib/router/launcher.ts";
import type { Started } from "../../lib/router/started.ts";
import * as executables from "../../lib/sys/executable.ts";
import * as openfiles from "../../lib/sys/openfiles.ts";
import * as capabilities from "../../lib/sys/requiredcapabilities.ts";
import * as runtime from "../../lib/sys/runtime.ts";
import { useFolder } from "../support/ownfolders.ts";

let folder: string;
let setBack: () => void;
let log: string;
let now: number;
let spies: { mockRestore(): void }[];
let spawned: unknown[][];
/** What the router writes to the pipe when it is started. */
let told: string;
let running: number | undefined;
let end: (code: number | null, signal: string | null) => void;
/** The router's end of the pipe. */
let line: number;
let unreferenced: number;
/** Runs once the process is started. */
let atStart: () => void;

const STARTED: Started = {
  name: "5e:3a:00:00:00:01",
  nickname: "h",
  range: "10.32.0.0/12",
  overlay: "sleeve",
  encryption: false,
  targets: [],
};
const READY = `${JSON.stringify({ started: STARTED })}\n`;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "weave-launch-"));
  setBack = useFolder(folder);
  log = join(folder, "weave.log");
  [now, spawned, told, running, unreferenced] = [1_000, [], READY, undefined, 0];
  atStart = () => {};
  line = openSync("/dev/null", "r");
  spies = [
    spyOn(instance, "launchedPid").mockImplementation(() => running),
    spyOn(capabilities, "requireCapabilities").mockImplementation(() => {}),
    spyOn(openfiles, "requireOpenFiles").mockImplementation(() => {}),
    spyOn(executables, "executable").mockImplementation((name) => `/opt/${name}`),
    spyOn(runtime, "limitDaemon").mockImplementation((name) => void spawned.push(["limit", name])),
    spyOn(Bun, "spawn").mockImplementation(((command: string[], options: { stdio: unknown[] }) => {
      spawned.push([command, options]);
      closeSync(line);
      line = openSync(`/proc/self/fd/${options.stdio[3]}`, "w");
      if (told !== "") writeSync(line, told);
      const { promise: exited, resolve } = Promise.withResolvers<void>();
      const child = { pid: 77, exited, exitCode: null, signalCode: null, unref: () => unreferenced++ };
      end = (exitCode, signalCode) => {
        Object.assign(child, { exitCode, signalCode });
        resolve();
      };
      atStart();
      return child;
    }) as never),
    spyOn(performance, "now").mockImplementation(() => now),
    spyOn(Bun, "sleep").mockImplementation((async (ms: number) => {
      now += ms;
      await new Promise(setImmediate);
    }) as never),
  ];
});
afterEach(() => {
  for (const spy of spies) spy.mockRestore();
  closeSync(line);
  setBack();
  rmSync(folder, { recursive: true });
});

describe("a router in the background", () => {
  test("is started detached, with the log as its output, a pipe, the engine's options and its capabilities", async () => {
    told = `{"warning":"one"}\n${READY}`;
    const daemon = await launchDaemon(["--port=1", "h1"], { A: "1" });
    const [limit, [command, options] = expect.unreachable()] = spawned;
    expect([limit, command]).toEqual([
      ["limit", "weave-router"],
      ["/opt/weave-router", "--port=1", "h1"],
    ]);
    const { stdio, env, ...rest } = options as { stdio: unknown[]; env: Record<string, string> };
    expect(rest as unknown).toEqual({ argv0: "weave-router", detached: true });
    expect([stdio[0], stdio[1] === stdio[2], typeof stdio[1], stdio[3]]).toEqual([
      "ignore",
      true,
      "number",
      expect.any(Number),
    ]);
    expect(env).toMatchObject({ A: "1", WEAVE_LAUNCHER_FD: "3", BUN_GC_TIMER_INTERVAL: "120000" });
    expect([daemon.pid, unreferenced, existsSync(log)]).toEqual([77, 1, true]);
    expect([daemon.started, daemon.warnings]).toEqual([STARTED, [{ warning: "one" }]]);
    // The event loop's own copy of the pipe is closed a little later.
    const write = () => {
      try {
        writeSync(line, "x");
        return undefined;
      } catch (error) {
        return error;
      }
    };
    let refused = write();
    for (; !refused; refused = write()) await new Promise(setImmediate);
    expect(refused).toMatchObject({ code: "EPIPE" });
  });

  test("is not waited for any more once it is ready: no timer keeps launch alive", async () => {
    let cancelled = 0;
    spies.push(spyOn(systemClock, "after").mockImplementation(() => ({ cancel: () => cancelled++ })));
    await launchDaemon([], {});
    expect(cancelled).toBe(1);
  });

  test("is not started beside another", async () => {
    running = 9;
    await expect(launchDaemon([], {})).rejects.toThrow(instance.AlreadyRunningError);
    expect(spawned).toEqual([]);
  });

  test("that is not ready within 30 s is an error, which says where its log is", async () => {
    told = "";
    let waited = 0;
    spies.push(
      spyOn(systemClock, "after").mockImplementation((ms, fn) => {
        waited = ms;
        setImmediate(fn);
        return { cancel() {} };
      }),
    );
    const failed = await launchDaemon([], {}).catch((error) => error);
    expect([failed.message, failed.exitCode]).toEqual([
      `the router is not ready after 30 s and keeps trying; see ${log}`,
      1,
    ]);
    expect([waited, unreferenced]).toEqual([LAUNCHER_MS, 0]);
    expect(LAUNCHER_MS).toBeGreaterThan(30_000);
  });

  const ends = (code: number | null, signal: string | null, text = "") => {
    told = '{"warning":"soon over"}\n';
    atStart = () => {
      if (text !== "") appendFileSync(log, text);
      end(code, signal);
    };
    return launchDaemon([], {}).catch((error) => error);
  };

  test.each<[string, string]>([
    [
      "ERRO: 2026-11-26 12:00:00.000 the port is taken\nINFO: 2026-11-26 12:00:00.001 bye\n",
      "the port is taken",
    ],
    ["ERRO: a b first\nERRO: a b last\n", "last"],
    ["weave-router: no such option\n", "no such option"],
    ['{"level":"error","msg":"in JSON"}\n{"level":"warning","msg":"no"}\n', "in JSON"],
    ['{"level":"error","msg":"whole"}\n{"level":"error","ms', "whole"],
  ])("that ends tells its last error of %j", async (text, message) => {
    writeFileSync(log, "ERRO: a b of an earlier run\n");
    const failed = await ends(3, null, text);
    expect([failed.message, failed.exitCode]).toEqual([message, 3]);
  });

  test("that ends without an error tells how; errors of earlier runs are not its own", async () => {
    writeFileSync(log, "ERRO: a b of an earlier run\n");
    const failed = await ends(4, null);
    expect([failed.message, failed.exitCode]).toEqual([
      `the router ended with exit code 4 while it started; see ${log}`,
      4,
    ]);
    const killed = await ends(null, "SIGKILL", "INFO: a b no error\n");
    expect([killed.message, killed.exitCode]).toEqual([
      `the router was ended by SIGKILL while it started; see ${log}`,
      1,
    ]);
    expect((await ends(0, null)).exitCode).toBe(1);
  });

  test("whose log was rotated meanwhile tells the error of the new file", async () => {
    writeFileSync(log, "x".repeat(1_000));
    told = '{"warning":"soon over"}\n';
    atStart = () => {
      writeFileSync(log, "ERRO: a b short\n");
      end(1, null);
    };
    await expect(launchDaemon([], {})).rejects.toThrow(/^short$/);
  });

  test("that cannot be executed is an error, and leaves no file open", async () => {
    let pipe = "";
    spies.push(
      spyOn(Bun, "spawn").mockImplementation(((_command: string[], { stdio }: { stdio: unknown[] }) => {
        pipe = readlinkSync(`/proc/self/fd/${stdio[3]}`);
        throw new Error("ENOENT");
      }) as never),
    );
    const failed = await launchDaemon([], {}).catch((error) => error);
    expect([failed.message, failed.exitCode]).toEqual(["ENOENT", 1]);
    const open = () =>
      readdirSync("/proc/self/fd").flatMap((fd) => {
        try {
          return [readlinkSync(`/proc/self/fd/${fd}`)];
        } catch {
          // Closed meanwhile.
          return [];
        }
      });
    expect(open()).not.toContain(log);
    // The event loop's end of the pipe is closed once it has read that ours is.
    while (open().includes(pipe)) await new Promise(setImmediate);
    expect(pipe).toStartWith("pipe:");
  });
});

describe("ending it", () => {
  function router(endsAfter: number, by: number) {
    const began = now;
    const signals: [number, number][] = [];
    const state = { disposed: 0 };
    const found = {
      signal: (number: number) => signals.push([number, now - began]),
      get ended() {
        return signals.some(([number]) => number === by) && now - began >= endsAfter;
      },
      [Symbol.dispose]: () => state.disposed++,
    };
    spies.push(spyOn(instance, "runningRouter").mockImplementation(() => found as never));
    return { signals, state };
  }

  test("is asked for, also of a stopped process, and waited for", async () => {
    const { signals, state } = router(500, 15);
    expect(await stopDaemon()).toBe(true);
    expect([signals, now, state.disposed]).toEqual([
      [
        [15, 0],
        [18, 0],
      ],
      1_500,
      1,
    ]);
  });

  test("is enforced after 10 s", async () => {
    const { signals } = router(0, 9);
    expect(await stopDaemon()).toBe(true);
    expect(signals).toEqual([
      [15, 0],
      [18, 0],
      [9, 10_010],
    ]);
  });

  test("is none where none runs", async () => {
    spies.push(spyOn(instance, "runningRouter").mockImplementation(() => undefined));
    expect(await stopDaemon()).toBe(false);
  });
});
