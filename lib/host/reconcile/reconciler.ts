// Keeps the kernel's state as desired: compares at the start, when the kernel notifies of a change, and at intervals, and
// puts back what others have removed or changed. Each repair is logged, counted and remembered.
import { type Clock, every, type Timer } from "../../clock/clock.ts";
import { limitedWarnings } from "../../log/limited.ts";
import type { Log } from "../../log/log.ts";
import { guarded } from "../../log/unexpected.ts";
import { reasonOf } from "../../sys/reason.ts";
import { type Culprit, Fights } from "./fights.ts";
import type { Change, Keeper, Source } from "./resource.ts";

/** Interval of comparing everything. */
const CHECK_MS = 30_000;
/** Interval of comparing what changes silently; it costs a few reads. */
const SILENT_MS = 1_000;
/** Several notifications come together. */
const COALESCE_MS = 100;
/** Repairs remembered for status. */
const MAX_REPAIRS = 100;
const RETRY_MS = 1_000;
const MAX_RETRY_MS = 30_000;

/** A change by others that was put right. */
export interface Repair {
  /** Milliseconds since the epoch. */
  readonly at: number;
  readonly resource: string;
  readonly object: string;
  readonly wrong: string;
  /** Who did it, where the kernel tells. */
  readonly by: Culprit | undefined;
}

/** A resource that cannot be put right. */
export interface Failure {
  readonly resource: string;
  readonly reason: string;
}

interface Failing extends Failure {
  readonly delay: number;
  readonly retryAt: number;
}

export class Reconciler {
  readonly #fights: Fights;
  readonly #warn: (kind: string, text: string) => void;
  readonly #timers: readonly Timer[];
  readonly #pending = new Set<Source>();
  readonly #repairs: Repair[] = [];
  readonly #failing = new Map<string, Failing>();
  #soon: Timer | undefined;
  #count = 0;
  #stopped = false;

  /** `keepers` in the order in which they depend on each other: links before the addresses on them. */
  constructor(
    private readonly keepers: readonly Keeper[],
    private readonly clock: Clock,
    log: Log,
    /** Told of each repair: metrics, events. */
    private readonly repaired: (repair: Repair) => void = () => {},
  ) {
    this.#fights = new Fights(() => clock.now());
    this.#warn = limitedWarnings(log, () => clock.now());
    this.#timers = [
      every(clock, CHECK_MS, () => this.#check(() => true)),
      every(clock, SILENT_MS, () => this.#check(({ sources }) => sources.includes("silent"))),
    ];
  }

  /**
   * Makes everything as desired, after what is desired has changed. Throws the first error, having tried all; who
   * changed what is desired takes that back and applies again.
   */
  apply(): void {
    let failed: { error: unknown } | undefined;
    for (const keeper of this.keepers) {
      try {
        keeper.reconcile(() => true);
        this.#failing.delete(keeper.name);
      } catch (error) {
        failed ??= { error };
      }
    }
    if (failed) throw failed.error;
  }

  /** Compares everything now; before what is desired changes, so that others' changes are not mistaken for ours. */
  check(): void {
    this.#check(() => true);
  }

  /** The kernel has notified of a change, or (lost) may have without being heard. */
  notified(source: Source, by?: Culprit): void {
    if (this.#stopped) return;
    this.#pending.add(source);
    if (by) this.#fights.suspect(source, by);
    this.#soon ??= this.clock.after(COALESCE_MS, () => {
      this.#soon = undefined;
      const told = new Set(this.#pending);
      this.#pending.clear();
      this.#check(({ sources }) => sources.some((each) => told.has(each)));
    });
  }

  stop(): void {
    this.#stopped = true;
    this.#soon?.cancel();
    for (const timer of this.#timers) timer.cancel();
  }

  /** The latest repairs, oldest first. */
  get repairs(): readonly Repair[] {
    return this.#repairs;
  }

  get repairCount(): number {
    return this.#count;
  }

  get failures(): Failure[] {
    return [...this.#failing.values()].map(({ resource, reason }) => ({ resource, reason }));
  }

  #check(concerns: (keeper: Keeper) => boolean): void {
    for (const keeper of this.keepers) {
      if (!concerns(keeper)) continue;
      guarded(`reconciling ${keeper.name}`, () => this.#reconcile(keeper));
    }
  }

  #reconcile(keeper: Keeper): void {
    const { name } = keeper;
    const failing = this.#failing.get(name);
    const now = this.clock.now();
    if (failing && now < failing.retryAt && failing.retryAt - now <= failing.delay) return;
    try {
      const changes = keeper.reconcile(({ object }) => this.#fights.mayRepair(object));
      this.#failing.delete(name);
      for (const change of changes) this.#remember(keeper, change);
    } catch (error) {
      const delay = Math.min(failing ? failing.delay * 2 : RETRY_MS, MAX_RETRY_MS);
      const reason = reasonOf(error);
      this.#failing.set(name, { resource: name, reason, delay, retryAt: now + delay });
      this.#warn(`failed ${name}`, `cannot repair ${name}: ${reason}; retrying`);
    }
  }

  #remember(keeper: Keeper, { object, wrong }: Change): void {
    const by = this.#fights.culprit(keeper.sources);
    const repair = { at: this.clock.wall(), resource: keeper.name, object, wrong, by };
    this.#count++;
    this.#repairs.push(repair);
    if (this.#repairs.length > MAX_REPAIRS) this.#repairs.shift();
    const fight = this.#fights.repaired(object, by);
    const who = by ? ` by ${by.name} (pid ${by.pid})` : "";
    if (fight) this.#warn(`fight ${object}`, fight);
    else this.#warn(`repaired ${object}`, `repaired ${object}: it was ${wrong}${who}`);
    this.repaired(repair);
  }
}
