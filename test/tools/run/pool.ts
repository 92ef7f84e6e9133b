// Jobs side by side: the longest first, as many at once as their weights fit the capacity.

export interface Job {
  /** Mean share of one processor in percent: whole numbers, which add up to the capacity without a rest. */
  readonly weight: number;
  /** Duration of the last run, or an estimate; ms. */
  readonly expectedMs: number;
  /** Another of these jobs, which has to end before. */
  readonly after?: Job | undefined;
  run(): Promise<void>;
}

/**
 * Run all jobs on so much capacity, in percent of one processor: the next one starts while any is free, and not only where
 * all of its weight is, since a job that mostly waits would leave a processor idle meanwhile. None overtakes a longer one that
 * can start: started last, the longest would hold up the end. Resolve when all have ended.
 */
export async function runAll(jobs: readonly Job[], capacity: number): Promise<void> {
  const running = new Set<Promise<void>>();
  const waiting = [...jobs].sort((a, b) => b.expectedMs - a.expectedMs);
  const unfinished = new Set(jobs);
  let free = capacity;
  while (waiting.length > 0) {
    const at = free > 0 ? waiting.findIndex(({ after }) => !after || !unfinished.has(after)) : -1;
    const [job] = at < 0 ? [] : waiting.splice(at, 1);
    if (!job) {
      await Promise.race(running);
      continue;
    }
    free -= job.weight;
    const done = job.run().finally(() => {
      free += job.weight;
      unfinished.delete(job);
      running.delete(done);
    });
    running.add(done);
  }
  await Promise.all(running);
}
