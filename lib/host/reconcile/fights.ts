// Fights: repairs that others undo again and again are reported, and repeated with back-off where they are undone at once.
import { LatestMap } from "../../clock/latestmap.ts";
import type { Culprit } from "./culprit.ts";

const WINDOW_MS = 60_000;
/** Repairs of one object within the window that are still no fight. */
const PEACE = 5;
const BACKOFF_MS = 1_000;
const MAX_BACKOFF_MS = 30_000;
/** Objects remembered; the oldest goes first. */
const MAX_OBJECTS = 1_024;
/** How long a process that changed something is suspected. */
const SUSPECT_MS = 2_000;
const MAX_SUSPECTS = 64;

interface Contested {
  /** Times of the latest PEACE + 1 repairs within the window. */
  readonly times: readonly number[];
  /** Pause between two repairs; 0 where there is no fight. */
  readonly backoff: number;
  readonly by: Culprit | undefined;
}

export class Fights {
  readonly #objects = new LatestMap<string, Contested>(MAX_OBJECTS);
  /** Who changed a link or table last, by its name, and when. */
  readonly #suspects = new LatestMap<string, { readonly culprit: Culprit; readonly at: number }>(
    MAX_SUSPECTS,
  );

  /** `now` is a monotonic time in ms. */
  constructor(private readonly now: () => number) {}

  /** Note that a process has changed something about the link or table of that name. */
  suspect(subject: string, culprit: Culprit): void {
    this.#suspects.set(subject, { culprit, at: this.now() });
  }

  /** Return who has just changed the link or table that an object names. */
  culprit(object: string): Culprit | undefined {
    for (const word of object.split(" ")) {
      const suspect = this.#suspects.get(word);
      if (suspect && this.now() - suspect.at <= SUSPECT_MS) return suspect.culprit;
    }
    return undefined;
  }

  /** Return in how many ms an object may be repaired: 0 for now. */
  wait(object: string): number {
    const contested = this.#objects.get(object);
    const last = contested?.times.at(-1);
    return last === undefined ? 0 : Math.max(0, last + (contested?.backoff ?? 0) - this.now());
  }

  /** Note that an object was repaired; return what to log where that has become a fight. */
  repaired(object: string, by: Culprit | undefined): string | undefined {
    const now = this.now();
    const before = this.#objects.get(object);
    const times = [...(before?.times ?? []).filter((at) => now - at < WINDOW_MS), now];
    const fighting = times.length > PEACE || (before !== undefined && before.backoff > 0 && times.length > 1);
    const since = now - (before?.times.at(-1) ?? now);
    const contested = {
      times: times.slice(-PEACE - 1),
      backoff: fighting ? nextBackoff(before?.backoff ?? 0, since) : 0,
      by: by ?? (fighting ? before?.by : undefined),
    };
    this.#objects.set(object, contested);
    return fighting ? describe(object, contested) : undefined;
  }

  /** Return the fights that go on, in words. */
  notes(): string[] {
    const now = this.now();
    return [...this.#objects]
      .filter(([, { times, backoff }]) => backoff > 0 && now - (times.at(-1) ?? 0) < WINDOW_MS)
      .map(([object, contested]) => describe(object, contested));
  }
}

/** Longer where the last repair was undone before the back-off was over, shorter where it lasted. */
function nextBackoff(backoff: number, since: number): number {
  if (backoff === 0) return BACKOFF_MS;
  return since < 2 * backoff ? Math.min(2 * backoff, MAX_BACKOFF_MS) : Math.max(backoff / 2, BACKOFF_MS);
}

function describe(object: string, { backoff, by }: Contested): string {
  const who = by ? `${by.name} (pid ${by.pid})` : "another program";
  return `${who} keeps changing ${object}: repairing it at most every ${backoff / 1000} s`;
}
