// A limit of the bytes that all connections hold together. Above it, a connection of the address that holds most is closed: one
// host cannot displace the connections of others, however many it opens.

import type { Limit } from "../sys/limit.ts";

/** A connection that holds bytes. */
export interface Holder {
  /** The far end's address, without the port. */
  readonly remoteIp: string;
}

export class SharedLimit<T extends Holder> {
  /** The one that has held bytes for longest first. */
  readonly #held = new Map<T, number>();
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
  set(holder: T, bytes: number): T | undefined {
    this.#total += bytes - (this.#held.get(holder) ?? 0);
    if (bytes === 0) this.#held.delete(holder);
    else this.#held.set(holder, bytes);
    if (this.#total <= this.max) return undefined;
    this.#gaveWay++;
    return this.#largest();
  }

  /** Return the holder of most bytes at the address of most bytes; of equal ones, the one that has held bytes for longest. */
  #largest(): T {
    const sums = new Map<string, number>();
    for (const [{ remoteIp }, bytes] of this.#held) sums.set(remoteIp, (sums.get(remoteIp) ?? 0) + bytes);
    const sum = ({ remoteIp }: T) => sums.get(remoteIp) ?? 0;
    const own = (holder: T) => this.#held.get(holder) ?? 0;
    const more = (a: T, b: T) => (sum(a) - sum(b) || own(a) - own(b)) > 0;
    return [...this.#held.keys()].reduce((most, next) => (more(next, most) ? next : most));
  }
}
