// Numbers for peers, by which the kernel's tables and the sleeve engine know them: a peer's short id where it has one
// to itself, else a number that only we know. The fast datapath's wire format knows short ids alone.

import { SHORT_IDS } from "../mesh/bounds.ts";
import type { PeerName } from "../mesh/name.ts";
import type { Peer } from "../mesh/peer.ts";
import type { Peers } from "../mesh/peers.ts";

/** Numbers are below this. */
export const PEER_IDS = 2 * SHORT_IDS;
/** In place of a destination: everybody that the source's broadcasts go to. */
export const EVERYBODY = 0xffff;

/** True for numbers that VXLAN can carry. */
export function isShortId(id: number): boolean {
  return id < SHORT_IDS;
}

/** Gives every known peer a number. */
export class PeerIds {
  readonly #own = new Map<PeerName, number>();

  constructor(private readonly peers: Peers) {}

  /** The peer's number; undefined when there are no more. */
  of(peer: Peer): number | undefined {
    if (peer.hasShortId && this.peers.byShortId(peer.shortId) === peer) return peer.shortId;
    return this.#own.get(peer.name) ?? this.#draw(peer.name);
  }

  #draw(name: PeerName): number | undefined {
    const taken = new Set(this.#own.values());
    for (const known of this.#own.keys()) {
      if (!this.peers.get(known)) this.#own.delete(known);
    }
    for (let id = SHORT_IDS; id < PEER_IDS; id++) {
      if (taken.has(id)) continue;
      this.#own.set(name, id);
      return id;
    }
    return undefined;
  }
}
