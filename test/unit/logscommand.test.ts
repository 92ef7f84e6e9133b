// weave logs: the last lines of the router's log, over a rotation and a truncation, without losing or repeating any.
import { afterEach, beforeEach, describe, expect, spyOn, test } from "bun:test";
import {
  appendFileSync,
  mkdtempSync,
  readdirSync,
  readlinkSync,
  renameSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { logPlace, logs } from "../../cmd/commands/logs.ts";
import { stdout } from "../../cmd/output/stdout.ts";

let folder: string;
let log: string;
let out: string;
let restore: () => void;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "weave-logs-"));
  log = join(folder, "weave.log");
  out = "";
  const before = process.env["WEAVE_RUN_DIR"];
  process.env["WEAVE_RUN_DIR"] = folder;
  const spies = [
    spyOn(process, "getuid").mockImplementation(() => 0),
    spyOn(stdout, "write").mockImplementation((bytes) => {
      out += new TextDecoder().decode(bytes as Uint8Array);
    }),
  ];
  restore = () => {
    for (const spy of spies) spy.mockRestore();
    if (before === undefined) delete process.env["WEAVE_RUN_DIR"];
    else process.env["WEAVE_RUN_DIR"] = before;
  };
});
afterEach(() => {
  restore();
  rmSync(folder, { recursive: true });
});

/** Lines from … to, each with its end. */
const lines = (from: number, to: number) =>
  Array.from({ length: to - from + 1 }, (_, i) => `line ${from + i}\n`).join("");
const printed = async (count: number | string, follow = false) => {
  out = "";
  await logs.run({ options: { lines: String(count), follow }, positionals: [] });
  return out;
};

/** The files of the log that this process has open. */
const readers = () =>
  readdirSync("/proc/self/fd").filter((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`).startsWith(log);
    } catch {
      // That of the listing itself.
      return false;
    }
  });

describe("the last lines", () => {
  test.each([
    [1, lines(9, 9)],
    [3, lines(7, 9)],
    [9, lines(1, 9)],
    [10, lines(1, 9)],
  ])("%d of 9", async (count, expected) => {
    writeFileSync(log, lines(1, 9));
    expect(await printed(count)).toBe(expected);
  });

  test("a last line without an end is one, too", async () => {
    writeFileSync(log, "one\ntwo\nthree");
    expect(await printed(2)).toBe("two\nthree");
  });

  test("an empty line is one", async () => {
    writeFileSync(log, "one\n\n\n");
    expect(await printed(2)).toBe("\n\n");
  });

  test.each([65_535, 65_536, 65_537, 131_072])(
    "are found behind a line of %d bytes, which is one",
    async (length) => {
      writeFileSync(log, `first\n${"x".repeat(length - 1)}\n${lines(1, 3)}`);
      expect(await printed(3)).toBe(lines(1, 3));
      expect(await printed(4)).toBe(`${"x".repeat(length - 1)}\n${lines(1, 3)}`);
      expect(await printed(5)).toStartWith("first\n");
    },
  );

  test("go on in the file before the rotation, for as many as are missing", async () => {
    writeFileSync(`${log}.1`, lines(1, 9));
    writeFileSync(log, lines(10, 12));
    expect(await printed(3)).toBe(lines(10, 12));
    expect(await printed(5)).toBe(lines(8, 12));
    expect(await printed(100)).toBe(lines(1, 12));
    expect(readers()).toEqual([]);
    writeFileSync(log, "");
    expect(await printed(2)).toBe(lines(8, 9));
  });

  test.each(["0", "-1", "1.5", "x", "1000001"])("%s is no number of lines", (count) => {
    writeFileSync(log, "");
    expect(printed(count)).rejects.toThrow(`--lines "${count}": not a number from 1 to 1000000`);
  });

  test("1,000,000 of them may be asked for", async () => {
    writeFileSync(log, "one\n");
    expect(await printed(1_000_000)).toBe("one\n");
  });
});

describe("following", () => {
  /** Follows the log; each step happens between two looks. */
  async function followed(...steps: (() => void)[]) {
    const waits: unknown[] = [];
    const open: number[] = [];
    const sleep = spyOn(Bun, "sleep").mockImplementation(async (ms) => {
      waits.push(ms);
      open.push(readers().length);
      const step = steps.shift();
      if (!step) throw new Error("enough");
      step();
    });
    try {
      await expect(printed(2, true)).rejects.toThrow("enough");
    } finally {
      sleep.mockRestore();
    }
    expect([new Set(waits), new Set(open)]).toEqual([new Set([250]), new Set([1])]);
    return out;
  }

  test("what is written comes, once", async () => {
    writeFileSync(log, lines(1, 4));
    const text = await followed(
      () => appendFileSync(log, lines(5, 6)),
      () => {},
      () => appendFileSync(log, "line 7"),
      () => appendFileSync(log, "\n"),
    );
    expect(text).toBe(lines(3, 7));
  });

  test("goes over a rotation: the end of the old file, then all of the new one", async () => {
    writeFileSync(log, lines(1, 4));
    const text = await followed(
      () => {
        appendFileSync(log, lines(5, 5));
        renameSync(log, `${log}.1`);
        writeFileSync(log, lines(6, 7));
      },
      () => appendFileSync(log, lines(8, 8)),
    );
    expect(text).toBe(lines(3, 8));
  });

  test("goes on while there is no file for a moment", async () => {
    writeFileSync(log, lines(1, 2));
    const text = await followed(
      () => renameSync(log, `${log}.1`),
      () => appendFileSync(`${log}.1`, lines(3, 3)),
      () => writeFileSync(log, lines(4, 4)),
      () => {},
    );
    expect(text).toBe(lines(1, 4));
  });

  test("begins anew in a file that was truncated", async () => {
    writeFileSync(log, lines(1, 4));
    const text = await followed(
      () => {
        truncateSync(log);
        appendFileSync(log, lines(5, 5));
      },
      () => {},
      () => appendFileSync(log, lines(6, 6)),
    );
    expect(text).toBe(lines(3, 6));
  });
});

test("without a router and its file there is no log", () => {
  expect(() => logPlace()).toThrow(`no log: weave is not running, and ${log} does not exist`);
  Bun.spawnSync(["mkfifo", log]);
  expect(() => logPlace()).toThrow(`no log: weave is not running, and ${log} is not a file`);
  rmSync(log);
  writeFileSync(log, "");
  expect(logPlace()).toEqual({ file: log });
});
