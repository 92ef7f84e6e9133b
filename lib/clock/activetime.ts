// Time during which a process runs. While the host is suspended or the process is stopped, it cannot receive or answer
// anything: that time must not count for time-outs, or all of them would expire at once afterwards.

/** Longest gap between two readings of a busy process; a longer one was a suspension. */
const LONGEST_MS = 5_000;

export class ActiveTime {
  #last: number;
  #suspended = 0;

  /** `elapsed`: milliseconds of a monotonic clock. */
  constructor(private readonly elapsed: () => number) {
    this.#last = elapsed();
  }

  /** Return the ms of activity; to be read every second at least. */
  now(): number {
    const elapsed = this.elapsed();
    const gap = elapsed - this.#last;
    if (gap > LONGEST_MS) this.#suspended += gap;
    this.#last = elapsed;
    return elapsed - this.#suspended;
  }
}
