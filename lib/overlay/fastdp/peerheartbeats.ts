// The heartbeats of a connection's peer: which of them to acknowledge, and when one is missing. Pure: times are passed in.
import { SLOW_HEARTBEAT_MS } from "./schedule.ts";

/** An acknowledgement is given to a heartbeat that arrives within this after another: one in between may be lost. */
const ACKNOWLEDGED_MS = 5_000;
/** A slow heartbeat counts as missing after this; either end may poll late. */
const MISSING_MS = SLOW_HEARTBEAT_MS + 2_500;

export class PeerHeartbeats {
  #any = false;
  /** When one came, or was last found missing. */
  #lastAt = Number.NEGATIVE_INFINITY;
  /** When one came that needed no acknowledgement; minus infinity where another has been acknowledged since. */
  #unansweredAt = Number.NEGATIVE_INFINITY;

  /** `acknowledges`: both ends acknowledge heartbeats in close succession, not only the first one. */
  constructor(private readonly acknowledges: boolean) {}

  /** One has come. */
  get any(): boolean {
    return this.#any;
  }

  /** Take one at `now`, in ms; returns whether it has to be acknowledged. */
  take(now: number): boolean {
    const isClose = now - this.#lastAt < ACKNOWLEDGED_MS;
    const answers = !this.#any || (this.acknowledges && isClose);
    this.#any = true;
    this.#lastAt = now;
    this.#unansweredAt = answers ? Number.NEGATIVE_INFINITY : now;
    return answers;
  }

  /**
   * Return whether one has to be acknowledged now that the peer asks: of several that came while we were busy, only the last was
   * seen, without one close before it.
   */
  answersQuestion(now: number): boolean {
    const answers = now - this.#unansweredAt < ACKNOWLEDGED_MS;
    if (answers) this.#unansweredAt = Number.NEGATIVE_INFINITY;
    return answers;
  }

  /** Return whether a slow one is missing; each counts once. */
  misses(now: number): boolean {
    if (now - this.#lastAt < MISSING_MS) return false;
    this.#lastAt = now;
    return true;
  }
}
