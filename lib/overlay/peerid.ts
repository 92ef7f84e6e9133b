// Numbers of peers in the tables of kernel and sleeve engine: a peer's short id where it is unique, else a number local to
// this router. The wire format of the fast datapath has room for short ids only.

import { SHORT_IDS } from "../mesh/bounds.ts";
import type { PeerName } from "../mesh/name.ts";
import type { Peer } from "../mesh/peer.ts";
import type { Peers } from "../mesh/peers.ts";

/** Numbers are below this. */
export const PEER_IDS = 2 * SHORT_IDS;
/** As a destination: along the source's broadcast tree. */
export const BROADCAST = 0xffff;

/** Return true for numbers that fit a VXLAN network identifier. */
export function isShortId(id: number): boolean {
  return id < SHORT_IDS;
}

/** Allocate a number for each known peer; there are as many as the topology has room for (mesh/bounds.ts). */
export class PeerIds {
  readonly #own = new Map<PeerName, number>();
  /** Unused numbers; the last is taken next. */
  readonly #free = Array.from({ length: PEER_IDS - SHORT_IDS }, (_, i) => PEER_IDS - 1 - i);

  constructor(private readonly peers: Pick<Peers, "get" | "byShortId">) {}

  /** Return the peer's number; undefined when there are no more. */
  of(peer: Peer): number | undefined {
    if (peer.hasShortId && this.peers.byShortId(peer.shortId) === peer) return peer.shortId;
    return this.#own.get(peer.name) ?? this.#allocate(peer.name);
  }

  #allocate(name: PeerName): number | undefined {
    if (this.#free.length === 0) this.#reclaim();
    const id = this.#free.pop();
    if (id !== undefined) this.#own.set(name, id);
    return id;
  }

  /** Free the numbers of peers that are gone. */
  #reclaim(): void {
    for (const [name, id] of this.#own) {
      if (this.peers.get(name)) continue;
      this.#own.delete(name);
      this.#free.push(id);
    }
  }
}
