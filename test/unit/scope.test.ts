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
