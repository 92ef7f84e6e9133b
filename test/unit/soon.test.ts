// What is asked for many times is done once, each time it is asked for again, and not after the end.
import { expect, test } from "bun:test";
import { SimulatedClock } from "../../lib/clock/simulated.ts";
import { Soon } from "../../lib/clock/soon.ts";

test("a call is due once, at the first time that was asked for; and again once it was made", () => {
  const clock = new SimulatedClock(1_000);
  const calls: number[] = [];
  const soon = new Soon(clock, () => calls.push(clock.now()));
  for (let i = 0; i < 3; i++) {
    for (const ms of [100, 50, 200]) soon.within(ms);
    clock.advance(99);
    expect(calls.length).toBe(i);
    clock.advance(1_000);
    expect(calls.length).toBe(i + 1);
  }
  expect(calls).toEqual([1_100, 2_199, 3_298]);
});

test("a call that asks for itself, or fails, is due again", () => {
  const clock = new SimulatedClock();
  let calls = 0;
  const soon: Soon = new Soon(clock, () => {
    if (++calls === 2) throw new Error("no");
    soon.within(10);
  });
  soon.within(10);
  clock.advance(10);
  expect(() => clock.advance(10)).toThrow("no");
  soon.within(10);
  clock.advance(100);
  expect(calls).toBeGreaterThan(3);
});

test("nothing is called after the end, whether it was due then or is asked for later", () => {
  const clock = new SimulatedClock();
  let calls = 0;
  for (const due of [true, false]) {
    const soon = new Soon(clock, () => calls++);
    if (due) soon.within(10);
    soon.stop();
    soon.stop();
    soon.within(10);
    clock.advance(100);
  }
  expect(calls).toBe(0);
});
