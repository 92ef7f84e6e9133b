// A keeper as the reconciler follows it: whether it is due, what failed, and its retries with back-off.
import type { Clock, Timer } from "../../clock/clock.ts";
import { guarded } from "../../log/unexpected.ts";
import { reasonOf } from "../../sys/reason.ts";
import type { Keeper, Source } from "./resource.ts";

const RETRY_MS = 1_000;
const MAX_RETRY_MS = 30_000;

export class Kept {
  /** To be compared in the next turn. */
  due = false;
  failures = 0;
  /** What it saw at the last glance. */
  #glanced: string | undefined;
  /** The reason and number of consecutive failures. */
  #failure: { readonly reason: string; readonly attempts: number } | undefined;
  #failedAt = 0;
  /** The next comparison after a failure, or while a fight holds a repair back. */
  #retry: Timer | undefined;
  /** The latest time of that. */
  #retryBy = 0;
  #stopped = false;

  /** `go` is called when it is due for a retry. */
  constructor(
    readonly keeper: Keeper,
    private readonly clock: Pick<Clock, "now" | "after">,
    private readonly go: () => void,
  ) {}

  /** Why it cannot be repaired now. */
  get failing(): string | undefined {
    return this.#failure?.reason;
  }

  /** It has failed, and its next attempt has a time. */
  get backsOff(): boolean {
    return this.#failure !== undefined && this.#retry !== undefined;
  }

  concerns(sources: ReadonlySet<Source>): boolean {
    return this.keeper.sources.some((each) => sources.has(each));
  }

  /** It is due where something has changed without a notification. */
  glance(): void {
    if (!this.keeper.sources.includes("silent")) return;
    const before = this.#glanced;
    this.#glanced = glanceAt(this.keeper);
    this.due ||= this.#glanced === undefined || this.#glanced !== before;
  }

  /** It was reconciled, but for what is held back: that is retried in `ms`. */
  succeeded(held?: { readonly reason: string; readonly ms: number }): void {
    this.#failure = undefined;
    this.#cancelRetry();
    if (held) this.#retryBefore(held.ms);
    this.#tell(held?.reason);
  }

  /** Note a failure; return its reason. */
  failed(error: unknown): string {
    const reason = reasonOf(error);
    const attempts = (this.#failure?.attempts ?? 0) + 1;
    this.#failure = { reason, attempts };
    this.failures++;
    this.#failedAt = this.clock.now();
    this.#retryBefore(Math.min(RETRY_MS * 2 ** Math.min(attempts - 1, 10), MAX_RETRY_MS));
    this.#tell(reason);
    return reason;
  }

  /**
   * Retry soon after a notification, as the cause of the failure may be gone. Notifications right after a failure come of the
   * attempt itself.
   */
  hasten(): void {
    const now = this.clock.now();
    if (!this.backsOff || now - this.#failedAt < RETRY_MS) return;
    this.#retryAfter(Math.min(RETRY_MS, this.#retryBy - now));
  }

  /** What it depends on was repaired: it is due, and may have failed for want of that. */
  dependencyRepaired(): void {
    this.due = true;
    if (this.#failure) this.#cancelRetry();
  }

  stop(): void {
    this.#stopped = true;
    this.#cancelRetry();
    this.keeper.close?.();
  }

  #retryBefore(ms: number): void {
    this.#retryBy = this.clock.now() + ms;
    this.#retryAfter(ms);
  }

  #retryAfter(ms: number): void {
    this.#cancelRetry();
    if (this.#stopped) return;
    this.#retry = this.clock.after(ms, () => {
      this.#retry = undefined;
      this.due = true;
      this.go();
    });
  }

  #cancelRetry(): void {
    this.#retry?.cancel();
    this.#retry = undefined;
  }

  #tell(trouble: string | undefined): void {
    guarded(`reconciling ${this.keeper.name}`, () => this.keeper.trouble?.(trouble));
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
