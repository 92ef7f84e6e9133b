// The thread for container work: its answers, its failures and hangs, and the bounds on both. Threads run a program of the test.
import { afterEach, beforeEach, describe, expect, spyOn, test } from "bun:test";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { systemClock } from "../../lib/clock/clock.ts";
import { AlreadyAttachedError } from "../../lib/host/attach.ts";
import { BusyError, WorkThread } from "../../lib/host/workthread.ts";
import { eventually } from "../support/hosts.ts";
import { simulateSystemClock } from "../support/systemclock.ts";

/** Does what the first parameter of an operation says. */
const PROGRAM = `
import { appendFileSync } from "node:fs";
import { parentPort } from "node:worker_threads";
appendFileSync(new URL("starts", import.meta.url), "x");
parentPort.on("message", ({ id, operation, parameters: [what] }) => {
  const by = { attached: "answer" }[operation] ?? what?.do ?? what;
  if (by === "answer") parentPort.postMessage({ id, result: [operation, what ?? null] });
  if (by === "twice") for (let i = 0; i < 2; i++) parentPort.postMessage({ id, result: i });
  if (by === "refuse") parentPort.postMessage({ id, failure: { name: "AlreadyAttachedError", message: "is attached" } });
  if (by === "throw") throw new Error("it broke");
  if (by === "exit") process.exit(3);
  if (by === "loop") for (;;) {}
  if (by === "sleep") Bun.spawnSync(["sh", "-c", "printf x >> starts; while [ -e gate ]; do sleep 0.05; done"], { cwd: import.meta.dir });
});
`;

let folder: string;
let program: URL;
let threads: WorkThread[];
let time: ReturnType<typeof simulateSystemClock>;
beforeEach(() => {
  time = simulateSystemClock();
  folder = mkdtempSync(join(tmpdir(), "weave-thread-"));
  program = pathToFileURL(join(folder, "program.ts"));
  writeFileSync(program, PROGRAM);
  threads = [];
});
afterEach(() => {
  for (const thread of threads) thread.stop();
  time[Symbol.dispose]();
  rmSync(folder, { recursive: true });
});

function thread(timeoutMs = 60_000): WorkThread {
  const made = new WorkThread(program, timeoutMs);
  threads.push(made);
  return made;
}
const LIMITS = [
  { name: "container-work", value: 0, max: 1_024 },
  { name: "hanging-threads", value: 0, max: 5 },
];
/** Resolves once all abandoned threads have ended. */
const ended = (of: WorkThread) =>
  eventually(
    "abandoned threads end",
    async () => of.limits()[1]?.value,
    (value) => value === 0,
  );
/** How a call is rejected. */
const failure = (call: Promise<unknown>): Promise<Error> =>
  call.then(
    () => new Error("it was answered"),
    (error) => error,
  );
const starts = () => readFileSync(join(folder, "starts"), "utf8").length;
const started = () => (existsSync(join(folder, "starts")) ? starts() : 0);
const ask = (of: WorkThread, what: string) => of.attach({ do: what } as never) as Promise<unknown>;

