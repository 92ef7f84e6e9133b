// What a command that refreshes writes: on a terminal in place, within its rows; elsewhere what is new.
import { afterEach, beforeEach, describe, expect, setSystemTime, spyOn, test } from "bun:test";
import { EventEmitter } from "node:events";
import * as fs from "node:fs";
import ansiEscapes from "ansi-escapes";
import { openScreen } from "../../cmd/live/screen.ts";
import { type Watched, watch, watchJson } from "../../cmd/live/watch.ts";
import { stdout } from "../../cmd/output/stdout.ts";
import { RouterDownError } from "../../lib/api/client.ts";
import { PLAIN } from "../../lib/help/layout.ts";

/** A terminal of that size, and what was written to it since the last call, without escapes. */
function terminal(columns: number, rows: number) {
  let written = "";
  const stream = Object.assign(new EventEmitter(), {
    ...{ columns, rows, isTTY: true },
    write(text: string) {
      written += text;
      return true;
    },
  });
  const raw = () => {
    const text = written;
    written = "";
    return text;
  };
  return {
    stream: stream as unknown as NodeJS.WriteStream,
    raw,
    rowsShown: () => Bun.stripANSI(raw()).trimEnd().split("\n"),
  };
}
const lines = (count: number, text = (i: number) => `line ${i}`) =>
  Array.from({ length: count }, (_, i) => ({ text: text(i + 1), marks: [] }));
const TITLE = ["weave status", "host1"] as const;

describe("a screen", () => {
  test("of 10 rows has room for the title, a gap and 7 lines; the cursor takes the last row", () => {
    const { stream, raw, rowsShown } = terminal(40, 10);
    const screen = openScreen(stream, () => {});
    raw();
    screen.draw(TITLE, lines(7), String);
    expect(rowsShown()).toEqual([
      "weave status                       host1",
      "",
      ...["line 1", "line 2", "line 3", "line 4", "line 5", "line 6", "line 7"],
    ]);
    screen.close();
  });

  test("says how many lines it has no room for, in the last of those it has", () => {
    const { stream, raw, rowsShown } = terminal(40, 10);
    const screen = openScreen(stream, () => {});
    raw();
    screen.draw(TITLE, lines(8), String);
    expect(rowsShown().slice(2)).toEqual([
      ...["line 1", "line 2", "line 3", "line 4", "line 5", "line 6"],
      "… 2 more lines",
    ]);
    screen.close();
  });

  test("counts a line that is broken as the rows that it takes", () => {
    const { stream, raw, rowsShown } = terminal(24, 7);
    const screen = openScreen(stream, () => {});
    raw();
    screen.draw(
      TITLE,
      lines(3, (i) => `${i} ${"x".repeat(12)} ${"y".repeat(12)}`),
      String,
    );
    expect(rowsShown()).toEqual([
      "weave status       host1",
      "",
      ...["1 xxxxxxxxxxxx", "       yyyyyyyyyyyy", "2 xxxxxxxxxxxx", "… 3 more lines"],
    ]);
    screen.close();
  });

  test("cuts a title that is too long, with two columns between its ends", () => {
    const { stream, raw, rowsShown } = terminal(16, 10);
    const screen = openScreen(stream, () => {});
    raw();
    screen.draw(TITLE, lines(1), String);
    expect(rowsShown()[0]).toBe("weave status  h…");
    screen.close();
  });

  test("takes 80 columns and 24 rows where the terminal says neither", () => {
    const { stream } = terminal(0, 0);
    const screen = openScreen(stream, () => {});
    expect([stream.columns, stream.rows]).toEqual([80, 24]);
    screen.close();
  });

  test("is left once, with the cursor shown, and listens to nothing after that", () => {
    const signals = () => ["SIGTSTP", "SIGCONT"].map((signal) => process.listenerCount(signal));
    const before = signals();
    const { stream, raw } = terminal(40, 10);
    let resized = 0;
    const screen = openScreen(stream, () => resized++);
    expect(raw()).toBe(
      ansiEscapes.enterAlternativeScreen + ansiEscapes.cursorHide + ansiEscapes.clearViewport,
    );
    stream.emit("resize");
    expect(resized).toBe(1);
    screen.close();
    screen.close();
    expect(raw().split(ansiEscapes.exitAlternativeScreen).length).toBe(2);
    stream.emit("resize");
    expect([resized, signals()]).toEqual([1, before]);
  });

  test("comes back after a stop, redrawn, and not where it was never left", () => {
    const { stream, raw } = terminal(40, 10);
    let redrawn = 0;
    const kill = spyOn(process, "kill").mockImplementation(() => true);
    const screen = openScreen(stream, () => redrawn++);
    try {
      process.emit("SIGCONT");
      expect(redrawn).toBe(0);
      raw();
      process.emit("SIGTSTP");
      expect(raw()).toEndWith(ansiEscapes.cursorShow + ansiEscapes.exitAlternativeScreen);
      expect(kill.mock.calls).toEqual([[process.pid, "SIGSTOP"]]);
      process.emit("SIGCONT");
      expect([redrawn, raw().includes(ansiEscapes.enterAlternativeScreen)]).toEqual([1, true]);
    } finally {
      screen.close();
      kill.mockRestore();
    }
  });
});

