// Whether a quantity grows: the slope of Theil (1950) and Sen (1968), the median of the slopes between all pairs of samples,
// which is robust against a sawtooth and a few outliers, with Sen's confidence interval. Autocorrelated samples carry less
// information: the interval is widened for them (Yue and Wang, 2004). Pure.

/** A value at a time in hours. */
export type Point = readonly [hours: number, value: number];

/** Limit of points; more are thinned out, as the number of pairs is quadratic. */
const MAX_POINTS = 400;
/** Quantile of the normal distribution for a confidence of 95 %. */
const CONFIDENCE = 1.96;

/** Growth per hour, with its confidence interval. */
export interface Slope {
  readonly perHour: number;
  readonly low: number;
  readonly high: number;
}

/** Return the slope; 0 with an infinite interval for fewer than two points. */
export function slope(points: readonly Point[]): Slope {
  const step = Math.ceil(points.length / MAX_POINTS);
  const few = points.filter((_, i) => i % step === 0);
  const slopes = slopesOf(few);
  const middle = slopes.length / 2;
  const perHour = ((slopes[Math.ceil(middle) - 1] ?? 0) + (slopes[Math.floor(middle)] ?? 0)) / 2;
  // Kendall's variance of the number of pairs that rise less those that fall.
  const variance = (few.length * (few.length - 1) * (2 * few.length + 5)) / 18;
  const spread = CONFIDENCE * Math.sqrt(variance * persistence(few.map(([t, value]) => value - perHour * t)));
  return {
    perHour,
    low: slopes[Math.floor((slopes.length - spread) / 2) - 1] ?? Number.NEGATIVE_INFINITY,
    high: slopes[Math.ceil((slopes.length + spread) / 2)] ?? Number.POSITIVE_INFINITY,
  };
}

/** Return the slopes between all pairs of points at different times, sorted: a typed array sorts without a comparator. */
function slopesOf(points: readonly Point[]): Float64Array {
  const slopes = new Float64Array((points.length * (points.length - 1)) / 2);
  let count = 0;
  for (const [i, [t, value]] of points.entries())
    for (let j = i + 1; j < points.length; j++) {
      const [later, other] = points[j] as Point;
      if (later > t) slopes[count++] = (other - value) / (later - t);
    }
  return slopes.subarray(0, count).sort();
}

/** Return the factor by which autocorrelation r of lag 1 increases the variance of a trend: (1 + r) / (1 - r). */
function persistence(values: readonly number[]): number {
  const mean = values.reduce((a, b) => a + b, 0) / values.length;
  const apart = values.map((value) => value - mean);
  const sum = (lag: number) => apart.reduce((total, value, i) => total + value * (apart[i + lag] ?? 0), 0);
  const r = Math.max(0, sum(1) / (sum(0) || 1));
  return (1 + r) / (1 - r);
}

/** "unclear": it may grow by more than the limit, or not. */
export type Result = "flat" | "unclear" | "grows";

export interface Verdict extends Slope {
  readonly result: Result;
  readonly first: number;
  readonly last: number;
}

/** The first part of a series is warm-up: caches fill, and code is compiled. */
export const WARM_UP = 1 / 3;

/** Return whether a series grows by more than a limit an hour after its warm-up; undefined for too short a series. */
export function verdict(points: readonly Point[], limit: number, minPoints = 30): Verdict | undefined {
  const warm = points.slice(Math.floor(points.length * WARM_UP));
  const [from, to] = [warm[0], warm.at(-1)];
  if (warm.length < minPoints || !from || !to) return undefined;
  const found = slope(warm);
  const result = found.high <= limit ? "flat" : found.low > limit ? "grows" : "unclear";
  return { ...found, result, first: from[1], last: to[1] };
}
