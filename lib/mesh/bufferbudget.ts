// Memory budget of all connections: unfinished messages, waiting gossip and unsent bytes. Above it, a connection of the address
// that holds most is closed, so that one host cannot displace the connections of others, however many it opens. Handshakes of
// strangers have a separate budget, so that they cannot displace peers.

import type { Limit } from "../sys/limit.ts";

/**
 * Bytes for all connections: nearly five messages of maximum length. Honest peers hold little: their messages have 1 MB at most
 * and are read soon. While a message is processed, it takes three times its length in addition.
 */
export const MAX_BUFFERED = 48 * 1024 * 1024;
/** Bytes for one connection: a peer that reads too slowly is disconnected before what waits for it displaces others. */
export const MAX_BUFFERED_OF_ONE = 32 * 1024 * 1024;

/** Bytes for the handshakes of all strangers: 32 kB for each. */
const MAX_OF_STRANGERS = 16 * 1024 * 1024;
/**
 * Maximum bytes of one handshake (protocol 1 with a password). Addresses that hold no more rank equal, and the oldest handshake among
 * them is closed, not a longer one: an honest handshake takes milliseconds.
 */
const WHOLE_HANDSHAKE = 512 * 1024;

/** Purpose of a budget. */
interface Use {
  /** Name of its limit. */
  readonly name: string;
  /** Whose bytes, for messages. */
  readonly of: string;
  /** Addresses that hold less count as if they held this much. */
  readonly fair: number;
}
const PEERS: Use = { name: "buffered-bytes", of: "peers", fair: 0 };
const STRANGERS: Use = { name: "handshake-bytes", of: "handshakes of strangers", fair: WHOLE_HANDSHAKE };

/** Return the budget for the handshakes of strangers. */
export const strangersBudget = (): BufferBudget => new BufferBudget(MAX_OF_STRANGERS, STRANGERS);

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

  constructor(
    private readonly max = MAX_BUFFERED,
    private readonly use = PEERS,
  ) {}

  get limit(): Limit {
    return { name: this.use.name, value: this.#total, max: this.max, refused: this.#refused };
  }

  /** For the status. */
  notes(): string[] {
    if (this.#total <= this.max / 2) return [];
    return [`${this.#total} bytes buffered for ${this.use.of}; the limit is ${this.max}`];
  }

  /** Record that `holder` holds `bytes` now, and close connections until the limits are met. */
  hold(holder: Holder, bytes: number): void {
    this.#note(holder, bytes);
    if (bytes > MAX_BUFFERED_OF_ONE) this.#close(holder, "the peer does not read");
    while (this.#total > this.max)
      this.#close(
        this.#largest(),
        `more than ${this.max} bytes buffered for all ${this.use.of}, most of them for this address`,
      );
  }

  /** Return whether `bytes` more fit. If not, the caller drops them, and this counts it. */
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
    const sum = ({ remoteIp }: Holder) => Math.max(sums.get(remoteIp) ?? 0, this.use.fair);
    const own = (holder: Holder) => Math.max(this.#held.get(holder) ?? 0, this.use.fair);
    const more = (a: Holder, b: Holder) => (sum(a) - sum(b) || own(a) - own(b)) > 0;
    return [...this.#held.keys()].reduce((most, next) => (more(next, most) ? next : most));
  }
}
