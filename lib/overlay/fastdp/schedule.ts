// Schedule of a connection's heartbeats, and their length: fast until the peer acknowledges one and while an acknowledgement is
// missing, else slow. Pure: time, acknowledgements and errors are passed in.

/** Fast until the first is acknowledged, and while one is missing. */
export const FAST_HEARTBEAT_MS = 500;
/** While frames come from the peer. */
const ACTIVE_HEARTBEAT_MS = 1_000;
export const SLOW_HEARTBEAT_MS = 10_000;
/** An acknowledgement is expected for a heartbeat sent within this after another. */
const CLOSE_MS = 3_000;
/** An idle path gets short heartbeats, and one of full length after this, which tests the MTU. */
const WHOLE_MS = 3 * SLOW_HEARTBEAT_MS;
/** An idle peer acknowledges within this. */
const LOOK_MS = 1_500;
/** After so many heartbeats without an acknowledgement the peer is asked for them. */
const UNACKNOWLEDGED = 3;

/** The path, as its forwarder sees it. */
export interface PathState {
  readonly established: boolean;
  /** Heartbeats are in trouble. */
  readonly troubled: boolean;
  /** Frames come from the peer. */
  readonly active: boolean;
}

export class HeartbeatSchedule {
  /** The peer has acknowledged a heartbeat. */
  acknowledged = false;
  /** Heartbeats without an acknowledgement. */
  unacknowledged = 0;
  /** Errors in a row from our own kernel. */
  refusals = 0;
  #sentAt = Number.NEGATIVE_INFINITY;
  #wholeAt = Number.NEGATIVE_INFINITY;

  /** `acknowledges`: the peer has the feature ACKNOWLEDGES. */
  constructor(private readonly acknowledges: boolean) {}

  /** A heartbeat is missing. */
  get isMissing(): boolean {
    return this.unacknowledged > 0 || this.refusals > 0;
  }

  /** The peer has to be asked what it has received. */
  get hasToAsk(): boolean {
    return this.unacknowledged >= UNACKNOWLEDGED;
  }

  /** Make the next heartbeat due at once. */
  hurry(): void {
    this.#sentAt = Number.NEGATIVE_INFINITY;
  }

  /** Take an acknowledgement. */
  acknowledge(): void {
    this.acknowledged = true;
    this.unacknowledged = 0;
  }

  /**
   * Return the heartbeat that is due at `now`, in ms, which counts as sent; undefined where none is. `whole`: of full length;
   * `close`: the peer acknowledges it, as it follows another.
   */
  next(now: number, path: PathState): { readonly whole: boolean; readonly close: boolean } | undefined {
    const age = now - this.#sentAt;
    if (age < this.#interval(path)) return undefined;
    this.#sentAt = now;
    const whole = !this.#isIdle(path) || now - this.#wholeAt >= WHOLE_MS;
    if (whole) this.#wholeAt = now;
    return { whole, close: age < CLOSE_MS };
  }

  /** No trouble and no traffic. */
  #isIdle({ established, troubled, active }: PathState): boolean {
    return established && !troubled && this.unacknowledged === 0 && this.acknowledges && !active;
  }

  #interval({ troubled, active }: PathState): number {
    if (!this.acknowledged) return FAST_HEARTBEAT_MS;
    if (this.refusals > 0) return troubled ? ACTIVE_HEARTBEAT_MS : FAST_HEARTBEAT_MS;
    if (!this.acknowledges) return SLOW_HEARTBEAT_MS;
    if (troubled) return ACTIVE_HEARTBEAT_MS;
    if (this.unacknowledged === 0) return active ? ACTIVE_HEARTBEAT_MS : SLOW_HEARTBEAT_MS;
    // An idle peer polls once a second only: give it time for the first.
    return this.unacknowledged === 1 && !active ? LOOK_MS : FAST_HEARTBEAT_MS;
  }
}
