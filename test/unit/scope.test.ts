// The stack of a daemon's steps: undone in reverse order, each once, whatever one of them throws.
import { describe, expect, test } from "bun:test";
import { InterruptedError, Scope } from "../../lib/sys/scope.ts";

function scopeWith(steps: readonly string[]) {
  const done: string[] = [];
  const scope = new Scope((what, error) => done.push(`${what} failed: ${(error as Error).message}`));
  for (const step of steps) scope.defer(step, () => done.push(step));
  return { scope, done };
}

describe("the end of a scope", () => {
  test("undoes the last step first, each once", async () => {
    const { scope, done } = scopeWith(["one", "two", "three"]);
    await Promise.all([scope.end(), scope.end()]);
    await scope.end();
    expect(done).toEqual(["three", "two", "one"]);
  });

  test("skips nothing and hides nothing if a step throws or rejects", async () => {
    const { scope, done } = scopeWith(["one"]);
    scope.defer("two", () => {
      throw new Error("no");
    });
    scope.defer("three", () => Promise.reject(new Error("never")));
    await scope.end();
    expect(done).toEqual(["three failed: never", "two failed: no", "one"]);
  });

  test("waits for each step before the next", async () => {
    const { scope, done } = scopeWith(["one"]);
    scope.defer("slow", async () => {
      await Bun.sleep(1);
      done.push("slow");
    });
    await scope.end();
    expect(done).toEqual(["slow", "one"]);
  });

  test.each([
    [true, ["socket"]],
    [false, ["link", "socket"]],
  ])("keeps what outlives the daemon if it was started (%p)", async (started, expected) => {
    const { scope, done } = scopeWith(["socket"]);
    scope.deferUnlessStarted("link", () => done.push("link"));
    if (started) scope.start();
    await scope.end();
    expect(done).toEqual(expected);
  });
});

test.each([1, 2, 3, 4, 5])(
  "a start that fails at step %p of 5 undoes the steps before it, whatever undos throw",
  async (at) => {
    const { scope, done } = scopeWith([]);
    const start = () => {
      for (let step = 1; step <= 5; step++) {
        if (step === at) throw new Error(`no step ${step}`);
        const undo = () => {
          done.push(String(step));
          if (step % 2 === 0) throw new Error("no undo");
        };
        if (step === 3) scope.use(`step ${step}`, { stop: undo });
        else scope.defer(`step ${step}`, undo);
      }
    };
    expect(start).toThrow(`no step ${at}`);
    await scope.end();
    const undone = [1, 2, 3, 4].filter((step) => step < at).reverse();
    const told = (step: number) => [`${step}`, ...(step % 2 === 0 ? [`step ${step} failed: no undo`] : [])];
    expect(done).toEqual(undone.flatMap(told));
  },
);

test("the state of a daemon goes one way", async () => {
  const { scope } = scopeWith([]);
  const seen = [scope.state];
  scope.use("part", { stop: () => seen.push(scope.state) });
  scope.start();
  seen.push(scope.state);
  scope.interrupt();
  seen.push(scope.state);
  await scope.end();
  expect([...seen, scope.state]).toEqual(["starting", "ready", "draining", "draining", "stopped"]);
  expect(scope.current).toBeUndefined();
});

test("a start that is given up is never ready, and its end needs no interruption", async () => {
  const { scope: interrupted } = scopeWith([]);
  interrupted.interrupt();
  expect(interrupted.state).toBe("draining");
  const { scope: failed } = scopeWith(["one"]);
  const ended = failed.end();
  expect(failed.state).toBe("draining");
  await ended;
  expect(failed.state).toBe("stopped");
});

describe("an interrupted start", () => {
  test("gives up a step that never ends, and every later one", async () => {
    const { scope } = scopeWith([]);
    const waiting = scope.wait(new Promise(() => {}));
    scope.interrupt();
    expect(waiting).rejects.toBeInstanceOf(InterruptedError);
    expect(scope.wait(Promise.resolve(1))).rejects.toBeInstanceOf(InterruptedError);
    expect(() => scope.start()).toThrow(InterruptedError);
  });

  test("leaves no listener behind for steps that end", async () => {
    const { scope } = scopeWith([]);
    expect(await scope.wait(Promise.resolve(7))).toBe(7);
    expect(scope.wait(Promise.reject(new Error("its own")))).rejects.toThrow("its own");
  });
});
