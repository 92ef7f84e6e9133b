// Reconciles the kernel's state with what is desired: compares at the start, on the kernel's notifications and at intervals, and
// repairs what others have removed or changed. Each repair is logged, counted and remembered.
import type { Clock, Timer } from "../../clock/clock.ts";
import { Soon } from "../../clock/soon.ts";
import type { Log } from "../../log/log.ts";
import type { Culprit } from "./culprit.ts";
import { Fights } from "./fights.ts";
import { Kept } from "./kept.ts";
import { PeriodicChecks } from "./periodic.ts";
import { Repairs } from "./repairs.ts";
import type { Change, Keeper, Source } from "./resource.ts";
import { UrgentChecks } from "./urgent.ts";

/** Time in which notifications are coalesced. */
const COALESCE_MS = 100;
/** Longest time for checks in one turn of the event loop, but for the current one. */
const SLICE_MS = 8;

/** A kind of kernel state that is reconciled. */
export interface KeptResource {
  readonly name: string;
  /** Counts of repairs and of failures. */
  readonly repairs: number;
  readonly failures: number;
  /** Why it cannot be repaired now. */
  readonly failing: string | undefined;
}

export class Reconciler {
  readonly repairs: Repairs;
  readonly #kept: Kept[] = [];
  readonly #fights: Fights;
  readonly #periodic: PeriodicChecks;
  readonly #pending = new Set<Source>();
  readonly #soon: Soon;
  readonly #urgent: UrgentChecks;
  #turn: Timer | undefined;
  #stopped = false;

  constructor(
    private readonly clock: Clock,
    log: Pick<Log, "warning">,
  ) {
    const now = () => clock.now();
    this.#fights = new Fights(now);
    this.repairs = new Repairs(log, now);
    this.#soon = new Soon(clock, () => this.#lookAtNotified());
    this.#urgent = new UrgentChecks(clock, (sources) => this.#look((kept) => kept.concerns(sources)));
    this.#periodic = new PeriodicChecks(clock, (source) => {
      if (source === "silent") this.#glance();
      else this.#look(({ keeper }) => source === undefined || keeper.sources.includes(source));
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
      kept.succeeded();
    } catch (error) {
      this.repairs.failed(keeper.name, kept.failed(error));
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
        kept.succeeded();
      } catch (error) {
        const before = kept.failing;
        if (kept.failed(error) !== before) failed ??= { error };
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
    for (const kept of this.#kept) if (kept.concerns(told)) kept.hasten();
    this.#look((kept) => kept.concerns(told));
  }

  /** As notified(), but at once; notifications that follow are coalesced for a moment. */
  urgent(source: Source): void {
    if (!this.#stopped) this.#urgent.add(source);
  }

  /** Note that notifications were lost. */
  lost(): void {
    if (!this.#stopped) this.#look(() => true);
  }

  stop(): void {
    this.#stopped = true;
    this.#soon.stop();
    this.#urgent.stop();
    this.#periodic.stop();
    this.#turn?.cancel();
    for (const kept of this.#kept) kept.stop();
  }

  /** What is reconciled, in order. */
  get resources(): KeptResource[] {
    return this.#kept.map(({ keeper: { name }, failures, failing }) => ({
      name,
      repairs: this.repairs.counts.get(name) ?? 0,
      failures,
      failing,
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
    const kept = new Kept(keeper, this.clock, () => {
      if (!this.#stopped) this.#go();
    });
    this.#kept.push(kept);
    return kept;
  }

  /** Reconcile keepers where something has changed without a notification. */
  #glance(): void {
    for (const kept of this.#kept) kept.glance();
    this.#go();
  }

  /** Reconcile some keepers, in this turn of the event loop and the next ones. */
  #look(concerns: (kept: Kept) => boolean): void {
    for (const kept of this.#kept) kept.due ||= concerns(kept);
    this.#go();
  }

  #go(): void {
    this.#turn?.cancel();
    this.#turn = undefined;
    const started = this.clock.now();
    for (const [i, kept] of this.#kept.entries()) {
      if (!kept.due) continue;
      if (this.clock.now() - started >= SLICE_MS) {
        this.#turn = this.clock.after(0, () => this.#go());
        return;
      }
      kept.due = false;
      // Later keepers depend on it, and are not notified of what we do.
      if (this.#reconcile(kept)) for (const later of this.#kept.slice(i + 1)) later.dependencyRepaired();
    }
  }

  /** Reconcile one keeper; return whether anything was changed. */
  #reconcile(kept: Kept): boolean {
    if (kept.backsOff) return false;
    const { keeper } = kept;
    try {
      const waiting: Change[] = [];
      const changes = keeper.reconcile((change) => {
        const mayRepair = this.#fights.wait(change.object) === 0;
        if (!mayRepair) waiting.push(change);
        return mayRepair;
      });
      kept.succeeded(this.#held(waiting));
      for (const change of changes) this.#remember(keeper, change);
      return changes.length > 0;
    } catch (error) {
      this.repairs.failed(keeper.name, kept.failed(error));
      return false;
    }
  }

  /** Return why changes are held back, and for how many ms; undefined where there are none. */
  #held(waiting: readonly Change[]): { reason: string; ms: number } | undefined {
    const [first] = waiting;
    if (!first) return undefined;
    return {
      reason: `${first.object} is ${first.wrong}, and changed again and again`,
      ms: Math.min(...waiting.map(({ object }) => this.#fights.wait(object))),
    };
  }

  #remember({ name }: Keeper, { object, wrong }: Change): void {
    const by = this.#fights.culprit(object);
    const fight = this.#fights.repaired(object, by);
    this.repairs.add({ at: this.clock.wall(), resource: name, object, wrong, by }, fight);
    this.#periodic.repaired();
  }
}
