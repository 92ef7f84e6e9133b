// Whether a series grows: by its slope, whatever its noise; and the graph of it.
import { expect, test } from "bun:test";
import { seededRandom } from "../../lib/clock/random.ts";
import { graph } from "../soak/graph.ts";
import { report } from "../soak/report.ts";
import type { Sample } from "../soak/sample.ts";
import { type Point, slope, verdict } from "../soak/trend.ts";

const random = seededRandom(1n);
/** One sample a minute. */
const series = (minutes: number, value: (hours: number) => number): Point[] =>
  Array.from({ length: minutes }, (_, i) => [i / 60, value(i / 60)]);

const MB = 1_024;
const LIMIT = 2 * MB;

/** A sawtooth of so many MB, as of garbage that is collected every 10 min, plus autocorrelated noise. */
function memory(hours: number, saw: number, mbPerHour: number): Point[] {
  let noise = 0;
  return series(60 * hours, (t) => {
    noise = 0.7 * noise + 0.5 * (random.float() - 0.5);
    return MB * (50 + saw * ((t * 6.1) % 1) + noise + mbPerHour * t);
  });
}
const results = (hours: number, saw: number, mbPerHour: number) => [
  ...new Set(Array.from({ length: 10 }, () => verdict(memory(hours, saw, mbPerHour), LIMIT)?.result)),
];

test("the slope of a line, of a sawtooth, and of one with outliers", () => {
  const line = slope(series(60, (t) => 100 + 7 * t));
  for (const value of [line.perHour, line.low, line.high]) expect(value).toBeCloseTo(7);
  const saw = slope(series(240, (t) => 1000 * ((t * 5) % 1)));
  expect(Math.abs(saw.perHour)).toBeLessThan(100);
  expect([saw.low < 0, saw.high > 0]).toEqual([true, true]);
  const noisy = slope(series(120, (t) => 3 * t + (random.float() < 0.1 ? 10_000 : random.float())));
  expect([2 < noisy.low, noisy.low < 3, 3 < noisy.high, noisy.high < 4]).toEqual([true, true, true, true]);
  const nothing = { perHour: 0, low: Number.NEGATIVE_INFINITY, high: Number.POSITIVE_INFINITY };
  for (const few of [[], [[1, 5] as const]]) expect(slope(few)).toEqual(nothing);
});

test("confidence intervals include the slope of noise, autocorrelated noise too", () => {
  for (const like of [0, 0.7]) {
    let inside = 0;
    for (let i = 0; i < 200; i++) {
      let noise = 0;
      const found = slope(
        series(90, () => {
          noise = like * noise + random.float() + random.float() + random.float() - 1.5;
          return noise;
        }),
      );
      if (found.low <= 0 && found.high >= 0) inside++;
    }
    expect(inside).toBeGreaterThan(170);
  }
});

test("memory in a sawtooth of 3 MB: two hours tell a leak of 4 MB an hour from none", () => {
  expect(results(2, 3, 0)).toEqual(["flat"]);
  expect(results(2, 3, 4)).toEqual(["grows"]);
});

test("memory in a sawtooth of 10 MB: two hours cannot tell a leak of 3 MB an hour; twelve can", () => {
  expect(results(2, 10, 3)).toEqual(["unclear"]);
  expect(results(12, 10, 3)).toEqual(["grows"]);
  expect(results(12, 10, 0)).toEqual(["flat"]);
});

test("what grows only while it warms up is flat; what goes on growing is not", () => {
  const warm = series(120, (t) => 80_000 + 40_000 * (1 - Math.exp(-8 * t)));
  expect(verdict(warm, LIMIT)?.result).toBe("flat");
  const growing = series(120, (t) => 80_000 + 3_000 * t);
  expect(verdict(growing, LIMIT)?.result).toBe("grows");
  const short = series(30, () => 1);
  expect(verdict(short, 1)).toBeUndefined();
  const threads = series(120, () => 5 + Math.floor(3 * random.float()));
  expect(verdict(threads, 1)?.result).toBe("flat");
});

test("the report returns the worst result of all series that are long enough", () => {
  const samples = (pid: number, hours: number, perHour: number): Sample[] =>
    memory(hours, 3, perHour).map(([at, anonKb]) => ({
      ...{ seconds: at * 3_600, host: 1, program: "router" as const, pid },
      values: { anonKb, descriptors: 70 },
    }));
  const all = [...samples(1, 2, 0), ...samples(2, 0.5, 99)];
  expect(report([]).result).toBe("unclear");
  expect(report(all).result).toBe("flat");
  expect(report(all).text).toMatch(
    /anonKb .*: flat\n {2}descriptors {2}70 to 70, 0.0 \(0.0 to 0.0\) an hour: flat/,
  );
  expect(report([...all, ...samples(3, 2, 2)]).result).toBe("unclear");
  const worse = report([...all, ...samples(3, 2, 2), ...samples(4, 2, 9)]);
  expect(worse.result).toBe("grows");
  expect(worse.text).toContain("UNCLEAR whether it grows by more than 2048");
  expect(worse.text).toContain("GROWS by more than 2048");
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
