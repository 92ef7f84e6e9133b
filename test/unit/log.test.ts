// Logs: what is repeated without end is written once a minute.
import { expect, test } from "bun:test";
import { closeSync, constants, mkdtempSync, openSync, readSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { SimulatedClock } from "../../lib/clock/simulated.ts";
import { LOG_BURST } from "../../lib/log/allowance.ts";
import { logfmt } from "../../lib/log/fields.ts";
import { limitedLines, limitedWarnings } from "../../lib/log/limited.ts";
import { createLog, logTo } from "../../lib/log/log.ts";
import { printable, printedLines } from "../../lib/log/printable.ts";
import { STORM } from "../../lib/log/unexpected.ts";
import { eventually } from "../support/hosts.ts";

const linesTo = (lines: string[]) => logTo((_level, text, fields) => lines.push(text + logfmt(fields)));

test("fields stand behind the text, those of a log before those of a line, quoted where a reader would err", () => {
  const lines: string[] = [];
  const log = createLog("info", "text", (line) => lines.push(line));
  const child = log.with({ component: "mesh" }).with({ peer: "host1" });
  child.debug("too low", { a: 1 });
  child.warning("refused", { port: 6783, own: true, none: undefined, list: ["a", "b"] });
  child.error("odd", {
    empty: "",
    space: "a b",
    quote: 'a"b',
    equals: "a=b",
    path: "C:\\",
    line: "a\nERRO: b",
  });
  child.info("turned", { peer: "\u202eevil" });
  log.info("plain");
  log.info("of a peer: a\nERRO: b\u001b[31m\u202e");
  expect(lines.map((line) => line.replace(/(: )\S+ \S+ /, "$1"))).toEqual([
    "WARN: refused component=mesh peer=host1 port=6783 own=true list=a,b\n",
    'ERRO: odd component=mesh peer=host1 empty="" space="a b" quote="a\\"b" equals="a=b" path="C:\\\\" line="a\\nERRO: b"\n',
    'INFO: turned component=mesh peer="\\u202eevil"\n',
    "INFO: plain\n",
    "INFO: of a peer: a\\x0aERRO: b\\x1b[31m\\u202e\n",
  ]);
  expect(lines[0]).toMatch(/^WARN: \d{4}\/\d\d\/\d\d \d\d:\d\d:\d\d\.\d{3} refused/);
});

test("as JSON, a line is one object on one line, with its fields as properties, and nothing in it moves a cursor", () => {
  const lines: string[] = [];
  const log = createLog("info", "json", (line) => lines.push(line)).with({ peer: "a\nb\u009b\u202e" });
  log.warning("refused\u2028", { port: 6783, own: true, none: undefined });
  log.debug("too low");
  const [line = "", ...others] = lines;
  expect(others).toEqual([]);
  expect(printedLines([line.slice(0, -1)])).toBe(line);
  const { time, ...rest } = JSON.parse(line);
  expect(new Date(time).toISOString()).toBe(time);
  expect(Object.entries(rest)).toEqual([
    ["level", "warning"],
    ["msg", "refused\u2028"],
    ["peer", "a\nb\u009b\u202e"],
    ["port", 6783],
    ["own", true],
  ]);
});

test("a warning of one kind is logged at most once a minute, and says how many were left out", () => {
  let now = 0;
  const lines: string[] = [];
  const warn = limitedWarnings(linesTo(lines), () => now);
  for (; now < 60_000; now += 1_000) warn("a", "refused");
  warn("b", "another");
  expect(lines).toEqual(["refused", "another"]);
  warn("a", "refused", { peer: "host2" });
  expect(lines.slice(2)).toEqual(["refused peer=host2 suppressed=59"]);
  warn("a", "refused");
  expect(lines.length).toBe(3);
});

test("kinds that somebody makes up do not fill the log, and a clock that is set back does not silence it", () => {
  let now = 3_600_000;
  const lines: string[] = [];
  const warn = limitedWarnings(linesTo(lines), () => now);
  const characters = () => lines.reduce((sum, line) => sum + line.length, 0);
  for (let i = 0; i < 10_000; i++) warn(`refused ${i}`, `refused ${"\u0001".repeat(50)}`);
  expect(characters() * 4).toBeLessThan(2 * LOG_BURST);
  const before = characters();
  for (let i = 0; i < 36_000; i++, now += 100) warn(`later ${i}`, "refused a peer of a name of its own");
  expect(characters() - before).toBeLessThan(1_000_000);
  expect(lines.at(-1)).toMatch(/ linesDropped=\d+$/);
  const count = lines.length;
  now -= 7_200_000;
  warn("later 35999", "again");
  expect(lines.length).toBe(count);
  now += 60_000;
  warn("clock", "one");
  now -= 3_600_000;
  warn("clock", "two");
  expect(lines.slice(-2)).toEqual([expect.stringContaining("one"), expect.stringContaining("two")]);
});

const UNEXPECTED = `
  import { createLog } from "./lib/log/log.ts";
  import { detached, surviveUnexpectedErrors, unexpectedErrors } from "./lib/log/unexpected.ts";
  import { every, systemClock } from "./lib/clock/clock.ts";
  if (process.argv.includes("daemon")) surviveUnexpectedErrors(createLog("info"), () => {});
  let ticks = 0;
  every(systemClock, 1, () => {
    if (++ticks === 5) {
      console.log(JSON.stringify(unexpectedErrors()));
      process.exit(0);
    }
    throw new Error("in a timer");
  });
  detached("a promise", Promise.reject(new Error("of a promise")));
`;

test("errors that nobody caught are counted, logged once for each place, and end no daemon", () => {
  const run = (...args: string[]) => {
    const { exitCode, stdout, stderr } = Bun.spawnSync([process.execPath, "-e", UNEXPECTED, ...args], {
      cwd: `${import.meta.dir}/../..`,
    });
    return { exitCode, stdout: stdout.toString(), lines: stderr.toString().trim().split("\n") };
  };
  const daemon = run("daemon");
  expect(daemon.exitCode).toBe(0);
  expect(JSON.parse(daemon.stdout)).toEqual({ count: 5, last: "a callback: in a timer" });
  expect(daemon.lines.length).toBe(2);
  expect(daemon.lines[0]).toContain("unexpected error in a promise: of a promise");
  expect(daemon.lines[1]).toMatch(/ unexpected error in a callback: in a timer place=".+:\d+:\d+\)?"$/);
  expect(run().exitCode).toBe(1);
});

const STORMY = `
  import { silentLog } from "./lib/log/log.ts";
  import { detached, surviveUnexpectedErrors } from "./lib/log/unexpected.ts";
  const STORM = 1_000;
  const storms = [];
  surviveUnexpectedErrors(silentLog, (why) => storms.push(why));
  const fail = async (count) => {
    for (let i = 0; i < count; i++) detached("a promise", Promise.reject(new Error("no")));
    await Bun.sleep(1);
  };
  await fail(${STORM});
  console.log(storms.length);
  await fail(${STORM});
  console.log(storms.join());
  process.exit(0);
`;

test("errors without end are told of once, for whoever can start again", () => {
  const { stdout } = Bun.spawnSync([process.execPath, "-e", STORMY], { cwd: `${import.meta.dir}/../..` });
  expect(stdout.toString().trim().split("\n")).toEqual([
    "0",
    "more than 1000 unexpected errors within a minute, the last in a promise: no",
  ]);
});

const UNWRITTEN = `
  import { createLog } from "./lib/log/log.ts";
  import { surviveUnexpectedErrors, unexpectedErrors, unexpectedNotes } from "./lib/log/unexpected.ts";
  const log = createLog("info");
  surviveUnexpectedErrors(log, () => {});
  for (let i = 0; i < 3; i++) {
    log.info("a line");
    await Bun.sleep(1);
  }
  console.log(JSON.stringify([unexpectedErrors().count, unexpectedNotes()]));
`;

test("a log on a full disk is lost, and said to be; nothing else happens", () => {
  const { stdout } = Bun.spawnSync(
    ["sh", "-c", 'exec "$@" 2>/dev/full', "sh", process.execPath, "-e", UNWRITTEN],
    {
      cwd: `${import.meta.dir}/../..`,
    },
  );
  expect(JSON.parse(stdout.toString())).toEqual([
    0,
    [expect.stringMatching(/^cannot write to the log, lost 3 lines: ENOSPC/)],
  ]);
});

const UNREAD = `
  import { createLog } from "./lib/log/log.ts";
  import { unexpectedNotes } from "./lib/log/unexpected.ts";
  const log = createLog("info");
  for (let i = 0; i < 3_000; i++) log.info("x".repeat(1_000));
  console.log(JSON.stringify(unexpectedNotes()));
  await console[Symbol.asyncIterator]().next();
  log.info("the last");
`;

test("a log whose reader stops does not fill the memory: lines are lost, and said to be, until it goes on", async () => {
  const folder = mkdtempSync(join(tmpdir(), "weave-log-"));
  const fifo = join(folder, "log");
  Bun.spawnSync(["mkfifo", fifo]);
  const reader = openSync(fifo, constants.O_RDONLY | constants.O_NONBLOCK);
  const writer = openSync(fifo, constants.O_WRONLY);
  rmSync(folder, { recursive: true });
  const child = Bun.spawn([process.execPath, "-e", UNREAD], {
    cwd: `${import.meta.dir}/../..`,
    stdio: ["pipe", "pipe", writer],
  });
  closeSync(writer);
  try {
    const said = new TextDecoder().decode((await child.stdout.getReader().read()).value);
    const lost = Number(/"cannot write to the log, lost (\d+) lines: its reader/.exec(said)?.[1]);
    // 1 MiB waits, and the pipe has room for some.
    expect(lost).toBeGreaterThan(1_500);
    const room = Buffer.alloc(1 << 16);
    let text = "";
    const lines = () => text.split("\n").length - 1;
    const read = () => {
      try {
        text += room.toString("latin1", 0, readSync(reader, room));
      } catch {
        // Nothing is there yet.
      }
      return lines();
    };
    await eventually("what waits is read", read, (count) => count === 3_000 - lost);
    child.stdin.write("\n");
    child.stdin.end();
    await eventually("lines are written again", read, (count) => count === 3_000 - lost + 1);
    expect(text).toEndWith("the last\n");
  } finally {
    closeSync(reader);
    child.kill();
  }
});

test("lines that a fault could repeat without end are counted instead", () => {
  const clock = new SimulatedClock();
  const lines: string[] = [];
  const log = limitedLines(linesTo(lines), () => clock.now(), 3);
  for (let i = 0; i < 10; i++) log(`line ${i}`);
  expect(lines).toEqual(["line 0", "line 1", "line 2"]);
  clock.advance(61_000);
  log("later");
  expect(lines.slice(3)).toEqual(["suppressed similar lines suppressed=7", "later"]);
});

test("what others say cannot start a line, move the cursor or turn the direction of writing", () => {
  expect(printable("a\nb\u001b[31m\u009b1m\u202egpj.exe\u2028é€")).toBe(
    "a\\x0ab\\x1b[31m\\x9b1m\\u202egpj.exe\\u2028é€",
  );
  expect(printedLines(["a\rb", ""])).toBe("a\\x0db\n\n");
});

test("the code of an event is in JSON, and not in text", () => {
  const lines: string[] = [];
  for (const format of ["text", "json"] as const)
    createLog("info", format, (line) => lines.push(line)).info("attempting connection", {
      code: "dialling",
      address: "a",
    });
  expect(lines[0]).toMatch(/^INFO: \S+ \S+ attempting connection address=a\n$/);
  expect(JSON.parse(lines[1] ?? "")).toMatchObject({
    msg: "attempting connection",
    code: "dialling",
    address: "a",
  });
});
