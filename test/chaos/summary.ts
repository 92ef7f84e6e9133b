// What a run has done: how often each step was taken, and how long it was until all held again.
import type { Done } from "./run.ts";

/** Return lines, one a step, most frequent first. */
export function summary(done: readonly Done[]): string[] {
  const by = [...Map.groupBy(done, ({ step }) => step)].sort((a, b) => b[1].length - a[1].length);
  return by.map(([step, all]) => {
    const times = all.map(({ settledMs }) => settledMs).sort((a, b) => a - b);
    const median = times[Math.floor(times.length / 2)] ?? 0;
    return `${step.padEnd(16)} ${String(all.length).padStart(4)} times, held again after ${seconds(median)}, at most ${seconds(times.at(-1) ?? 0)}`;
  });
}

const seconds = (ms: number) => `${(ms / 1000).toFixed(1)} s`;
