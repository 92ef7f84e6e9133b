// Uncaught and caught errors of a daemon: what is counted, logged and told of, how often. The process's own handlers are the
// test's for as long.
import { afterEach, beforeEach, describe, expect, spyOn, test } from "bun:test";
import { logTo } from "../../lib/log/log.ts";
import type { UnexpectedError } from "../../lib/log/unexpected.ts";
import { noteUnwritten, unwrittenNotes } from "../../lib/log/unwritten.ts";

type Module = typeof import("../../lib/log/unexpected.ts");

let now: number;
let handlers: Map<string, (error: unknown) => void>;
let spies: { mockRestore(): void }[];
let lines: [string, string, object?][];
let storms: string[];
let told: UnexpectedError[];
let subject: Module;
let copies = 0;

beforeEach(async () => {
  [now, handlers, lines, storms, told] = [1_000, new Map(), [], [], []];
  spies = [
    spyOn(performance, "now").mockImplementation(() => now),
    spyOn(process, "on").mockImplementation(((event: string, handler: never) => {
      handlers.set(event, handler);
      return process;
    }) as never),
  ];
  // A module of its own for each test: what it counts, it counts since its start.
  subject = await import(`../../lib/log/unexpected.ts?copy=${++copies}`);
});
afterEach(() => {
  for (const spy of spies) spy.mockRestore();
});

const survive = () => {
  const log = logTo((level, text, fields) => lines.push([level, text, fields]));
  subject.surviveUnexpectedErrors(
    log,
    (why) => storms.push(why),
    (unexpected) => told.push(unexpected),
  );
};
const uncaught = (error: unknown) => handlers.get("uncaughtException")?.(error);
/** An error of a place in the code. */
const at = (place: string, message = "no") =>
  Object.assign(new Error(message), { stack: `Error: ${message}\n    at ${place}\n    at other (x.ts:1:1)` });

describe("unexpected errors", () => {
  test("end a program that is no daemon", () => {
    const error = new Error("no");
    expect(() => {
      subject.guarded("a part", () => {
        throw error;
      });
    }).toThrow(error);
    subject.noteFailure("a part", error);
    subject.noteFatal("a part", error);
    expect([subject.unexpectedErrors(), subject.unexpectedNotes()]).toEqual([
      { count: 0, last: undefined },
      [],
    ]);
  });

  test("are counted each, and logged once a minute for each place, as errors, with the number left out", () => {
    survive();
    uncaught(at("f (a.ts:1:2)"));
    uncaught(at("f (a.ts:1:2)", "again"));
    uncaught(at("g (b.ts:3:4)"));
    expect(lines).toEqual([
      ["error", "unexpected error in a callback: no", { place: "f (a.ts:1:2)" }],
      ["error", "unexpected error in a callback: no", { place: "g (b.ts:3:4)" }],
    ]);
    now += 60_000;
    uncaught(at("f (a.ts:1:2)"));
    expect(lines.at(-1)).toEqual([
      ...(["error", "unexpected error in a callback: no"] as const),
      { place: "f (a.ts:1:2)", suppressed: 1 },
    ]);
    expect(subject.unexpectedErrors()).toEqual({ count: 4, last: "a callback: no" });
    expect(subject.unexpectedNotes()).toEqual([
      "4 unexpected errors since the start, the last in a callback: no; see the log",
    ]);
  });

  test("are told of: the uncaught ones each, those that a part caught once for each place", () => {
    survive();
    const [one, two] = [at("f (a.ts:1:2)"), at("g (b.ts:3:4)")];
    for (let i = 0; i < 2; i++) {
      subject.guarded("a part", () => {
        throw one;
      });
      uncaught(one);
    }
    subject.noteFailure("a thread", two);
    subject.noteFailure("a thread", two);
    subject.noteFatal("an engine", two);
    handlers.get("unhandledRejection")?.("a text");
    expect(told).toEqual([
      { error: one, what: "a part", caught: true },
      { error: one, what: "a callback", caught: false },
      { error: one, what: "a callback", caught: false },
      { error: two, what: "a thread", caught: true },
      { error: two, what: "an engine", caught: false },
      { error: "a text", what: "a detached promise", caught: false },
    ]);
    expect(subject.unexpectedErrors().last).toBe("a detached promise: a text");
  });

  test("of parts are told of at 100 places, and no more", () => {
    survive();
    for (let i = 0; i < 102; i++) subject.noteFailure("a part", at(`f (a.ts:${i}:1)`));
    expect([told.length, subject.unexpectedErrors().count]).toEqual([100, 102]);
    uncaught(at("f (a.ts:999:1)"));
    expect(told.length).toBe(101);
  });

  test("more than 1,000 at once are a storm, which is told of once; fewer than as many a minute are none", async () => {
    survive();
    const fail = (count: number) => {
      for (let i = 0; i < count; i++) subject.noteFailure("a part", "no");
    };
    fail(subject.STORM);
    expect([subject.STORM, storms]).toEqual([1_000, []]);
    // What was taken is there again after a minute.
    now += 60_000;
    fail(1_000);
    expect(storms).toEqual([]);
    fail(1);
    expect(storms).toEqual(["more than 1000 unexpected errors within a minute, the last in a part: no"]);
    fail(2_000);
    expect(storms.length).toBe(1);
  });

  test("of a detached promise have its name; the others go on", async () => {
    survive();
    const error = at("f (a.ts:1:2)");
    subject.detached("a promise", Promise.reject(error));
    subject.detached("another", Promise.resolve());
    await Promise.resolve();
    await Promise.resolve();
    expect(told).toEqual([{ error, what: "a promise", caught: true }]);
    let ran = false;
    subject.guarded("a part", () => {
      ran = true;
    });
    expect([ran, subject.unexpectedErrors().count]).toEqual([true, 1]);
  });

  test("of the log itself are counted, and are no errors of the daemon", () => {
    survive();
    const before = Number(/lost (\d+) lines/.exec(unwrittenNotes().join())?.[1] ?? 0);
    noteUnwritten(new Error("EPIPE"));
    expect(subject.unexpectedNotes()).toEqual([`cannot write to the log, lost ${before + 1} lines: EPIPE`]);
    expect([subject.unexpectedErrors().count, told]).toEqual([0, []]);
  });
});
