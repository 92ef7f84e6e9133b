// Whether a series grows: by its slope, whatever its noise; and the graph of it.
import { expect, test } from "bun:test";
import { seededRandom } from "../../lib/clock/random.ts";
import { graph } from "../soak/graph.ts";
import { type Point, slope, verdict } from "../soak/trend.ts";

const random = seededRandom(1n);
/** One sample a minute. */
const series = (minutes: number, value: (hours: number) => number): Point[] =>
  Array.from({ length: minutes }, (_, i) => [i / 60, value(i / 60)]);

test("the slope of a line, of a sawtooth, and of one with outliers", () => {
  expect(slope(series(60, (t) => 100 + 7 * t))).toBeCloseTo(7);
  expect(Math.abs(slope(series(240, (t) => 1000 * ((t * 5) % 1))))).toBeLessThan(100);
  const noisy = series(120, (t) => 3 * t + (random.float() < 0.1 ? 10_000 : random.float()));
  expect(slope(noisy)).toBeGreaterThan(2);
  expect(slope(noisy)).toBeLessThan(4);
  expect(slope([[1, 5]])).toBe(0);
});

test("what grows only while it warms up is flat; what goes on growing is not", () => {
  const warm = series(120, (t) => 80_000 + 40_000 * (1 - Math.exp(-8 * t)));
  expect(verdict(warm, 2_048)?.flat).toBe(true);
  expect(
    verdict(
      series(120, (t) => 80_000 + 3_000 * t),
      2_048,
    )?.flat,
  ).toBe(false);
  expect(
    verdict(
      series(20, () => 1),
      1,
    ),
  ).toBeUndefined();
});

test("the graph of a slope, of a flat line, and of one with a gap", () => {
  expect(
    graph(
      series(8, (t) => t),
      8,
    ),
  ).toBe("▁▂▃▄▅▆▇█");
  expect(
    graph(
      series(8, () => 5),
      8,
    ),
  ).toBe("▁▁▁▁▁▁▁▁");
  expect(
    graph(
      [
        [0, 1],
        [1, 2],
      ],
      4,
    ),
  ).toBe("▁  █");
});
