// What a starting router tells 'weave launch' through their pipe, and for how long.
import { afterEach, beforeEach, describe, expect, spyOn, test } from "bun:test";
import * as fs from "node:fs";
import type { Fields } from "../../lib/log/fields.ts";
import { type Log, logTo } from "../../lib/log/log.ts";
import { LAUNCHER_ENV, LAUNCHER_FD, LauncherWarnings, reportToLauncher } from "../../lib/router/launcher.ts";

const [VARIABLE = "", VALUE = ""] = Object.entries(LAUNCHER_ENV)[0] ?? [];

let written: string[];
let closed: number[];
let broken: boolean;
let timers: [() => void, number][];
let spies: { mockRestore(): void }[];
let lines: string[];
let log: Log;

beforeEach(() => {
  [written, closed, timers, lines, broken] = [[], [], [], [], false];
  log = logTo((level, text, fields: Fields = {}) =>
    lines.push(`${level}: ${text} ${JSON.stringify(fields)}`),
  );
  const { writeSync, closeSync } = fs;
  spies = [
    spyOn(fs, "writeSync").mockImplementation(((fd: number, ...rest: [string]) => {
      if (fd !== LAUNCHER_FD) return writeSync(fd, ...rest);
      if (broken) throw new Error("EPIPE");
      written.push(rest[0]);
      return rest[0].length;
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
    return reportToLauncher(log);
  };
  const told = () => written.map((line) => JSON.parse(line));

  test("tells warnings and errors, with what names a peer, one a line; the log has all", () => {
    expect([VALUE, LAUNCHER_FD]).toEqual(["3", 3]);
    const both = launched();
    both.debug("d");
    both.info("i", { target: "h1" });
    both.warning("w", { target: "h1", peer: "p", address: "10.0.0.1" });
    both.error("e");
    expect(told()).toEqual([{ warning: "w", target: "h1", address: "10.0.0.1" }, { warning: "e" }]);
    expect(written.every((line) => line.endsWith("}\n") && line.indexOf("\n") === line.length - 1)).toBe(
      true,
    );
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
    const both = launched();
    both.warning("x".repeat(2_048));
    both.warning(`${"x".repeat(2_048)}y`);
    expect(told().map(({ warning }) => [warning.length, warning.at(-1)])).toEqual([
      [2_048, "x"],
      [2_048, "x"],
    ]);
  });

  test("tells nothing after 10 s, and closes the pipe once", () => {
    const both = launched();
    expect([timers.length, timers[0]?.[1]]).toEqual([1, 10_000]);
    both.warning("early");
    timers[0]?.[0]();
    both.warning("late");
    timers[0]?.[0]();
    expect([told(), closed]).toEqual([[{ warning: "early" }], [LAUNCHER_FD]]);
    expect(lines.length).toBe(2);
  });

  test("goes on where the launcher has ended, and tries no more", () => {
    const both = launched();
    broken = true;
    both.error("one");
    broken = false;
    both.error("two");
    timers[0]?.[0]();
    expect([told(), closed, lines.length]).toEqual([[], [LAUNCHER_FD], 2]);
  });

  test.each(["", "2", "4", "30"])("tells nobody with %p in the variable, which may be another's", (value) => {
    process.env[VARIABLE] = value;
    expect(reportToLauncher(log)).toBe(log);
    expect([VARIABLE in process.env, timers, closed]).toEqual([false, [], []]);
  });
});

test("what launch reads may end in the middle of a line", () => {
  const warnings = new LauncherWarnings();
  warnings.take(Buffer.from('{"warning":"one","address":"10.0.0.1"}\n{"warning":1}\n{"warning":"ha'));
  expect(warnings.list).toEqual([{ warning: "one", address: "10.0.0.1" }]);
});
