// Reconciles the kernel's state with what is desired: compares at the start, on the kernel's notifications and at intervals, and
// repairs what others have removed or changed. Each repair is logged, counted and remembered.
import { type Clock, every, sharedWait, type Timer } from "../../clock/clock.ts";
import { Soon } from "../../clock/soon.ts";
import type { Log } from "../../log/log.ts";
import { guarded } from "../../log/unexpected.ts";
import { reasonOf } from "../../sys/reason.ts";
import type { Culprit } from "./culprit.ts";
import { Fights } from "./fights.ts";
import { Repairs } from "./repairs.ts";
import type { Change, Keeper, Source } from "./resource.ts";

/**
 * Interval of comparing all resources, in case a notification was not sent or not understood. It doubles up to the maximum while
 * nothing has to be repaired: at 30 s, these comparisons are half of an idle router's work.
 */
const CHECK_MS = 30_000;
const MAX_CHECK_MS = 5 * 60_000;
const CHECK_GROWTH = 2;
/** Intervals of comparing what changes without a notification; each costs a few reads. */
const SILENT_MS = 1_000;
const SETTINGS_MS = 5_000;
const MAPS_MS = 30_000;
/** Time in which notifications are coalesced. */
const COALESCE_MS = 100;
/** Least pause after an urgent comparison, and in multiples of its time: others may change thousands of objects at once. */
const CALM_MS = 10;
const CALM_PAUSE = 3;
/** Longest time for checks in one turn of the event loop, but for the current one. */
const SLICE_MS = 8;
const RETRY_MS = 1_000;
const MAX_RETRY_MS = 30_000;

/** A kind of kernel state that is reconciled. */
export interface KeptResource {
  readonly name: string;
  /** Counts of repairs and of failures. */
  readonly repairs: number;
  readonly failures: number;
  /** Why it cannot be repaired now. */
  readonly failing: string | undefined;
}

interface Kept {
  readonly keeper: Keeper;
  /** What it saw at the last glance. */
  glanced: string | undefined;
  /** The reason and number of consecutive failures. */
  failure: { readonly reason: string; readonly attempts: number } | undefined;
  failures: number;
  /** To be compared in the next turn. */
  due: boolean;
  /** The next comparison after a failure, or while a fight holds a repair back. */
  retry: Timer | undefined;
  /** The latest time of that. */
  retryBy: number;
  failedAt: number;
}

export class Reconciler {
  readonly repairs: Repairs;
  readonly #kept: Kept[] = [];
  readonly #fights: Fights;
  readonly #timers: readonly Timer[];
  readonly #pending = new Set<Source>();
  readonly #soon: Soon;
  /** Sources whose comparison is urgent, and is due once it is calm again. */
  readonly #urgent = new Set<Source>();
  readonly #calm: Soon;
  #calmAt = Number.NEGATIVE_INFINITY;
  #turn: Timer | undefined;
  #check: Timer | undefined;
  #checkMs = CHECK_MS;
  #stopped = false;

