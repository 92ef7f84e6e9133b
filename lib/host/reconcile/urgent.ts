// Urgent comparisons: the first at once, further ones after a pause, as others may change thousands of objects at a time.
import type { Clock } from "../../clock/clock.ts";
import { Soon } from "../../clock/soon.ts";
import type { Source } from "./resource.ts";

/** Least pause after a comparison, and in multiples of its time. */
const CALM_MS = 10;
const CALM_PAUSE = 3;

export class UrgentChecks {
  readonly #sources = new Set<Source>();
  readonly #soon: Soon;
  #calmAt = Number.NEGATIVE_INFINITY;

  constructor(
    private readonly clock: Pick<Clock, "now" | "after">,
    private readonly check: (sources: ReadonlySet<Source>) => void,
  ) {
    this.#soon = new Soon(clock, () => this.#run());
  }

  /** Check a source now, or as soon as the pause is over. */
  add(source: Source): void {
    this.#sources.add(source);
    const now = this.clock.now();
    if (now >= this.#calmAt) this.#run();
    else this.#soon.within(this.#calmAt - now);
  }

  stop(): void {
    this.#soon.stop();
  }

  #run(): void {
    const sources = new Set(this.#sources);
    this.#sources.clear();
    const began = this.clock.now();
    this.check(sources);
    const now = this.clock.now();
    this.#calmAt = now + Math.max(CALM_MS, CALM_PAUSE * (now - began));
  }
}
