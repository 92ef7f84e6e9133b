// The budget of bytes in memory for neighbours, of all connections together: unfinished messages, gossip that waits, and what
// is unsent. Above it, a connection of the address that holds most is closed: one host cannot displace the connections of others,
// however many it opens.

import type { Limit } from "../sys/limit.ts";

/**
 * Bytes for all connections: nearly five of the longest messages at a time. Honest peers hold little, as their messages
 * have 1 MB at most, and are soon read. What else a message takes for a moment comes to three times its length.
 */
export const MAX_BUFFERED = 48 * 1024 * 1024;
/** Bytes for one connection: a peer that reads too slowly is disconnected before what waits for it displaces others. */
export const MAX_BUFFERED_OF_ONE = 32 * 1024 * 1024;

/** A connection that holds bytes. */
export interface Holder {
  /** The far end's address, without the port. */
  readonly remoteIp: string;
  /** End the connection; it holds nothing afterwards. */
  shutdown(error: Error): void;
}

export class BufferBudget {
  /** The one that has held bytes for longest first. */
  readonly #held = new Map<Holder, number>();
  #total = 0;

  /** Connections that were closed and gossip that was dropped. */
  #refused = 0;

  constructor(private readonly max = MAX_BUFFERED) {}

  get limit(): Limit {
    return { name: "buffered-bytes", value: this.#total, max: this.max, refused: this.#refused };
  }

  /** For the status. */
  notes(): string[] {
    if (this.#total <= this.max / 2) return [];
    return [`${this.#total} bytes buffered for peers; ${this.max} are the limit`];
  }

  /** Note that `holder` holds `bytes` now, and close the connections that have to give way. */
  hold(holder: Holder, bytes: number): void {
    this.#note(holder, bytes);
    if (bytes > MAX_BUFFERED_OF_ONE) this.#close(holder, "the peer does not read");
    while (this.#total > this.max)
      this.#close(
        this.#largest(),
        `too many bytes buffered for all peers (${this.max} bytes), most of them for its address`,
      );
  }

  /** Return whether so many more bytes fit; else they are dropped. */
  fits(bytes: number): boolean {
    const fits = this.#total + bytes <= this.max;
    if (!fits) this.#refused++;
    return fits;
  }

  #note(holder: Holder, bytes: number): void {
    this.#total += bytes - (this.#held.get(holder) ?? 0);
    if (bytes === 0) this.#held.delete(holder);
    else this.#held.set(holder, bytes);
  }

  #close(holder: Holder, why: string): void {
    this.#refused++;
    this.#note(holder, 0);
    holder.shutdown(new Error(why));
  }

  /** Return the holder of most bytes at the address of most bytes; of equal ones, the one that has held bytes for longest. */
  #largest(): Holder {
    const sums = new Map<string, number>();
    for (const [{ remoteIp }, bytes] of this.#held) sums.set(remoteIp, (sums.get(remoteIp) ?? 0) + bytes);
    const sum = ({ remoteIp }: Holder) => sums.get(remoteIp) ?? 0;
    const own = (holder: Holder) => this.#held.get(holder) ?? 0;
    const more = (a: Holder, b: Holder) => (sum(a) - sum(b) || own(a) - own(b)) > 0;
    return [...this.#held.keys()].reduce((most, next) => (more(next, most) ? next : most));
  }
}
