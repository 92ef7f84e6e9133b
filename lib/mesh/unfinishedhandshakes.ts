// Connections before the end of their handshake, limited per address and in total. The oldest is evicted, as an honest handshake
// takes milliseconds.

/** Unfinished handshakes, in all and from one address. */
export const MAX_HANDSHAKES = 512;
export const MAX_HANDSHAKES_PER_ADDRESS = 32;

/** A connection before the end of its handshake. */
export interface PendingHandshake {
  readonly address: string;
  /** The far end's address, without the port. */
  readonly remoteIp: string;
  shutdown(error: Error): void;
}

/** An evicted handshake, and the reason. */
export interface Evicted {
  readonly oldest: PendingHandshake;
  readonly why: string;
}

export class UnfinishedHandshakes {
  /** Each address from its first handshake on, with the oldest first. */
  readonly #byAddress = new Map<string, Set<PendingHandshake>>();
  #count = 0;

  get count(): number {
    return this.#count;
  }

  /** The most of one address. */
  get largest(): number {
    return Math.max(0, ...Array.from(this.#byAddress.values(), ({ size }) => size));
  }

  all(): PendingHandshake[] {
    return [...this.#byAddress.values()].flatMap((own) => [...own]);
  }

  /** Add a connection; remove and return the one that is evicted, if any. */
  add(pending: PendingHandshake): Evicted | undefined {
    const own = this.#byAddress.get(pending.remoteIp) ?? new Set();
    own.add(pending);
    this.#byAddress.set(pending.remoteIp, own);
    this.#count++;
    if (own.size > MAX_HANDSHAKES_PER_ADDRESS)
      return this.#evict(own, `more than ${MAX_HANDSHAKES_PER_ADDRESS} unfinished handshakes`);
    if (this.#count <= MAX_HANDSHAKES) return undefined;
    const most = [...this.#byAddress.values()].reduce((a, b) => (b.size > a.size ? b : a));
    return this.#evict(
      most,
      `more than ${MAX_HANDSHAKES} unfinished handshakes in total, most of them from this address`,
    );
  }

  /** Remove a connection, if it is one of these. */
  remove(pending: PendingHandshake): void {
    const own = this.#byAddress.get(pending.remoteIp);
    if (!own?.delete(pending)) return;
    this.#count--;
    if (own.size === 0) this.#byAddress.delete(pending.remoteIp);
  }

  #evict(own: ReadonlySet<PendingHandshake>, why: string): Evicted | undefined {
    const [oldest] = own;
    if (!oldest) return undefined;
    this.remove(oldest);
    return { oldest, why };
  }
}
