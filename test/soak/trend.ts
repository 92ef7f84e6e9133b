// Whether a quantity grows: the slope of Theil (1950) and Sen (1968), the median of the slopes between all pairs of samples,
// which a sawtooth or a few outliers do not move. Pure.

/** A value at a time in hours. */
export type Point = readonly [hours: number, value: number];

/** More are thinned out: pairs grow by the square. */
const MAX_POINTS = 400;

function median(values: number[]): number {
  const sorted = values.sort((a, b) => a - b);
  const middle = sorted.length / 2;
  const [low = 0, high = 0] = [sorted[Math.ceil(middle) - 1], sorted[Math.floor(middle)]];
  return (low + high) / 2;
}

/** Return the slope per hour; 0 for fewer than two points. */
export function slope(points: readonly Point[]): number {
  const step = Math.ceil(points.length / MAX_POINTS);
  const few = points.filter((_, i) => i % step === 0);
  const slopes = few.flatMap(([t, value], i) =>
    few.slice(i + 1).flatMap(([later, other]) => (later > t ? [(other - value) / (later - t)] : [])),
  );
  return slopes.length === 0 ? 0 : median(slopes);
}

export interface Verdict {
  /** Per hour, of the second half: the first is warm-up. */
  readonly slope: number;
  readonly flat: boolean;
  readonly first: number;
  readonly last: number;
}

/** Return whether the second half of a series grows by no more than a limit an hour; undefined for too short a series. */
export function verdict(points: readonly Point[], limit: number, minPoints = 20): Verdict | undefined {
  const half = points.slice(Math.floor(points.length / 2));
  const [from, to] = [half[0], half.at(-1)];
  if (half.length < minPoints || !from || !to) return undefined;
  const perHour = slope(half);
  return { slope: perHour, flat: perHour <= limit, first: from[1], last: to[1] };
}
