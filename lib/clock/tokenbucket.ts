// Token bucket: a burst, then a rate per second.

export class TokenBucket {
  #tokens: number;

  constructor(
    private readonly burst: number,
    private readonly perSecond: number,
    private at: number,
  ) {
    this.#tokens = burst;
  }

  /** Take `count` tokens if there is one, the others in advance; `now` in ms. */
  take(now: number, count = 1): boolean {
    this.#refill(now);
    if (this.#tokens < 1) return false;
    this.#tokens -= count;
    return true;
  }

  /** Take `count` tokens, in advance where there are too few. */
  charge(now: number, count: number): void {
    this.#refill(now);
    this.#tokens -= count;
  }

  /** Return the ms until the next token; 0 if there is one. */
  wait(now: number): number {
    this.#refill(now);
    return Math.ceil((Math.max(0, 1 - this.#tokens) / this.perSecond) * 1000);
  }

  #refill(now: number): void {
    // A clock that goes back takes nothing away.
    const elapsed = Math.max(0, now - this.at) / 1000;
    this.#tokens = Math.min(this.burst, this.#tokens + elapsed * this.perSecond);
    this.at = now;
  }
}
