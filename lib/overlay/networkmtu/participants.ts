// The peers that count for the MTU of the network: those in the mesh, and those that were lately. Pure: times are passed in.
import { MAX_PEERS } from "../../mesh/bounds.ts";
import type { PeerName } from "../../mesh/name.ts";

/** Time for the record of a peer that is new in the topology. */
export const RECORD_MS = 5_000;
/** A peer counts for so long after it was last reachable: it may only be restarting, while its kernel forwards. */
export const GONE_MS = 70_000;

interface Known {
  readonly since: number;
  /** It has been found to take no part. */
  without?: boolean;
  /** Since when it is no longer in the mesh. */
  goneAt?: number | undefined;
}

export interface ParticipantsParams {
  /** Return whether a neighbour takes part; undefined for peers that are no neighbours. */
  takesPart(peer: PeerName): boolean | undefined;
  /** Return whether a peer has told what it carries. */
  hasRecord(peer: PeerName): boolean;
  /** Called when a peer counts no more. */
  forget(peer: PeerName): void;
}

/** What a look at the peers finds. */
export interface Look {
  /** A peer that takes no part, if there is one. */
  readonly without: PeerName | undefined;
  /** For how many ms the record of a new peer may still come; infinity where none is missing. */
  readonly waitMs: number;
  /** In how many ms to look again. */
  readonly nextMs: number;
}

export class Participants {
  readonly #known = new Map<PeerName, Known>();

  constructor(private readonly params: ParticipantsParams) {}

  /** Number of peers that count, present or gone. */
  get size(): number {
    return this.#known.size;
  }

  has(peer: PeerName): boolean {
    return this.#known.has(peer);
  }

  all(): Iterable<PeerName> {
    return this.#known.keys();
  }

  /** Take the other peers in the mesh at `now`, in ms; return since when there are others. */
  meet(present: ReadonlySet<PeerName>, now: number): number | undefined {
    for (const peer of present) if (!this.#known.has(peer)) this.#known.set(peer, { since: now });
    return this.#known.values().next().value?.since;
  }

  /** Look through all peers that count. */
  look(present: ReadonlySet<PeerName>, now: number): Look {
    const { takesPart, hasRecord, forget } = this.params;
    let without: PeerName | undefined;
    let waitMs = Number.POSITIVE_INFINITY;
    let nextMs = GONE_MS;
    for (const [peer, known] of this.#known) {
      if (present.has(peer)) known.goneAt = undefined;
      else known.goneAt ??= now;
      // Of more peers than a network can have, those that are gone were invented.
      if (known.goneAt !== undefined && this.#known.size > 2 * MAX_PEERS) known.goneAt = now - GONE_MS;
      const stays = known.goneAt === undefined ? GONE_MS : known.goneAt + GONE_MS - now;
      if (stays <= 0) {
        this.#known.delete(peer);
        forget(peer);
        continue;
      }
      nextMs = Math.min(nextMs, stays);
      const takes = takesPart(peer);
      if (takes !== undefined) known.without = !takes;
      const left = hasRecord(peer) ? Number.POSITIVE_INFINITY : known.since + RECORD_MS - now;
      if (known.without || left <= 0) without ??= peer;
      else waitMs = Math.min(waitMs, left);
    }
    return { without, waitMs, nextMs: Math.min(nextMs, waitMs) };
  }
}
