// A limit of bytes that many hold together. Above it, the holder that has held bytes for longest gives way: honest holders
// are soon down to 0.

import type { Limit } from "../sys/limit.ts";

export class SharedLimit<Holder> {
  /** The one that has held bytes for longest first. */
  readonly #held = new Map<Holder, number>();
  #total = 0;

  /** Holders that had to give way. */
  #gaveWay = 0;

  constructor(
    readonly name: string,
    readonly max: number,
  ) {}

  get total(): number {
    return this.#total;
  }

  get limit(): Limit {
    return { name: this.name, value: this.#total, max: this.max, refused: this.#gaveWay };
  }

  /** Note that `holder` holds `bytes` now. Returns the holder that has to give way; undefined within the limit. */
  set(holder: Holder, bytes: number): Holder | undefined {
    this.#total += bytes - (this.#held.get(holder) ?? 0);
    if (bytes === 0) this.#held.delete(holder);
    else this.#held.set(holder, bytes);
    if (this.#total <= this.max) return undefined;
    this.#gaveWay++;
    return this.#held.keys().next().value;
  }
}