  constructor(
    private readonly clock: Clock,
    log: Pick<Log, "warning">,
  ) {
    const now = () => clock.now();
    this.#fights = new Fights(now);
    this.repairs = new Repairs(log, now);
    this.#soon = new Soon(clock, () => this.#lookAtNotified());
    this.#calm = new Soon(clock, () => this.#lookAtUrgent());
    this.#timers = [
      every(clock, SILENT_MS, () => this.#glance()),
      every(clock, SETTINGS_MS, () => this.#look(({ sources }) => sources.includes("settings"))),
      every(clock, MAPS_MS, () => this.#look(({ sources }) => sources.includes("maps"))),
    ];
    this.#checkLater();
  }

  #checkLater(): void {
    this.#check?.cancel();
    this.#check = this.clock.after(sharedWait(this.clock, this.#checkMs), () => {
      this.#checkMs = Math.min(CHECK_GROWTH * this.#checkMs, MAX_CHECK_MS);
      this.#checkLater();
      this.#look(() => true);
    });
  }

  /**
   * Reconcile a keeper now and from now on. Keepers come in the order in which they depend on each other: links before the
   * addresses on them. Return what was changed; throws, and does not keep it, where that fails.
   */
  keep(keeper: Keeper): readonly Change[] {
    using undo = new DisposableStack();
    undo.defer(() => keeper.close?.());
    const changes = keeper.reconcile(() => true);
    undo.move();
    this.#add(keeper);
    return changes;
  }

  /** Reconcile a keeper now and from now on; failures are logged and retried. */
  keepTrying(keeper: Keeper): void {
    const kept = this.#add(keeper);
    try {
      keeper.reconcile(() => true);
      this.#succeeded(kept);
    } catch (error) {
      this.repairs.failed(keeper.name, this.#failed(kept, error));
    }
  }

  /**
   * Reconcile everything, after what is desired has changed. Throws the first error after trying all, but for failures as
   * before; the caller then restores what was desired and applies again.
   */
  apply(): void {
    let failed: { error: unknown } | undefined;
    for (const kept of this.#kept) {
      try {
        kept.keeper.reconcile(() => true);
        this.#succeeded(kept);
      } catch (error) {
        const before = kept.failure?.reason;
        if (this.#failed(kept, error) !== before) failed ??= { error };
      }
    }
    if (failed) throw failed.error;
  }

  /** Reconcile everything before what is desired changes, so that others' changes are not mistaken for ours. */
  check(): void {
    for (const kept of this.#kept) this.#reconcile(kept);
  }

  /** Note a notification of the kernel about the link or table of that name, changed by that process. */
  notified(source: Source, subject = "", by?: Culprit): void {
    if (this.#stopped) return;
    this.#pending.add(source);
    if (by) this.#fights.suspect(subject, by);
    this.#soon.within(COALESCE_MS);
  }

  #lookAtNotified(): void {
    const told = new Set(this.#pending);
    this.#pending.clear();
    const concerns = ({ sources }: Keeper) => sources.some((each) => told.has(each));
    for (const kept of this.#kept) if (concerns(kept.keeper)) this.#hasten(kept);
    this.#look(concerns);
  }

  /** As notified(), but at once; notifications that follow are coalesced for a moment. */
  urgent(source: Source): void {
    if (this.#stopped) return;
    this.#urgent.add(source);
    const now = this.clock.now();
    if (now >= this.#calmAt) this.#lookAtUrgent();
    else this.#calm.within(this.#calmAt - now);
  }

  #lookAtUrgent(): void {
    const told = new Set(this.#urgent);
    this.#urgent.clear();
    const began = this.clock.now();
    this.#look(({ sources }) => sources.some((each) => told.has(each)));
    const now = this.clock.now();
    this.#calmAt = now + Math.max(CALM_MS, CALM_PAUSE * (now - began));
  }

  /** Note that notifications were lost. */
  lost(): void {
    if (!this.#stopped) this.#look(() => true);
  }

  stop(): void {
    this.#stopped = true;
    this.#soon.stop();
    this.#calm.stop();
    for (const timer of [this.#turn, this.#check, ...this.#timers]) timer?.cancel();
    for (const { retry, keeper } of this.#kept) {
      retry?.cancel();
      keeper.close?.();
    }
  }

  /** What is reconciled, in order. */
  get resources(): KeptResource[] {
    return this.#kept.map(({ keeper: { name }, failures, failure }) => ({
      name,
      repairs: this.repairs.counts.get(name) ?? 0,
      failures,
      failing: failure?.reason,
    }));
  }

  /** Current fights, in words. */
  get fights(): string[] {
    return this.#fights.notes();
  }

  /** What status says. */
  notes(): string[] {
    return [
      ...this.resources.flatMap(({ name, failing }) =>
        failing === undefined ? [] : [`cannot repair ${name}: ${failing}`],
      ),
      ...this.fights,
      ...this.repairs.notes(),
    ];
  }

  #add(keeper: Keeper): Kept {
    const kept: Kept = {
      keeper,
      glanced: undefined,
      failure: undefined,
      failures: 0,
      due: false,
      retry: undefined,
      retryBy: 0,
      failedAt: 0,
    };
    this.#kept.push(kept);
    return kept;
  }

  /** Reconcile keepers where something has changed without a notification. */
  #glance(): void {
    for (const kept of this.#kept) {
      const { keeper, glanced } = kept;
      if (!keeper.sources.includes("silent")) continue;
      kept.glanced = glanceAt(keeper);
      kept.due ||= kept.glanced === undefined || kept.glanced !== glanced;
    }
    this.#go();
  }

  /** Reconcile some keepers, in this turn of the event loop and the next ones. */
  #look(concerns: (keeper: Keeper) => boolean): void {
    for (const kept of this.#kept) kept.due ||= concerns(kept.keeper);
    this.#go();
  }

  #go(): void {
    this.#turn?.cancel();
    this.#turn = undefined;
    const started = this.clock.now();
    for (const kept of this.#kept) {
      if (!kept.due) continue;
      if (this.clock.now() - started >= SLICE_MS) {
        this.#turn = this.clock.after(0, () => this.#go());
        return;
      }
      kept.due = false;
      // Later keepers depend on it, are not notified of what we do, and may have failed for want of it.
      if (this.#reconcile(kept))
        this.#behind(kept).forEach((later) => {
          later.due = true;
          if (!later.failure) return;
          later.retry?.cancel();
          later.retry = undefined;
        });
    }
  }

  #behind(kept: Kept): Kept[] {
    return this.#kept.slice(this.#kept.indexOf(kept) + 1);
  }

  /** Reconcile one keeper; return whether anything was changed. */
  #reconcile(kept: Kept): boolean {
    const { keeper, failure } = kept;
    // After a failure it waits for the end of the back-off.
    if (failure && kept.retry) return false;
    try {
      const waiting: Change[] = [];
      const changes = keeper.reconcile((change) => {
        const mayRepair = this.#fights.wait(change.object) === 0;
        if (!mayRepair) waiting.push(change);
        return mayRepair;
      });
      this.#succeeded(kept, waiting);
      for (const change of changes) this.#remember(keeper, change);
      return changes.length > 0;
    } catch (error) {
      this.repairs.failed(keeper.name, this.#failed(kept, error));
      return false;
    }
  }

  #succeeded(kept: Kept, waiting: readonly Change[] = []): void {
    const [held] = waiting;
    kept.failure = undefined;
    kept.retry?.cancel();
    kept.retry = undefined;
    if (held) this.#retry(kept, Math.min(...waiting.map(({ object }) => this.#fights.wait(object))));
    this.#tell(kept, held && `${held.object} is ${held.wrong}, and changed again and again`);
  }

  /** Note a failure; return its reason. */
  #failed(kept: Kept, error: unknown): string {
    const reason = reasonOf(error);
    const attempts = (kept.failure?.attempts ?? 0) + 1;
    kept.failure = { reason, attempts };
    kept.failures++;
    kept.failedAt = this.clock.now();
    this.#retry(kept, Math.min(RETRY_MS * 2 ** Math.min(attempts - 1, 10), MAX_RETRY_MS));
    this.#tell(kept, reason);
    return reason;
  }

  #retry(kept: Kept, ms: number): void {
    kept.retry?.cancel();
    if (this.#stopped) return;
    kept.retryBy = this.clock.now() + ms;
    this.#retryAfter(kept, ms);
  }

  /**
   * Retry soon after a notification, as the cause of the failure may be gone. Notifications right after a failure come of the
   * attempt itself.
   */
  #hasten(kept: Kept): void {
    const now = this.clock.now();
    if (!kept.failure || !kept.retry || now - kept.failedAt < RETRY_MS) return;
    kept.retry.cancel();
    this.#retryAfter(kept, Math.min(RETRY_MS, kept.retryBy - now));
  }

  #retryAfter(kept: Kept, ms: number): void {
    kept.retry = this.clock.after(ms, () => {
      kept.retry = undefined;
      kept.due = true;
      this.#go();
    });
  }

  #tell({ keeper }: Kept, trouble: string | undefined): void {
    guarded(`reconciling ${keeper.name}`, () => keeper.trouble?.(trouble));
  }

  #remember({ name }: Keeper, { object, wrong }: Change): void {
    const by = this.#fights.culprit(object);
    const fight = this.#fights.repaired(object, by);
    this.repairs.add({ at: this.clock.wall(), resource: name, object, wrong, by }, fight);
    if (this.#checkMs === CHECK_MS) return;
    this.#checkMs = CHECK_MS;
    this.#checkLater();
  }
}

/** Return what a keeper sees; undefined where all has to be compared, which then reports why. */
function glanceAt(keeper: Keeper): string | undefined {
  try {
    return keeper.glance?.();
  } catch {
    return undefined;
  }
}
