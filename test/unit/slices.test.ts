import { expect, test } from "bun:test";
import { SimulatedClock } from "../../lib/clock/simulated.ts";
import { atOnce, finish, OneByOne, Slices, type Work } from "../../lib/clock/slices.ts";

/** A clock on which every look takes a millisecond. */
function busyClock() {
  const inner = new SimulatedClock();
  let spent = 0;
  return {
    inner,
    clock: { now: () => inner.now() + spent++, wall: () => inner.wall(), after: inner.after.bind(inner) },
  };
}

function* steps(count: number, done: string[], name: string): Work {
  for (let i = 0; i < count; i++) yield;
  done.push(name);
}

test("little work is done at once", () => {
  const clock = new SimulatedClock();
  const done: string[] = [];
  new Slices(clock).run(steps(1000, done, "a"), () => done.push("end"));
  expect(done).toEqual(["a", "end"]);
});

test("long work is put aside for others, and nobody waits for all of it", () => {
  const { inner, clock } = busyClock();
  const slices = new Slices(clock);
  const done: string[] = [];
  slices.run(steps(100, done, "long"), () => {});
  slices.run(steps(20, done, "short"), () => {});
  expect(slices.waiting).toBe(2);
  inner.advance(0);
  expect(done).toEqual(["short", "long"]);
  expect(slices.waiting).toBe(0);
});

test("what was done within one turn of the loop counts together", () => {
  const { inner, clock } = busyClock();
  const slices = new Slices(clock);
  const done: string[] = [];
  for (let i = 0; i < 10; i++) slices.run(steps(1, done, `${i}`), () => {});
  expect(done.length).toBeLessThan(5);
  inner.advance(0);
  expect(done.length).toBe(10);
});

test("short work does not wait for a turn of the loop each", () => {
  const { inner, clock } = busyClock();
  let turns = 0;
  const slices = new Slices({
    ...clock,
    worked: () => worked,
    after: (ms, fn) => {
      turns++;
      return clock.after(ms, fn);
    },
  });
  let worked = 0;
  const ended: number[] = [];
  slices.run(
    (function* () {
      for (let i = 0; i < 4; i++) {
        worked++;
        yield;
      }
    })(),
    () => {},
  );
  turns = 0;
  for (let i = 0; i < 50; i++) slices.run(steps(1, [], ""), () => ended.push(i));
  expect(ended).toEqual([]);
  inner.advance(0);
  expect(ended).toEqual(Array.from({ length: 50 }, (_, i) => i));
  expect(turns).toBe(1);
});

test("a slice is so much work: the time in which the thread waits for a processor does not count", () => {
  const inner = new SimulatedClock();
  let now = 0;
  const slices = new Slices({
    now: () => (now += 100),
    wall: () => 0,
    worked: () => 0,
    after: inner.after.bind(inner),
  });
  const done: string[] = [];
  slices.run(steps(1000, done, "a"), () => {});
  expect(done).toEqual(["a"]);
});

test("work that is given up ends where it is; what it throws reaches whoever has begun it", () => {
  const { inner, clock } = busyClock();
  const slices = new Slices(clock);
  const ended: string[] = [];
  function* careful(): Work {
    try {
      for (;;) yield;
    } finally {
      ended.push("given up");
    }
  }
  const giveUp = slices.run(careful(), () => ended.push("done"));
  giveUp();
  expect(ended).toEqual(["given up"]);
  function* failing(): Work {
    for (let i = 0; i < 30; i++) yield;
    throw new Error("no");
  }
  slices.run(failing(), (error) => ended.push(error?.message ?? ""));
  inner.advance(0);
  expect(ended).toEqual(["given up", "no"]);
  // Work may be given up by its own doing.
  let giveUpItself = () => {};
  let stop = () => {};
  function* selfish(): Work {
    for (let i = 0; i < 20; i++) yield;
    stop();
    ended.push("up to its next step");
    try {
      for (;;) yield;
    } finally {
      ended.push("and no further");
    }
  }
  for (const how of [() => giveUpItself(), () => slices.stop()]) {
    stop = how;
    ended.length = 0;
    giveUpItself = slices.run(selfish(), () => ended.push("never"));
    inner.advance(0);
    expect(slices.waiting).toBe(0);
    expect(ended).toEqual(["up to its next step", "and no further"]);
  }
});

