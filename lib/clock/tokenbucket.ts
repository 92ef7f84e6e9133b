// A rate: so much at once, then so much a second.

export class TokenBucket {
  #tokens: number;

  constructor(
    private readonly burst: number,
    private readonly perSecond: number,
    private at: number,
  ) {
    this.#tokens = burst;
  }

  /** Takes `count` tokens where there is one, the others in advance; `now` is in ms. */
  take(now: number, count = 1): boolean {
    this.#refill(now);
    if (this.#tokens < 1) return false;
    this.#tokens -= count;
    return true;
  }

  /** Milliseconds until the next token; 0 where there is one. */
  wait(now: number): number {
    this.#refill(now);
    return Math.ceil((Math.max(0, 1 - this.#tokens) / this.perSecond) * 1000);
  }

  #refill(now: number): void {
    // A clock that is set back takes nothing away.
    const elapsed = Math.max(0, now - this.at) / 1000;
    this.#tokens = Math.min(this.burst, this.#tokens + elapsed * this.perSecond);
    this.at = now;
  }
}
