// Comparisons at intervals: of what changes without a notification, and of everything, in case a notification was not sent or not
// understood.
import { type Clock, every, sharedWait, type Timer } from "../../clock/clock.ts";
import type { Source } from "./resource.ts";

/**
 * Interval of comparing everything. It doubles up to the maximum while nothing has to be repaired: at 30 s, these comparisons are
 * half of an idle router's work.
 */
const CHECK_MS = 30_000;
const MAX_CHECK_MS = 5 * 60_000;
const CHECK_GROWTH = 2;
/** Intervals of comparing what changes without a notification; each costs a few reads. */
const SILENT_MS = 1_000;
const SETTINGS_MS = 5_000;
const MAPS_MS = 30_000;

export class PeriodicChecks {
  readonly #timers: readonly Timer[];
  #all: Timer | undefined;
  #allMs = CHECK_MS;

  /** `check` is called with the sources to check; undefined for all. */
  constructor(
    private readonly clock: Clock,
    private readonly check: (source: Source | undefined) => void,
  ) {
    const checkEvery = (ms: number, source: Source) => every(clock, ms, () => check(source));
    this.#timers = [
      checkEvery(SILENT_MS, "silent"),
      checkEvery(SETTINGS_MS, "settings"),
      checkEvery(MAPS_MS, "maps"),
    ];
    this.#checkAllLater();
  }

  /** Something had to be repaired: check everything at the shortest interval again. */
  repaired(): void {
    if (this.#allMs === CHECK_MS) return;
    this.#allMs = CHECK_MS;
    this.#checkAllLater();
  }

  stop(): void {
    for (const timer of [this.#all, ...this.#timers]) timer?.cancel();
  }

  #checkAllLater(): void {
    this.#all?.cancel();
    this.#all = this.clock.after(sharedWait(this.clock, this.#allMs), () => {
      this.#allMs = Math.min(CHECK_GROWTH * this.#allMs, MAX_CHECK_MS);
      this.#checkAllLater();
      this.check(undefined);
    });
  }
}
