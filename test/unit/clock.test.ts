// Time that a process lives through, and dates of its moments.
import { expect, test } from "bun:test";
import { ActiveTime } from "../../lib/clock/activetime.ts";
import { dateOf, systemClock, timeText } from "../../lib/clock/clock.ts";
import { SimulatedClock } from "../../lib/clock/simulated.ts";

test("what a stopped process or a sleeping host has missed does not count", () => {
  let elapsed = 1_000_000;
  const lived = new ActiveTime(() => elapsed);
  const began = lived.now();
  for (let i = 0; i < 90; i++) {
    elapsed += 1_000;
    lived.now();
  }
  expect(lived.now() - began).toBe(90_000);
  elapsed += 8 * 3_600_000;
  expect(lived.now() - began).toBe(90_000);
  elapsed += 500;
  expect(lived.now() - began).toBe(90_500);
});

test("a date is as the wall clock counts at present, whoever sets it", () => {
  const clock = new SimulatedClock(1_000_000);
  const at = clock.now();
  clock.advance(60_000);
  expect(timeText(clock, at)).toBe("2023-11-14T22:13:20Z");
  clock.wallOffset -= 3_600_000;
  expect(timeText(clock, at)).toBe("2023-11-14T21:13:20Z");
  expect(dateOf(clock, at).getTime()).toBe(1_700_000_000_000 - 3_600_000);
});

test("periodic timers of a second and more share wake-ups at whole seconds, shorter ones are as asked", () => {
  expect(systemClock.sharedWakeUp?.(999)).toBe(999);
  for (const ms of [1_000, 1_700, 30_000]) {
    const before = systemClock.now();
    const wait = systemClock.sharedWakeUp?.(ms) ?? 0;
    const after = systemClock.now();
    expect(Math.abs(wait - ms)).toBeLessThanOrEqual(501);
    // `wait` is rounded up to whole ms.
    expect(Math.floor((after + wait) / 1_000)).toBeGreaterThan(Math.floor((before + wait - 1.001) / 1_000));
  }
});

test("a timer for a time that has passed runs soon, without a warning of the runtime", async () => {
  const warnings: Error[] = [];
  const note = (warning: Error) => void warnings.push(warning);
  process.on("warning", note);
  await new Promise<void>((resolve) => systemClock.after(-12.5, resolve));
  // Warnings come in a turn of their own.
  await new Promise(setImmediate);
  process.off("warning", note);
  expect(warnings).toEqual([]);
});
