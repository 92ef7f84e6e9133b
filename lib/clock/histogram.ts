// How long things take, as Prometheus counts it: so many took no longer than each bound.

/** Counts of a histogram at a moment. */
export interface HistogramCounts {
  /** Upper bounds in seconds, and how many took no longer. */
  readonly buckets: readonly (readonly [bound: number, count: number])[];
  readonly count: number;
  readonly sum: number;
}

/** Seconds: from 1 ms to 10 s. */
const BOUNDS = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10] as const;

export class Histogram {
  /** One count for each bucket, not cumulative; the last counts what is above all bounds. */
  readonly #counts: number[] = [...BOUNDS, 0].map(() => 0);
  #count = 0;
  #sum = 0;

  /** Count something that took so many seconds. */
  add(seconds: number): void {
    this.#count++;
    this.#sum += seconds;
    let i = 0;
    while (seconds > (BOUNDS[i] ?? Number.POSITIVE_INFINITY)) i++;
    this.#counts[i] = (this.#counts[i] ?? 0) + 1;
  }

  get counts(): HistogramCounts {
    let count = 0;
    return {
      buckets: BOUNDS.map((bound, i) => {
        count += this.#counts[i] ?? 0;
        return [bound, count];
      }),
      count: this.#count,
      sum: this.#sum,
    };
  }
}
