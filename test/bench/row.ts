// A row of a benchmark's result.

export interface Row {
  readonly name: string;
  readonly unit: string;
  /** Medians. */
  readonly ours: number;
  readonly reference: number;
  /** ours / reference */
  readonly ratio: number;
  readonly runs: number;
  /** What the reference is, where it is not that of the whole benchmark. */
  readonly against?: string | undefined;
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  const upper = sorted[middle] ?? Number.NaN;
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? upper) + upper) / 2;
}

export function row(
  name: string,
  unit: string,
  ours: readonly number[],
  reference: readonly number[],
  against?: string,
): Row {
  const [own, other] = [median(ours), median(reference)];
  return { name, unit, ours: own, reference: other, ratio: own / other, runs: ours.length, against };
}