/** The end of a test's looks. */
class Enough extends Error {}

/** Look after look, until there are no more. */
const looks = (...all: readonly (readonly string[] | Error)[]) => {
  const left = [...all];
  return async () => {
    const next = left.shift() ?? new Enough();
    if (next instanceof Error) throw next;
    return next;
  };
};

describe("on a terminal", () => {
  /** The rows of each drawing, without the title. */
  async function drawn(watched: Partial<Watched> & Pick<Watched, "look">): Promise<string[][]> {
    const terminal = process.stdout;
    const before = { columns: terminal.columns, rows: terminal.rows };
    const wasTTY = stdout.isTTY;
    stdout.isTTY = true;
    Object.assign(terminal, { columns: 60, rows: 10 });
    let out = "";
    const spies = [
      spyOn(terminal, "write").mockImplementation((text) => {
        out += String(text);
        return true;
      }),
      // Each drawing is whole: the last one is as good as gone.
      spyOn(Bun, "sleep").mockImplementation(async (ms) => {
        expect(ms).toBe(2_000);
        terminal.emit("resize");
      }),
    ];
    const listeners = process.listenerCount("SIGINT");
    try {
      await expect(
        watch({ command: "weave status", everyMs: 2_000, style: PLAIN, ...watched }),
      ).rejects.toBeInstanceOf(Enough);
    } finally {
      for (const spy of spies) spy.mockRestore();
      Object.assign(terminal, before);
      stdout.isTTY = wasTTY;
    }
    expect(process.listenerCount("SIGINT")).toBe(listeners);
    expect(out).toEndWith(ansiEscapes.exitAlternativeScreen);
    return out
      .split(ansiEscapes.clearViewport)
      .slice(2)
      .map((drawing) => {
        const [title = "", gap, ...rows] = Bun.stripANSI(drawing).trimEnd().split("\n");
        expect(title).toMatch(/^Every 2 s: weave status {2,}\S+ {2}\d\d:\d\d:\d\d$/);
        expect(gap).toBe("");
        return rows.filter((row) => !row.startsWith("Every"));
      });
  }

  test("the present lines are shown; without colour an asterisk marks those that have changed", async () => {
    const rows = await drawn({ look: looks(["a 1 x", "b 1 x"], ["a 1 y", "b 1 x"]) });
    expect(rows.map((each) => each.slice(0, 2))).toEqual([
      ["  a 1 x", "  b 1 x"],
      ["* a 1 y", "  b 1 x"],
    ]);
  });

  test("nothing is marked where there are only measurements", async () => {
    const rows = await drawn({ look: looks(["a 1 x"], ["a 1 y"]), marks: false });
    expect(rows.map(([row]) => row)).toEqual(["a 1 x", "a 1 y"]);
  });

  test("a change is marked with the style's colour", async () => {
    const mark = (text: string) => `<${text}>`;
    const rows = await drawn({ look: looks(["a 1 x"], ["a 1 y"]), style: { ...PLAIN, mark } });
    expect(rows.map(([row]) => row)).toEqual(["a 1 x", "a 1 <y>"]);
  });

  test("a router that is away is said with since when, until it answers; each time anew", async () => {
    const down = new RouterDownError("x");
    const look = looks(["a"], down, down, ["b"], down, ["c"]);
    let minute = 0;
    try {
      const rows = await drawn({
        look() {
          setSystemTime(new Date(2026, 0, 1, 12, ++minute));
          return look();
        },
      });
      expect(rows.flat().join(" ")).toMatch(/^ {2}a +weave is not running.* \* b .* \* c/);
      const since = rows.flat().filter((row) => row.startsWith("since"));
      expect([...new Set(since)]).toEqual([2, 5].map((at) => `since 12:0${at}:00; trying again`));
    } finally {
      setSystemTime();
    }
  });
});

