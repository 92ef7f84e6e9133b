// Addresses about to be released. A container that has died keeps its addresses for a while: one that is restarted finds
// them again, and nobody else gets an address that others still remember as somebody's (weave: containerDiedTimeout).
// One that was given back for good keeps them only while something is in the way: a link that still has the address, or
// a disk that cannot save it.
import { formatIPv4, type IPv4 } from "../address/ipv4.ts";

const GRACE_MS = 30_000;
/** Notes shown in the status. */
const MAX_NOTES = 5;

/** "unseen": nobody has looked yet whether a link has it. */
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

  /** The container has died, `now` in milliseconds; its grace period is over at once where it is not `mayReturn`. False where that is known. */
  died(id: string, address: IPv4, now: number, mayReturn = true): boolean {
    if (this.#departures.has(address)) return false;
    const dueAt = now + (mayReturn ? GRACE_MS : 0);
    this.#departures.set(address, { address, id, dueAt, obstacle: undefined });
    return true;
  }

  /** It is gone for good, but this is in the way. */
  blocked(id: string, address: IPv4, now: number, obstacle: Obstacle): void {
    this.#departures.set(address, { address, id, dueAt: now, obstacle });
  }

  get(address: IPv4): Departure | undefined {
    return this.#departures.get(address);
  }

  /** Its holder is there again, or the address has been released. */
  forget(address: IPv4): void {
    this.#departures.delete(address);
  }

  forgetHolder(id: string): void {
    for (const departure of this.#departures.values()) {
      if (departure.id === id) this.#departures.delete(departure.address);
    }
  }

  /** Holders of addresses in their grace period. */
  holders(): Set<string> {
    return new Set(Array.from(this.#departures.values(), ({ id }) => id));
  }

  due(now: number): Departure[] {
    return [...this.#departures.values()].filter(({ dueAt }) => dueAt <= now);
  }

  /** Why addresses are in use that were given back, for the status. */
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
