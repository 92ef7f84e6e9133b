// The pace of topology broadcasts: none waits in a calm network; all wait, spread, while more arrives than is borne.
import { expect, test } from "bun:test";
import { seededRandom } from "../../lib/clock/random.ts";
import { SimulatedClock } from "../../lib/clock/simulated.ts";
import { Pace } from "../../lib/mesh/pace.ts";

const KB = 1024;

test("broadcasts wait for what has arrived beyond 256 kB to be worked off, at 256 kB/s, each a time of its own", () => {
  const clock = new SimulatedClock();
  const pace = new Pace(clock, seededRandom(1n));
  pace.received(255 * KB);
  expect(pace.wait()).toBe(0);
  pace.received(257 * KB);
  const waits = Array.from({ length: 200 }, () => pace.wait());
  expect(Math.min(...waits)).toBeWithin(500, 600);
  expect(Math.max(...waits)).toBeWithin(1_400, 1_510);
  clock.advance(1_001);
  expect(pace.wait()).toBe(0);
});

test("what is sent counts a sixteenth of what is received", () => {
  const clock = new SimulatedClock();
  const pace = new Pace(clock, seededRandom(1n));
  pace.sent(16 * 255 * KB);
  expect(pace.wait()).toBe(0);
  pace.sent(16 * 2 * KB);
  expect(pace.wait()).toBeGreaterThan(0);
});

test("a peer that floods us silences us for little longer than a minute, not for as long as it would take to work off", () => {
  const clock = new SimulatedClock();
  const pace = new Pace(clock, seededRandom(1n));
  // The longest message is 10 MB.
  for (let i = 0; i < 1_000; i++) pace.received(10 * KB * KB);
  const longest = Math.max(...Array.from({ length: 200 }, () => pace.wait()));
  expect(longest).toBeWithin(60_000, 1.5 * (60_000 + 40_001));
  clock.advance(100_000);
  expect(pace.wait()).toBe(0);
});
