// The largest packet that gets through to a peer, found by trying: a test of that size is sent, and the peer says over
// the control connection that it has come. The kernel's word on the path (its own links, ICMP) is where the search
// begins; what drops large packets in silence is found out here. Pure: sends by a function, and is told the time.
import type { Clock, Timer } from "../../clock/clock.ts";

/** Every path takes as much (weave: sleeve.go; RFC 791 has 576 with all headers). */
export const MINIMUM_MTU = 552;
/** Sizes that are tried at once: each round divides what is uncertain by one more than this. */
const SIZES = 8;
/** A path that grew by less than this is left as it was. */
const STEP = 8;
/** When tests that were not answered are sent again, in ms since the first; the last is when they count as lost. */
const SCHEDULE = [20, 60, 140, 300, 620];

export interface PathMtuParams {
  readonly clock: Clock;
  /** Send a test that a packet of so many bytes gets through. */
  test(mtu: number): void;
  /** The search has come to an end. */
  found(mtu: number): void;
}

export class PathMtu {
  #good = MINIMUM_MTU;
  #bad = 0;
  /** What got through before, where only more is looked for. */
  #known: number | undefined;
  #waiting = new Set<number>();
  #timer: Timer | undefined;

  constructor(private readonly params: PathMtuParams) {}

  get searching(): boolean {
    return this.#timer !== undefined;
  }

  /** The smallest size that is known not to get through, less one; while searching. */
  get limit(): number {
    return this.#bad - 1;
  }

  /** Look for the largest size that gets through, up to `limit`; first whether that does. */
  search(limit: number): void {
    this.#good = Math.min(MINIMUM_MTU, limit);
    this.#bad = limit + 1;
    this.#known = undefined;
    this.#round([limit]);
  }

  /** Look whether more than `known`, which gets through, does now; at little cost where it does not. */
  grow(known: number, limit: number): void {
    if (known >= limit) return this.search(limit);
    this.#good = known;
    this.#bad = limit + 1;
    this.#known = known;
    this.#round([Math.min(known + STEP, limit), limit]);
  }

  /** The peer has got a test of that size. */
  verified(mtu: number): void {
    if (!this.searching || mtu >= this.#bad || mtu <= this.#good) return;
    this.#good = mtu;
    // What is smaller gets through as well.
    for (const size of this.#waiting) if (size <= mtu) this.#waiting.delete(size);
    if (this.#waiting.size === 0) this.#next();
  }

  stop(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
  }

  #round(sizes: readonly number[]): void {
    this.#waiting = new Set(sizes);
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
