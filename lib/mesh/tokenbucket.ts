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

  /** Takes a token if there is one; `now` is in ms. */
  take(now: number): boolean {
    this.#refill(now);
    if (this.#tokens < 1) return false;
    this.#tokens--;
    return true;
  }

  /** Milliseconds until the next token; 0 where there is one. */
  wait(now: number): number {
    this.#refill(now);
    return Math.ceil((Math.max(0, 1 - this.#tokens) / this.perSecond) * 1000);
  }

  #refill(now: number): void {
    const elapsed = Math.max(0, now - this.at) / 1000;
    this.#tokens = Math.min(this.burst, this.#tokens + elapsed * this.perSecond);
    this.at = now;
  }
}
