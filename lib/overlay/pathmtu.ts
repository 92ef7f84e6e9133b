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
/** After so many answers of the peer that know of no further test of a round, its larger tests count as lost. */
const ANSWERS = 3;
/** Times of retransmission, in ms since the first test; at the last one tests count as lost. */
const SCHEDULE = [20, 60, 140, 300, 620];

export interface PathMtuParams {
  readonly clock: Clock;
  /** Test a packet of so many bytes. */
  test(mtu: number): void;
  /** Called at the end of the search. */
  found(mtu: number): void;
}

export class PathMtu {
  #good = MINIMUM_MTU;
  #bad = 0;
  /** The MTU before, in a search for growth. */
  #known: number | undefined;
  #waiting = new Set<number>();
  #timer: Timer | undefined;
  #answers = 0;
  /** Number of the round. */
  round = 0;

  constructor(private readonly params: PathMtuParams) {}

  get searching(): boolean {
    return this.#timer !== undefined;
  }

  /** Upper bound of the range that is searched. */
  get limit(): number {
    return this.#bad - 1;
  }

  /** Search up to `limit`, which is tested first; with `doubtful` together with smaller sizes. */
  search(limit: number, doubtful = false): void {
    this.#good = Math.min(MINIMUM_MTU, limit);
    this.#bad = limit + 1;
    this.#known = undefined;
    if (doubtful) this.#next();
    else this.#round([limit]);
  }

  /** Search for growth from `known` to `limit`; costs one round where there is none. */
  grow(known: number, limit: number): void {
    if (known >= limit) return this.search(limit);
    this.#good = known;
    this.#bad = limit + 1;
    this.#known = known;
    this.#round([Math.min(known + STEP, limit), limit]);
  }

  /** The peer has received a test of that size. */
  verified(mtu: number): void {
    if (!this.searching || mtu >= this.#bad || mtu <= this.#good) return;
    this.#good = mtu;
    // Smaller ones get through as well.
    for (const size of this.#waiting) if (size <= mtu) this.#waiting.delete(size);
    if (this.#waiting.size === 0) this.#next();
  }

  /** The peer has told what it has received, for tests that arrive in order: what is missing may be lost. */
  answered(): void {
    if (!this.searching || ++this.#answers < ANSWERS) return;
    this.#bad = Math.min(...this.#waiting);
    this.#next();
  }

  stop(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
  }

  #round(sizes: readonly number[]): void {
    this.#waiting = new Set(sizes);
    this.#answers = 0;
    this.round++;
    this.#send(0);
  }

  #send(attempt: number): void {
    for (const size of this.#waiting) this.params.test(size);
    const [now = 0, then] = [SCHEDULE[attempt - 1] ?? 0, SCHEDULE[attempt]];
    this.#timer?.cancel();
    this.#timer = this.params.clock.after((then ?? now) - now, () => {
      if (attempt + 1 < SCHEDULE.length) return this.#send(attempt + 1);
      this.#bad = Math.min(...this.#waiting);
      this.#next();
    });
  }

  #next(): void {
    this.stop();
    if (this.#good === this.#known) return this.params.found(this.#good);
    const between = this.#bad - this.#good - 1;
    if (between <= 0) return this.params.found(this.#good);
    const sizes = new Set<number>();
    for (let i = 1; i <= SIZES; i++) sizes.add(this.#good + Math.ceil((between * i) / SIZES));
    this.#round([...sizes]);
  }
}
