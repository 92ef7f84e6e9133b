// Search for the path MTU by tests, which the peer acknowledges over the control connection (as RFC 8899 does for other
// protocols). It starts from what the kernel knows (its links, ICMP) and finds black holes, too. Pure: sends by a
// function; takes a clock.
import type { Clock, Timer } from "../clock/clock.ts";

/** The least MTU of any path (weave: sleeve.go; RFC 791 has 576 with all headers). */
export const MINIMUM_MTU = 552;
/** Sizes tested per round, which narrow the range to a part of SIZES + 1. */
const SIZES = 8;
/** Growth by less than this is ignored. */
const STEP = 8;
/** After so many answers of the peer that know of no further test of a round, its larger tests count as lost … */
const ANSWERS = 3;
/** … and in a last round, which makes sure of it: on a busy host tests come later than questions sent behind them. */
const ANSWERS_LAST = 5;
/** Times of retransmission, in ms since the first test; at the last one tests count as lost. */
const SCHEDULE = [20, 60, 140, 300, 620];
/** Where answers take longer than this, the times are stretched, up to MAX_STRETCH: a busy peer is no lossy path. */
const PROMPT_MS = 140;
const MAX_STRETCH = 8;
/**
 * A peer that answers nothing at all is busy, and is asked again, at intervals that double, until it says something: then
 * the round begins anew. After this, the search ends.
 */
const SILENT_MS = 20_000;
/** A timer that fires this late shows that this host is busy: answers may wait to be read, for MAX_GRACE_MS at most. */
const LATE_MS = 20;
const MAX_GRACE_MS = 1_000;

export interface PathMtuParams {
  readonly clock: Clock;
  /** Test a packet of so many bytes. */
  test(mtu: number): void;
  /** Ask the peer what it has received: to be told by `answered`, with the round. Unless given, silence is loss. */
  ask?(round: number): void;
  /** Called at the end of the search. */
  found(mtu: number): void;
  /** Called instead where the peer has said nothing at all, which tells nothing of the path; unless given, `found`. */
  silent?(): void;
}

export class PathMtu {
  #good = MINIMUM_MTU;
  #bad = 0;
  #limit = 0;
  /** The least size that was lost, as the last round has made sure of. */
  #lost: number | undefined;
  /** The MTU before, in a search for growth. */
  #known: number | undefined;
  #waiting = new Set<number>();
  #timer: Timer | undefined;
  #answers = 0;
  /** The peer has said nothing in this round. */
  #silent = false;
  /** The longest that an answer has taken. */
  #slowest = 0;
  #sentAt = 0;
  /** Number of the round, so that late answers of others can be told. */
  round = 0;

  constructor(private readonly params: PathMtuParams) {}

  get searching(): boolean {
    return this.#timer !== undefined;
  }

  /** Upper bound of the range that is searched. */
  get limit(): number {
    return this.#bad - 1;
  }

  /** Note that an answer of the peer has taken `ms`. */
  took(ms: number): void {
    this.#slowest = Math.max(this.#slowest, ms);
  }

  /** Search up to `limit`, which is tested first; with `doubtful` together with smaller sizes. */
  search(limit: number, doubtful = false): void {
    this.#good = Math.min(MINIMUM_MTU, limit);
    this.#upTo(limit);
    this.#known = undefined;
    if (doubtful) this.#next();
    else this.#round([limit]);
  }

  /** Search for growth from `known` to `limit`; costs one round where there is none. */
  grow(known: number, limit: number): void {
    if (known >= limit) return this.search(limit);
    this.#good = known;
    this.#upTo(limit);
    this.#known = known;
    this.#round([Math.min(known + STEP, limit), limit]);
  }

  /** The peer has received a test of that size. */
  verified(mtu: number): void {
    if (!this.searching || mtu >= this.#bad || mtu <= this.#good) return;
    this.#good = mtu;
    this.#silent = false;
    this.took(this.params.clock.now() - this.#sentAt);
    // Smaller ones get through as well.
    for (const size of this.#waiting) if (size <= mtu) this.#waiting.delete(size);
    if (this.#waiting.size === 0) this.#next();
  }

  /** The peer has told what it has received, for tests that arrive in order: what is missing may be lost. */
  answered(round: number): void {
    if (!this.searching || round !== this.round) return;
    this.#silent = false;
    if (++this.#answers < (this.#lost === undefined ? ANSWERS : ANSWERS_LAST)) return;
    this.#bad = Math.min(...this.#waiting);
    this.#next();
  }

  stop(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
  }

  #upTo(limit: number): void {
    this.#limit = limit;
    this.#bad = limit + 1;
    this.#lost = undefined;
  }

  #round(sizes: readonly number[]): void {
    this.#waiting = new Set(sizes);
    this.#silent = this.params.ask !== undefined;
    this.#begin();
  }

  #begin(): void {
    this.#answers = 0;
    this.round++;
    this.#sentAt = this.params.clock.now();
    this.#send(0);
  }

  #send(attempt: number): void {
    // A busy peer has the tests still to read: they are repeated once it has said something.
    if (attempt === 0 || !this.#silent) for (const size of this.#waiting) this.params.test(size);
    if (attempt > 0) this.params.ask?.(this.round);
    const [now = 0, then] = [SCHEDULE[attempt - 1] ?? 0, SCHEDULE[attempt]];
    const stretch = Math.min(Math.max(1, this.#slowest / PROMPT_MS), MAX_STRETCH);
    this.#wait(((then ?? now) - now) * stretch, () => {
      if (attempt + 1 < SCHEDULE.length) return this.#send(attempt + 1);
      if (this.#silent) return this.#askAgain((then ?? 0) - now);
      this.#bad = Math.min(...this.#waiting);
      this.#next();
    });
  }

  /** Ask a peer that is silent until it says something. What it has not received by then was sent once: it may be lost. */
  #askAgain(ms: number): void {
    if (!this.#silent) {
      this.took(this.params.clock.now() - this.#sentAt);
      return this.#begin();
    }
    if (this.params.clock.now() - this.#sentAt >= SILENT_MS) {
      this.stop();
      return this.params.silent ? this.params.silent() : this.params.found(this.#good);
    }
    this.params.ask?.(this.round);
    this.#wait(2 * ms, () => this.#askAgain(2 * ms));
  }

  #wait(ms: number, then: () => void): void {
    const { clock } = this.params;
    const due = clock.now() + ms;
    this.#timer?.cancel();
    this.#timer = clock.after(ms, () => {
      const late = clock.now() - due;
      if (late < LATE_MS) return then();
      this.#timer = clock.after(Math.min(late, MAX_GRACE_MS), then);
    });
  }

  #next(): void {
    this.stop();
    if (this.#good === this.#known) return this.params.found(this.#good);
    const between = this.#bad - this.#good - 1;
    if (between <= 0) return this.#end();
    this.#lost = undefined;
    const sizes = new Set<number>();
    for (let i = 1; i <= SIZES; i++) sizes.add(this.#good + Math.ceil((between * i) / SIZES));
    this.#round([...sizes]);
  }
  /** The size above is lost, and that was sure, or it is tested once more; where it passes, the search goes on above it. */
  #end(): void {
    const lost = this.#bad;
    if (lost > this.#limit || lost === this.#lost) return this.params.found(this.#good);
    this.#lost = lost;
    this.#bad = this.#limit + 1;
    this.#round([lost]);
  }
}
