// Addresses about to be released. A container that died keeps its addresses for a grace period: a restarted one finds
// them again, and no other gets an address that peers still remember (weave: containerDiedTimeout). A removed one keeps
// them while there is an obstacle: a link that still has the address, or a disk that cannot save the release.
import { formatIPv4, type IPv4 } from "../address/ipv4.ts";

const GRACE_MS = 30_000;
/** Notes shown in the status. */
const MAX_NOTES = 5;

/** "unseen": links have not been searched for the address yet. */
export type Obstacle = "unseen" | "on-link" | "not-saved";

export interface Departure {
  readonly address: IPv4;
  readonly id: string;
  /** Milliseconds on the allocator's clock. */
  readonly dueAt: number;
  /** Undefined for a container that may be started again. */
  readonly obstacle: Obstacle | undefined;
}

const REASONS: Record<Exclude<Obstacle, "unseen">, string> = {
  "on-link": "a link on the bridge still has it; it is free once that link is gone",
  "not-saved": "the disk cannot save that; make room (retried every 5 s)",
};

/** Departures by their address; never more than there are addresses in use. */
export class ReleaseGrace {
  readonly #departures = new Map<IPv4, Departure>();

  /** Start the grace period of an address, 0 unless the container `mayReturn`. Returns false where it has started. */
  died(id: string, address: IPv4, now: number, mayReturn = true): boolean {
    if (this.#departures.has(address)) return false;
    const dueAt = now + (mayReturn ? GRACE_MS : 0);
    this.#departures.set(address, { address, id, dueAt, obstacle: undefined });
    return true;
  }

  /** Its container was removed, but there is an obstacle. */
  blocked(id: string, address: IPv4, now: number, obstacle: Obstacle): void {
    this.#departures.set(address, { address, id, dueAt: now, obstacle });
  }

  get(address: IPv4): Departure | undefined {
    return this.#departures.get(address);
  }

  /** Its holder runs again, or the address was released. */
  forget(address: IPv4): void {
    this.#departures.delete(address);
  }

  forgetHolder(id: string): void {
    for (const departure of this.#departures.values()) {
      if (departure.id === id) this.#departures.delete(departure.address);
    }
  }

  /** Return the holders of these addresses. */
  holders(): Set<string> {
    return new Set(Array.from(this.#departures.values(), ({ id }) => id));
  }

  due(now: number): Departure[] {
    return [...this.#departures.values()].filter(({ dueAt }) => dueAt <= now);
  }

  /** Why released addresses are still in use, for the status. */
  notes(): string[] {
    const notes = [...this.#departures.values()].flatMap(({ address, id, obstacle }) =>
      obstacle && obstacle !== "unseen"
        ? [`${formatIPv4(address)} of ${id} was released, but ${REASONS[obstacle]}`]
        : [],
    );
    const more = notes.length - MAX_NOTES;
    return more > 0 ? [...notes.slice(0, MAX_NOTES), `${more} more addresses are held back`] : notes;
  }
}
