// When the MTU of the network follows what all paths carry: it falls at once, and rises once it could be larger for a while, the
// longer the sooner it fell after rises. Pure: times are passed in.

/** The MTU rises after this, and after twice the time for each fall that soon follows a rise. */
export const RISE_MS = 10_000;
export const MAX_RISE_MS = 10 * 60_000;
const STEADY_MS = 10 * 60_000;
/** Least interval of falls: all containers are told of each. */
export const FALL_MS = 500;

export class MtuSteps {
  /** When the MTU may rise; undefined while it could not. */
  #risesAt: number | undefined;
  #riseMs = RISE_MS;
  /** When it rose; undefined once it has fallen since. */
  #rose: number | undefined;
  #fellAt = Number.NEGATIVE_INFINITY;

  constructor(private mtu: number) {}

  /** The MTU of the network, in bytes. */
  get current(): number {
    return this.mtu;
  }

  /**
   * Follow what all paths carry at `now`, in ms; it begins to rise where nothing is `awaited`. Return in how many ms to look
   * again; infinity where only a change is worth a look.
   */
  follow(least: number, awaited: boolean, now: number): number {
    const fallsIn = this.#fellAt + FALL_MS - now;
    if (least < this.mtu) {
      if (fallsIn > 0) return fallsIn;
      this.#fall(least, now);
    } else if (least === this.mtu) {
      this.#risesAt = undefined;
    } else if (!awaited) {
      this.#risesAt ??= now + this.#riseMs;
      if (now < this.#risesAt) return this.#risesAt - now;
      this.#rose = now;
      this.#set(least);
    }
    return Number.POSITIVE_INFINITY;
  }

  /** Several falls after one rise have one cause. */
  #fall(mtu: number, now: number): void {
    if (this.#rose !== undefined)
      this.#riseMs = now - this.#rose < STEADY_MS ? Math.min(2 * this.#riseMs, MAX_RISE_MS) : RISE_MS;
    this.#rose = undefined;
    this.#fellAt = now;
    this.#set(mtu);
  }

  #set(mtu: number): void {
    this.#risesAt = undefined;
    this.mtu = mtu;
  }
}