test("work that has ended can be given up at any time: no other work is", () => {
  const { inner, clock } = busyClock();
  const slices = new Slices(clock);
  const done: string[] = [];
  const giveUps = [0, 1].map((i) => slices.run(steps(1, done, `short ${i}`), () => {}));
  slices.run(steps(100, done, "long"), () => done.push("end"));
  inner.advance(0);
  slices.run(steps(100, done, "longer"), () => done.push("the end"));
  expect(slices.waiting).toBeGreaterThan(0);
  for (const giveUp of [...giveUps, ...giveUps]) giveUp();
  inner.advance(1_000);
  expect(done.filter((each) => !each.startsWith("short"))).toEqual(["long", "end", "longer", "the end"]);
  expect(slices.waiting).toBe(0);
});

test("results that are there already, and those that take work", () => {
  function* seven(): Work<number> {
    yield;
    return 7;
  }
  expect([atOnce(finish<number>(seven())), atOnce(finish<number>(8))]).toEqual([7, 8]);
});

test("work that waits for other work is polled once a turn, and continues when that ends or is cancelled", () => {
  const inner = new SimulatedClock();
  let turns = 0;
  let worked = 0;
  const slices = new Slices({
    now: () => inner.now(),
    wall: () => inner.wall(),
    worked: () => worked,
    after: (ms, fn) =>
      inner.after(ms, () => {
        turns++;
        fn();
      }),
  });
  const line = new OneByOne();
  const events: string[] = [];
  let looks = 0;
  /** Steps of 1 ms. */
  function* long(count: number, name: string): Work {
    for (let i = 0; i < count; i++) {
      worked++;
      yield;
    }
    events.push(name);
  }
  function* counted(name: string): Work {
    const work = line.run(() => long(20, name));
    for (;;) {
      const { done, value } = work.next();
      if (done) return;
      if (value === 0) looks++;
      yield value;
    }
  }
  slices.run(counted("first"), () => {});
  slices.run(counted("second"), () => {});
  inner.advance(0);
  expect(events).toEqual(["first", "second"]);
  expect(looks).toBeGreaterThan(1);
  expect(looks).toBeLessThanOrEqual(turns);
  const giveUp = slices.run(
    line.run(() => long(1000, "given up")),
    () => {},
  );
  slices.run(counted("third"), () => {});
  giveUp();
  inner.advance(0);
  expect(events).toEqual(["first", "second", "third"]);
});

test("work that waits for a time continues after it, is counted as waiting, and can be cancelled", () => {
  const clock = new SimulatedClock();
  const slices = new Slices(clock);
  const events: string[] = [];
  function* resting(name: string): Work {
    try {
      yield 250;
      events.push(`${name} at ${clock.now()}`);
    } finally {
      events.push(`${name} ends`);
    }
  }
  const start = clock.now();
  slices.run(resting("first"), () => events.push("done"));
  const giveUp = slices.run(resting("second"), () => events.push("done"));
  expect(() => atOnce(resting("at once"))).toThrow("work that waits cannot be done at once");
  events.length = 0;
  expect(slices.waiting).toBe(2);
  // Others do not wait for it.
  slices.run(steps(3, events, "other"), () => {});
  giveUp();
  expect([slices.waiting, events]).toEqual([1, ["other", "second ends"]]);
  clock.advance(249);
  expect(events.length).toBe(2);
  clock.advance(1);
  expect(events.slice(2)).toEqual([`first at ${start + 250}`, "first ends", "done"]);
  slices.run(resting("stopped"), () => events.push("done"));
  slices.stop();
  clock.advance(1_000);
  expect(events.slice(5)).toEqual(["stopped ends"]);
  expect(slices.waiting).toBe(0);
});
