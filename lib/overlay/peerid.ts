// Numbers for peers, by which the kernel's tables and the sleeve engine know them: a peer's short id where it has one
// to itself, else a number that only we know. The fast datapath's wire format knows short ids alone.

import { SHORT_IDS } from "../mesh/bounds.ts";
import type { PeerName } from "../mesh/name.ts";
import type { Peer } from "../mesh/peer.ts";
import type { Peers } from "../mesh/peers.ts";

/** Numbers are below this. */
export const PEER_IDS = 2 * SHORT_IDS;
/** In place of a destination: everybody that the source's broadcasts go to. */
export const BROADCAST = 0xffff;

/** True for numbers that VXLAN can carry. */
export function isShortId(id: number): boolean {
  return id < SHORT_IDS;
}

/** Gives every known peer a number. There are enough for as many as the topology has room for (mesh/bounds.ts). */
export class PeerIds {
  readonly #own = new Map<PeerName, number>();
  /** Numbers that no peer has; the last is given next. */
  readonly #free = Array.from({ length: PEER_IDS - SHORT_IDS }, (_, i) => PEER_IDS - 1 - i);

  constructor(private readonly peers: Pick<Peers, "get" | "byShortId">) {}

  /** The peer's number; undefined when there are no more. */
  of(peer: Peer): number | undefined {
    if (peer.hasShortId && this.peers.byShortId(peer.shortId) === peer) return peer.shortId;
    return this.#own.get(peer.name) ?? this.#draw(peer.name);
  }

  #draw(name: PeerName): number | undefined {
    if (this.#free.length === 0) this.#reclaim();
    const id = this.#free.pop();
    if (id !== undefined) this.#own.set(name, id);
    return id;
  }

  /** Takes back the numbers of peers that are gone. */
  #reclaim(): void {
    for (const [name, id] of this.#own) {
      if (this.peers.get(name)) continue;
      this.#own.delete(name);
      this.#free.push(id);
    }
  }
}
