// The log file of a router in the background: it is bounded, and the last lines are always there.
import { afterAll, expect, test } from "bun:test";
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { previousLog } from "../../lib/router/logfile.ts";

const folder = mkdtempSync(join(tmpdir(), "weave-logfile-"));
afterAll(() => rmSync(folder, { recursive: true }));

const LIMIT = 1_000;
const LINES = 300;
/** Numbered lines, and at the end one that is no log line: a crash writes straight to standard error. */
const SCRIPT = `
  const { boundedLog } = require("./lib/router/logfile.ts");
  const write = boundedLog(process.argv.at(-1), ${LIMIT}) ?? ((line) => process.stderr.write(line));
  for (let i = 1; i <= Number(process.env.LINES); i++) {
    write("line " + i + "\\n");
    if (i % 50 === 0) await Bun.sleep(1);
  }
  console.log("to standard output");
  require("node:fs").writeSync(2, "crashed\\n");
`;

/** Runs it with standard error and output appended to a file; `file` is the one that it takes for its log. */
function run(stderr: string, file: string, before = "", count = LINES): void {
  writeFileSync(stderr, before);
  const { exitCode } = Bun.spawnSync(
    ["sh", "-c", 'exec "$@" >>"$OUT" 2>&1', "sh", process.execPath, "-e", SCRIPT, file],
    { cwd: join(import.meta.dir, "../.."), env: { ...process.env, OUT: stderr, LINES: `${count}` } },
  );
  expect(exitCode).toBe(0);
}

const numbers = (text: string) => [...text.matchAll(/^line (\d+)$/gm)].map(([, number]) => Number(number));

test("two files of bounded size have the last lines, without a gap, and all else that is written", () => {
  const file = join(folder, "weave.log");
  run(file, file, `${"old\n".repeat(500)}`);
  const [latest, previous] = [readFileSync(file, "utf8"), readFileSync(previousLog(file), "utf8")];
  expect(latest.length).toBeLessThan(LIMIT + 100);
  expect(previous.length).toBeLessThan(LIMIT + 100);
  const kept = numbers(previous + latest);
  expect(kept.at(-1)).toBe(LINES);
  expect(kept).toEqual(Array.from(kept, (_, at) => LINES - kept.length + 1 + at));
  expect(kept.length).toBeGreaterThan(LIMIT / "line 300\n".length);
  expect(latest).toEndWith("to standard output\ncrashed\n");
  expect(statSync(file).mode & 0o777).toBe(0o640);
});

test("what was written before counts: one that is full is begun anew at the first line, one that is not goes on", () => {
  for (const [size, rotated] of [
    [LIMIT, true],
    [LIMIT - 1, false],
  ] as const) {
    const file = join(folder, `old-${size}.log`);
    run(file, file, "o".repeat(size - 1).concat("\n"), 1);
    expect([existsSync(previousLog(file)), numbers(readFileSync(file, "utf8"))]).toEqual([rotated, [1]]);
  }
});

test("a file that somebody else made of standard error is theirs to rotate", () => {
  const theirs = join(folder, "theirs.log");
  run(theirs, join(folder, "ours.log"));
  expect(numbers(readFileSync(theirs, "utf8"))).toHaveLength(LINES);
});

test("a file that cannot be renamed is truncated, and says so", () => {
  const file = join(folder, "stuck.log");
  const previous = previousLog(file);
  // A folder that is not empty stands where the lines before would go.
  Bun.spawnSync(["mkdir", "-p", join(previous, "full")]);
  run(file, file);
  const text = readFileSync(file, "utf8");
  expect(text.length).toBeLessThan(LIMIT + 500);
  expect(text).toMatch(/^weave-router: cannot rotate the log .*stuck\.log, truncated it: /);
  expect(numbers(text).at(-1)).toBe(LINES);
});
