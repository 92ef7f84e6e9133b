// The original's router among the processes of a host, as /proc shows them, and its end.
import { afterEach, beforeEach, describe, expect, spyOn, test } from "bun:test";
import { findOriginalProcess, stopOriginal } from "../../lib/migration/process.ts";
import { Pidfd, SIGTERM } from "../../lib/sys/pidfd.ts";
import * as processes from "../../lib/sys/processes.ts";
import * as textfile from "../../lib/sys/textfile.ts";

interface Process {
  comm: string;
  cmdline?: string;
  environ?: string;
  /** Of a container or a user, that is. */
  foreign?: true;
}

let table: Record<string, Process>;
let spies: { mockRestore(): void }[];
let now: number;

beforeEach(() => {
  table = {};
  now = 1_000;
  const gone = () => Object.assign(new Error("ENOENT"), { code: "ENOENT" });
  const of = (path: string) => /^\/proc\/(\d+)\/(.*)$/.exec(path) ?? [];
  spies = [
    spyOn(processes, "processIds").mockImplementation((() => Object.keys(table)) as never),
    spyOn(textfile, "readText").mockImplementation((path) => {
      const [, pid = "", file] = of(path);
      const value = file === "comm" ? `${table[pid]?.comm}\n` : table[pid]?.[file as "cmdline"];
      if (value === undefined) throw gone();
      return value;
    }),
    spyOn(processes, "managesNetwork").mockImplementation((pid) => table[pid]?.foreign !== true),
    spyOn(performance, "now").mockImplementation(() => now),
    spyOn(Bun, "sleep").mockImplementation((async (ms: number) => {
      now += ms;
      tick();
    }) as never),
  ];
  tick = () => {};
});
let tick: () => void;
afterEach(() => {
  for (const spy of spies) spy.mockRestore();
});

/** A path in the mount namespace of process 9. */
const ofRoot = (path: string) => `/proc/9/root${path}`;
const WEAVER = {
  comm: "weaver",
  cmdline: "/home/weave/weaver\0--port\x006783\0--db-prefix=/weavedb/weave-net\x0010.0.0.2\0",
  environ: "PATH=/bin\0WEAVE_PASSWORD=s3=cret\0OTHER=1\0",
};

describe("the original's router", () => {
  test("is the process of that name in our network namespace, with its arguments, password and state", () => {
    table = {
      "7": { ...WEAVER, foreign: true },
      "8": { ...WEAVER, comm: "weave-router" },
      "9": WEAVER,
      "10": { ...WEAVER, environ: "" },
    };
    expect(findOriginalProcess()).toEqual({
      pid: 9,
      args: ["--port", "6783", "--db-prefix=/weavedb/weave-net", "10.0.0.2"],
      password: "s3=cret",
      stateFile: ofRoot("/weavedb/weave-netdata.db"),
    });
  });

  test.each<[string, string | undefined]>([
    ["x\0--db-prefix\0/a/b-\0", ofRoot("/a/b-data.db")],
    ["x\0-db-prefix=/a\0", ofRoot("/adata.db")],
    ["x\0--db-prefix=\0", ofRoot("data.db")],
    ["x\0--db\0/a\0", undefined],
    ["x\0", undefined],
  ])("has its state where %j says", (cmdline, stateFile) => {
    table = { "9": { ...WEAVER, cmdline } };
    expect(findOriginalProcess()?.stateFile).toBe(stateFile);
  });

  test.each<[string, string | undefined]>([
    ["WEAVE_PASSWORD=x", "x"],
    ["A=1\0WEAVE_PASSWORD=\0", undefined],
    ["MY_WEAVE_PASSWORD=x\0", undefined],
    ["", undefined],
  ])("has the password of its environment %j", (environ, password) => {
    table = { "9": { ...WEAVER, environ } };
    expect(findOriginalProcess()?.password).toBe(password);
  });

  test("may end while it is looked at, and another be found", () => {
    table = { "9": { comm: "weaver" }, "10": WEAVER };
    expect(findOriginalProcess()?.pid).toBe(10);
    table = {};
    expect(findOriginalProcess()).toBeUndefined();
  });
});

describe("its end", () => {
  const original = { pid: 9, args: [], password: undefined, stateFile: undefined };
  function pidfd() {
    const state = { ended: false, signals: [] as number[], closed: 0 };
    const fd = {
      signal: (signal: number) => state.signals.push(signal),
      get ended() {
        return state.ended;
      },
      [Symbol.dispose]: () => state.closed++,
    };
    spies.push(spyOn(Pidfd, "open").mockImplementation(() => fd as never));
    return state;
  }

  test("is asked for once, waited for, and watched for 2 s: a supervisor may start it again", async () => {
    table = { "9": WEAVER };
    const state = pidfd();
    tick = () => {
      if (now >= 4_000 && !state.ended) {
        state.ended = true;
        table = {};
      }
    };
    await stopOriginal(original);
    expect([state.signals, state.closed, now]).toEqual([[SIGTERM], 1, 6_000]);
  });

  test("is an error where it does not come within 20 s", async () => {
    table = { "9": WEAVER };
    const state = pidfd();
    await expect(stopOriginal(original)).rejects.toThrow("the original's router (pid 9) does not end");
    expect([state.signals, state.closed, now > 21_000, now < 21_200]).toEqual([[SIGTERM], 1, true, true]);
  });

  test("is an error where it is started again", async () => {
    table = { "9": WEAVER };
    const state = pidfd();
    tick = () => {
      state.ended = true;
      table = { "11": WEAVER };
    };
    await expect(stopOriginal(original)).rejects.toThrow(
      "a supervisor restarted the original's router (pid 11)",
    );
  });

  test("is nobody else's: a pid that another process has by now gets no signal", async () => {
    table = { "9": { ...WEAVER, comm: "postgres" } };
    const state = pidfd();
    state.ended = true;
    await stopOriginal(original);
    expect(state.signals).toEqual([]);
    spies.push(spyOn(Pidfd, "open").mockImplementation(() => undefined));
    await stopOriginal(original);
  });
});
