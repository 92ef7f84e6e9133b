// A bound on bytes that many hold together. When it is exceeded, whoever has held something for longest gives way: what
// honest holders have is soon gone, and starts anew.

export class SharedLimit<Holder> {
  /** In the order in which they began to hold something. */
  readonly #held = new Map<Holder, number>();
  #total = 0;

  /** At most `max` bytes in all. */
  constructor(readonly max: number) {}

  /** Bytes held in all. */
  get total(): number {
    return this.#total;
  }

  /** Notes that `holder` holds `bytes` now. Returns who has to give way, as long as there are too many. */
  set(holder: Holder, bytes: number): Holder | undefined {
    this.#total += bytes - (this.#held.get(holder) ?? 0);
    if (bytes === 0) this.#held.delete(holder);
    else this.#held.set(holder, bytes);
    if (this.#total <= this.max) return undefined;
    return this.#held.keys().next().value;
  }
}
