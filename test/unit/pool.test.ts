import { expect, test } from "bun:test";
import { type Job, runAll } from "../tools/run/pool.ts";

/** Jobs that end when they are told to, and the names of those that have started. */
function stage() {
  const started: string[] = [];
  const ends = new Map<string, () => void>();
  const job = (name: string, weight: number, expectedMs: number, after?: Job): Job => ({
    weight,
    expectedMs,
    after,
    run: () => {
      started.push(name);
      const { promise, resolve } = Promise.withResolvers<void>();
      ends.set(name, resolve);
      return promise;
    },
  });
  const end = async (name: string) => {
    ends.get(name)?.();
    await Bun.sleep(0);
  };
  return { started, job, end };
}

test("the longest starts first, and another while any capacity is free", async () => {
  const { started, job, end } = stage();
  const all = runAll(
    [job("short", 20, 1), job("long", 70, 4), job("middle", 70, 3), job("heavy", 90, 2)],
    150,
  );
  expect(started).toEqual(["long", "middle", "heavy"]);
  await end("middle");
  expect(started).toEqual(["long", "middle", "heavy"]);
  await end("heavy");
  expect(started).toEqual(["long", "middle", "heavy", "short"]);
  let done = false;
  void all.then(() => {
    done = true;
  });
  await end("short");
  expect(done).toBe(false);
  await end("long");
  expect(done).toBe(true);
});

test("capacity that is used up starts nothing, however light", async () => {
  const { started, job, end } = stage();
  const all = runAll([job("whole", 100, 2), job("light", 1, 1)], 100);
  expect(started).toEqual(["whole"]);
  await end("whole");
  expect(started).toEqual(["whole", "light"]);
  await end("light");
  await all;
});

test("what needs another waits until it has ended, and shorter ones start meanwhile", async () => {
  const { started, job, end } = stage();
  const build = job("build", 100, 5);
  const all = runAll(
    [job("needs it", 40, 9, build), job("needs it, too", 40, 8, build), build, job("needs nothing", 60, 1)],
    200,
  );
  expect(started).toEqual(["build", "needs nothing"]);
  await end("needs nothing");
  expect(started).toEqual(["build", "needs nothing"]);
  await end("build");
  expect(started).toEqual(["build", "needs nothing", "needs it", "needs it, too"]);
  await end("needs it");
  await end("needs it, too");
  await all;
});
