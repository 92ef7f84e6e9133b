// Time as a process lives through it. While the host sleeps, or the process is stopped, nobody could hear or answer
// anything: that time counts for no time-out, or everything would fall due at once when it goes on.

/** A busy process does not look at the clock for so long; more has not been lived through. */
const LONGEST_MS = 5_000;

export class LivedTime {
  #last: number;
  #missed = 0;

  /** `elapsed`: milliseconds of a clock that never goes back. */
  constructor(private readonly elapsed: () => number) {
    this.#last = elapsed();
  }

  /** Milliseconds lived through. Somebody has to ask every second at least. */
  now(): number {
    const elapsed = this.elapsed();
    const gap = elapsed - this.#last;
    if (gap > LONGEST_MS) this.#missed += gap;
    this.#last = elapsed;
    return elapsed - this.#missed;
  }
}
