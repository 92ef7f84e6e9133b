// Repairs that others undo again and again: told as a fight, and repeated with back-off instead of at once.
import type { Source } from "./resource.ts";

/** A process that changed kernel state, as the kernel told or as its netlink port is. */
export interface Culprit {
  readonly pid: number;
  readonly name: string;
}

const WINDOW_MS = 60_000;
/** Repairs of one object within the window that are still no fight. */
const PEACE = 5;
const BACKOFF_MS = 1_000;
const MAX_BACKOFF_MS = 60_000;
/** Objects remembered; the oldest goes first. */
const MAX_OBJECTS = 1_024;
/** How long who has spoken last is suspected. */
const SUSPECT_MS = 2_000;

interface Contested {
  /** When it was repaired, within the window. */
  times: number[];
  /** Pause before the next repair; 0 where there is no fight. */
  backoff: number;
  by: Culprit | undefined;
}

export class Fights {
  readonly #objects = new Map<string, Contested>();
  readonly #suspects = new Map<Source, { readonly culprit: Culprit; readonly at: number }>();

  constructor(private readonly now: () => number) {}

  /** Somebody has changed something that this source notifies of. */
  suspect(source: Source, culprit: Culprit): void {
    this.#suspects.set(source, { culprit, at: this.now() });
  }

  /** Who has changed something lately that one of these sources notifies of. */
  culprit(sources: readonly Source[]): Culprit | undefined {
    for (const source of sources) {
      const suspect = this.#suspects.get(source);
      if (suspect && Math.abs(this.now() - suspect.at) <= SUSPECT_MS) return suspect.culprit;
    }
    return undefined;
  }

  /** False while a repair of a contested object has to wait. */
  mayRepair(object: string): boolean {
    const contested = this.#objects.get(object);
    const last = contested?.times.at(-1);
    if (!contested || last === undefined) return true;
    const waited = this.now() - last;
    return waited < 0 || waited >= contested.backoff;
  }

  /** An object was repaired; returns what to log where that has become a fight. */
  repaired(object: string, by: Culprit | undefined): string | undefined {
    const now = this.now();
    const before = this.#objects.get(object);
    const times = [...(before?.times ?? []).filter((at) => at <= now && now - at < WINDOW_MS), now];
    const fighting = times.length > PEACE || (before !== undefined && before.backoff > 0 && times.length > 1);
    const backoff = fighting
      ? Math.min(Math.max(BACKOFF_MS, (before?.backoff ?? 0) * 2), MAX_BACKOFF_MS / 2)
      : 0;
    const contested = { times: times.slice(-PEACE - 1), backoff, by: by ?? before?.by };
    this.#objects.delete(object);
    this.#objects.set(object, contested);
    for (const oldest of this.#objects.keys()) {
      if (this.#objects.size <= MAX_OBJECTS) break;
      this.#objects.delete(oldest);
    }
    return fighting ? describe(object, contested) : undefined;
  }

  /** Fights that go on, in words. */
  notes(): string[] {
    const now = this.now();
    return [...this.#objects]
      .filter(([, { times, backoff }]) => backoff > 0 && now - (times.at(-1) ?? 0) < WINDOW_MS)
      .map(([object, contested]) => describe(object, contested));
  }
}

function describe(object: string, { backoff, by }: Contested): string {
  const who = by ? `${by.name} (pid ${by.pid})` : "another program";
  return `${who} keeps changing ${object}: repairing it every ${backoff / 1000} s`;
}