describe("without a terminal", () => {
  let [out, err] = ["", ""];
  let spies: { mockRestore(): void }[] = [];
  beforeEach(() => {
    [out, err] = ["", ""];
    spies = [
      spyOn(stdout, "write").mockImplementation((text) => {
        out += String(text);
      }),
      spyOn(fs, "writeSync").mockImplementation(((_fd: number, text: string) => {
        err += String(text);
        return text.length;
      }) as never),
    ];
  });
  afterEach(() => {
    for (const spy of spies) spy.mockRestore();
  });

  const watched = (look: Watched["look"]): Watched => ({
    command: "weave status",
    everyMs: 0,
    style: PLAIN,
    look,
  });

  test("all lines come once, and then those that are new or have changed", async () => {
    const look = looks(["a 1 x", "b 1 x"], ["a 1 x", "b 1 x"], ["a 1 y", "b 1 x", "c 1 x"]);
    await expect(watch(watched(look))).rejects.toBeInstanceOf(Enough);
    expect([out, err]).toEqual(["a 1 x\nb 1 x\na 1 y\nc 1 x\n", ""]);
  });

  test("a router that is away is said once, each reason, and that it answers again", async () => {
    const [down, other] = [new RouterDownError("down"), new RouterDownError("away")];
    const look = looks(["a"], down, down, other, ["a"], ["a"], down);
    await expect(watch(watched(look))).rejects.toBeInstanceOf(Enough);
    expect(out).toBe("a\n");
    expect(err.split("\n").map((line) => line.replace(/^weave status: /, ""))).toEqual([
      `${down.message}; waiting for it`,
      `${other.message}; waiting for it`,
      "the router answers again",
      `${down.message}; waiting for it`,
      "",
    ]);
  });

  test("as JSON each look is a line; a router that is away is said once", async () => {
    const down = new RouterDownError("down");
    const look = looks(["a"], down, down, ["b"], down);
    await expect(watchJson("weave top", 0, look)).rejects.toBeInstanceOf(Enough);
    expect(out).toBe('["a"]\n["b"]\n');
    expect(err).toBe(`weave top: ${down.message}; waiting for it\n`.repeat(2));
  });

  test("nothing listens to signals after the end", async () => {
    const count = () => ["SIGINT", "SIGTERM", "SIGHUP"].map((signal) => process.listenerCount(signal));
    const before = [...count(), process.stdout.listenerCount("error")];
    await watch(watched(looks())).catch(() => {});
    await watchJson("x", 0, looks()).catch(() => {});
    expect([...count(), process.stdout.listenerCount("error")]).toEqual(before);
  });

  test.each([
    ["SIGINT", 0],
    ["SIGTERM", 143],
    ["SIGHUP", 129],
  ] as const)("%s ends it with exit code %d", async (signal, code) => {
    const exit = spyOn(process, "exit").mockImplementation(() => undefined as never);
    spies.push(exit);
    const look = async () => {
      void process.emit(signal);
      throw new Enough();
    };
    await expect(watch(watched(look))).rejects.toBeInstanceOf(Enough);
    expect(exit.mock.calls).toEqual([[code]]);
  });

  test("a reader that has gone ends it well, another failure of the output does not", async () => {
    const exit = spyOn(process, "exit").mockImplementation(() => undefined as never);
    spies.push(exit);
    const look = async () => {
      for (const code of ["EPIPE", "EIO"]) process.stdout.emit("error", Object.assign(new Error(), { code }));
      throw new Enough();
    };
    await expect(watch(watched(look))).rejects.toBeInstanceOf(Enough);
    expect(exit.mock.calls).toEqual([[0], [1]]);
  });
});