describe("the work thread", () => {
  test("answers each call by its own, whatever their order; its refusals have their class", async () => {
    const of = thread();
    const [refused, answered, attached] = await Promise.all([
      failure(ask(of, "refuse")),
      of.detach("answer" as never),
      of.attached(),
    ]);
    expect(refused).toBeInstanceOf(AlreadyAttachedError);
    expect(refused.message).toBe("is attached");
    expect([answered as unknown, attached as unknown]).toEqual([
      ["detach", "answer"],
      ["attached", null],
    ]);
    for (const operation of ["addEndpoint", "tuneEndpoint", "inspect", "inspectPorts", "applyMtu"] as const)
      expect(await (of[operation] as (what: string) => Promise<unknown>)("answer")).toEqual([
        operation,
        "answer",
      ]);
    // A second answer of one call is nobody's.
    expect([await ask(of, "twice"), await ask(of, "answer")]).toEqual([0, ["attach", { do: "answer" }]]);
    expect([of.notes(), of.limits()]).toEqual([[], LIMITS]);
  });

  test.each([
    ["throw", /it broke/],
    ["exit", /the thread has ended \(exit code 3\)/],
  ])("that fails (%s) rejects all that wait, is told of, and is started again", async (how, why) => {
    const of = thread();
    const failed = await Promise.all(["hang", how].map((what) => failure(ask(of, what))));
    for (const error of failed) {
      expect(error).toBeInstanceOf(BusyError);
      expect(error.message).toMatch(why);
    }
    expect(of.notes()).toEqual([
      expect.stringMatching(/^the thread for container work has failed 1 times, the last: /),
    ]);
    expect(of.notes()[0]).toMatch(why);
    expect([await ask(of, "answer"), of.limits()[0]?.value]).toEqual([["attach", { do: "answer" }], 0]);
  });

  test.each(["hang", "loop"])("that hangs (%s) is given up after its time, in seconds", async (how) => {
    const of = thread(100);
    const failed = failure(ask(of, how));
    time.clock.advance(99);
    expect(of.notes()).toEqual([]);
    time.clock.advance(1);
    expect(await failed).toBeInstanceOf(BusyError);
    expect((await failed).message).toBe("container work: no answer within 0.1 s (attach)");
    expect(of.notes()[0]).toEndWith("the last: container work: no answer within 0.1 s (attach)");
    expect(await ask(of, "answer")).toBeDefined();
    await ended(of);
  });

  test("is given the time that this process runs, not that of a stop", async () => {
    const of = thread(100);
    const answered = ask(of, "answer");
    // 60 of the 100 ms are a stop.
    spyOn(systemClock, "now").mockImplementation(() => time.clock.now() - 60);
    time.clock.advance(100);
    expect(of.notes()).toEqual([]);
    expect(await answered).toBeDefined();
  });

  test("is not started beside five that hang", async () => {
    const of = thread(100);
    writeFileSync(join(folder, "gate"), "");
    for (let i = 1; i <= 5; i++) {
      const failed = failure(ask(of, "sleep"));
      // Twice each: the thread, and its sleep, which nothing but the gate ends.
      await eventually("it sleeps", started, (count) => count === 2 * i);
      time.clock.advance(12_000);
      expect((await failed).message).toContain("no answer within");
    }
    expect(of.limits()[1]?.value).toBe(5);
    expect((await failure(ask(of, "answer"))).message).toBe("container work: 5 threads hang");
    rmSync(join(folder, "gate"));
    await ended(of);
    expect(await ask(of, "answer")).toBeDefined();
  });

  test("may fail 5 times, then once every 12 s", async () => {
    const of = thread();
    const fail = () => ask(of, "throw").catch((error: Error) => error.message);
    for (let i = 0; i < 5; i++) expect(await fail()).toContain("it broke");
    expect(await fail()).toContain("container work fails again and again: it broke");
    of.warm();
    time.clock.advance(11_999);
    expect(await fail()).toContain("fails again and again");
    time.clock.advance(1);
    expect(await fail()).not.toContain("again and again");
    expect(await fail()).toContain("fails again and again");
    expect(starts()).toBe(6);
  });

  test("takes 1,024 calls at a time", async () => {
    const of = thread();
    const waiting = Array.from({ length: 1_024 }, () => failure(ask(of, "hang")));
    expect(of.limits()[0]?.value).toBe(1_024);
    await expect(ask(of, "answer")).rejects.toThrow("container work: 1024 calls are waiting");
    of.stop();
    expect((await waiting[0])?.message).toBe("container work: the router is stopping");
    expect(of.limits()[0]?.value).toBe(0);
  });

  test("is started before it is needed, once; and never after the end", async () => {
    const of = thread();
    of.warm();
    of.warm();
    expect([await ask(of, "answer"), starts()]).toEqual([["attach", { do: "answer" }], 1]);
    of.stop();
    of.warm();
    const failed = await failure(ask(of, "answer"));
    expect([failed instanceof BusyError, failed.message]).toEqual([
      true,
      "container work: the router is stopping",
    ]);
    expect(of.notes()).toEqual([]);
  });
});

describe("the program of the work thread", () => {
  test("answers each removal separately, more than a batch holds: removed, unknown, or the error", async () => {
    const of = new WorkThread();
    threads.push(of);
    const link = (netns: string, alias?: string) => ({ netns, ifName: "eth0", alias }) as never;
    const nowhere = Array.from({ length: 20 }, (_, i) => of.detach(link(join(folder, `${i}`), `weave:${i}`)));
    const [unnamed, none] = [
      of.detach(link(join(folder, "x"))),
      failure(of.detach(link(join(folder, "program.ts", "x"), "weave:x"))),
    ];
    const inspected = of.inspectPorts([] as never);
    expect(await Promise.all([...nowhere, unnamed])).toEqual([...Array(20).fill(true), false]);
    expect((await none).message).toContain(folder);
    expect(await inspected).toEqual(new Map());
    expect(of.limits()[0]?.value).toBe(0);
  });
});
