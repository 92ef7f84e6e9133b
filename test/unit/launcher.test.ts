// What a starting router tells 'weave launch' through their pipe, and for how long.
import { afterEach, beforeEach, describe, expect, spyOn, test } from "bun:test";
import * as fs from "node:fs";
import type { Fields } from "../../lib/log/fields.ts";
import { type Log, logTo } from "../../lib/log/log.ts";
import {
  LAUNCHER_ENV,
  LAUNCHER_FD,
  LAUNCHER_MS,
  LauncherMessages,
  openLauncher,
} from "../../lib/router/launcher.ts";
import type { Started } from "../../lib/router/started.ts";

const STARTED: Started = {
  name: "5e:3a:00:00:00:01",
  nickname: "h",
  range: null,
  overlay: "sleeve",
  encryption: false,
  targets: [],
};

const [VARIABLE = "", VALUE = ""] = Object.entries(LAUNCHER_ENV)[0] ?? [];

let written: string[];
let closed: number[];
let broken: boolean;
/** Bytes that the pipe takes. */
let room: number;
let timers: [() => void, number][];
let spies: { mockRestore(): void }[];
let lines: string[];
let log: Log;

beforeEach(() => {
  [written, closed, timers, lines, broken, room] = [[], [], [], [], false, Number.POSITIVE_INFINITY];
  log = logTo((level, text, fields: Fields = {}) =>
    lines.push(`${level}: ${text} ${JSON.stringify(fields)}`),
  );
  const { writeSync, closeSync } = fs;
  spies = [
    spyOn(fs, "writeSync").mockImplementation(((fd: number, bytes: Uint8Array) => {
      if (fd !== LAUNCHER_FD) return writeSync(fd, bytes);
      if (broken) throw Object.assign(new Error("EPIPE"), { code: "EPIPE" });
      if (room === 0) throw Object.assign(new Error("EAGAIN"), { code: "EAGAIN" });
      const taken = bytes.subarray(0, room);
      room -= taken.length;
      written.push(Buffer.from(taken).toString());
      return taken.length;
    }) as never),
    spyOn(fs, "closeSync").mockImplementation((fd) => {
      if (fd !== LAUNCHER_FD) return closeSync(fd);
      closed.push(fd);
    }),
    spyOn(globalThis, "setTimeout").mockImplementation(((fn: () => void, ms: number) => {
      timers.push([fn, ms]);
      return { unref() {} };
    }) as never),
  ];
});
afterEach(() => {
  for (const spy of spies) spy.mockRestore();
  delete process.env[VARIABLE];
});

describe("a router that was launched", () => {
  const launched = () => {
    process.env[VARIABLE] = VALUE;
    return openLauncher(log) ?? expect.unreachable();
  };
  const told = () =>
    written
      .join("")
      .split("\n")
      .filter(Boolean)
      .map((line) => JSON.parse(line));

  test("tells warnings and errors, with what names a peer, one a line; the log has all", () => {
    expect([VALUE, LAUNCHER_FD]).toEqual(["3", 3]);
    const { log: both } = launched();
    both.debug("d");
    both.info("i", { target: "h1" });
    both.warning("w", { target: "h1", peer: "p", address: "10.0.0.1" });
    both.error("e");
    expect(told()).toEqual([{ warning: "w", target: "h1", address: "10.0.0.1" }, { warning: "e" }]);
    expect(written.join("")).toEndWith("}\n");
    expect(lines).toEqual([
      "debug: d {}",
      'info: i {"target":"h1"}',
      'warning: w {"target":"h1","peer":"p","address":"10.0.0.1"}',
      "error: e {}",
    ]);
    // What it executes in its place must not write there.
    expect(process.env[VARIABLE]).toBeUndefined();
  });

  test("cuts a text at 2,048 characters", () => {
    const { log: both } = launched();
    both.warning("x".repeat(2_048));
    both.warning(`${"x".repeat(2_048)}y`);
    expect(told().map(({ warning }) => [warning.length, warning.at(-1)])).toEqual([
      [2_048, "x"],
      [2_048, "x"],
    ]);
  });

  test("tells nothing after the time that launch waits, and closes the pipe once", () => {
    const { log: both } = launched();
    expect([timers.length, timers[0]?.[1]]).toEqual([1, LAUNCHER_MS]);
    both.warning("early");
    timers[0]?.[0]();
    both.warning("late");
    timers[0]?.[0]();
    expect([told(), closed]).toEqual([[{ warning: "early" }], [LAUNCHER_FD]]);
    expect(lines.length).toBe(2);
  });

  test("goes on where the launcher has ended, and tries no more", () => {
    const { log: both } = launched();
    broken = true;
    both.error("one");
    broken = false;
    both.error("two");
    timers[0]?.[0]();
    expect([told(), closed, lines.length]).toEqual([[], [LAUNCHER_FD], 2]);
  });

  test("tells how it has started, and closes the pipe: what comes later is in the log alone", () => {
    const { log: both, started } = launched();
    started(STARTED);
    both.warning("late");
    started(STARTED);
    timers[0]?.[0]();
    expect([told(), closed, lines.length]).toEqual([[{ started: STARTED }], [LAUNCHER_FD], 1]);
  });

  test("goes on where the pipe was full, in whole lines, and keeps a bounded rest", () => {
    const { log: both, started } = launched();
    room = 10;
    const text = "x".repeat(2_000);
    for (let i = 0; i < 100; i++) both.warning(`${i}${text}`);
    started(STARTED);
    expect([written.join("").length, closed, timers.length]).toEqual([10, [], 2]);
    room = 30_000;
    timers[1]?.[0]();
    expect(closed).toEqual([]);
    room = Number.POSITIVE_INFINITY;
    timers[2]?.[0]();
    const all = told();
    expect([all.length < 25, all[0].warning.slice(0, 2), all.at(-1)]).toEqual([
      true,
      "0x",
      { started: STARTED },
    ]);
    expect(closed).toEqual([LAUNCHER_FD]);
  });

  test.each(["", "2", "4", "30"])("tells nobody with %p in the variable, which may be another's", (value) => {
    process.env[VARIABLE] = value;
    expect(openLauncher(log)).toBeUndefined();
    expect([VARIABLE in process.env, timers, closed]).toEqual([false, [], []]);
  });
});

describe("launch", () => {
  test("reads messages that may end in the middle of a line", () => {
    const messages = new LauncherMessages();
    messages.take(Buffer.from('{"warning":"one","address":"10.0.0.1"}\n{"warning":1}\n{"warning":"ha'));
    expect(messages.warnings).toEqual([{ warning: "one", address: "10.0.0.1" }]);
  });

  test("learns how the router has started, also behind more warnings than it keeps", async () => {
    const messages = new LauncherMessages();
    const warning = `${JSON.stringify({ warning: "x".repeat(20_000) })}\n`;
    const all = Buffer.from(
      `${warning}${warning.replace("x", "y")}${JSON.stringify({ started: STARTED })}\n`,
    );
    messages.take(all.subarray(0, -9));
    expect(await Promise.race([messages.started, "not yet"])).toBe("not yet");
    messages.take(all.subarray(-9));
    expect(await messages.started).toEqual(STARTED);
  });
});
