// Owners of short ids. Of two peers that draw the same one, the lower name keeps it, and the other draws again once it
// knows (mesh: peers.go).
import { firstIndex } from "../address/sorted.ts";
import { below, type Random } from "../clock/random.ts";
import { SHORT_IDS } from "./bounds.ts";
import type { PeerName } from "./name.ts";
import type { Peer } from "./peer.ts";

/** Draw a short id; where another peer has it, the mesh draws again. */
export function drawShortId(random: Random): number {
  return Number(random.u64() & BigInt(SHORT_IDS - 1));
}

/** The effects of a change of short ids. */
export interface ShortIdChanges {
  /** The owner of some id has changed. */
  invalidated: boolean;
  /** We lost our id to another peer and need a new one. */
  lost: boolean;
}

/** Short ids and the peers that claim them, the lowest name first. */
export class ShortIds {
  readonly #claims = new Map<number, Peer[]>();
  /** The last owner of each id. */
  readonly #used = new Map<number, PeerName>();

  constructor(readonly ourself: Peer) {}

  /** Number of claimed ids. */
  get size(): number {
    return this.#claims.size;
  }

  /** Return the owner of an id. */
  owner(id: number): Peer | undefined {
    return this.#claims.get(id)?.[0];
  }

  add(peer: Peer, changes: ShortIdChanges): void {
    if (!peer.hasShortId) return;
    const claims = this.#claims.get(peer.shortId) ?? [];
    const before = claims[0];
    claims.splice(placeOf(peer.name, claims), 0, peer);
    this.#claims.set(peer.shortId, claims);
    const last = this.#used.get(peer.shortId);
    const reused = before === undefined && last !== undefined && last !== peer.name;
    if (reused || (before !== undefined && claims[0] !== before)) changes.invalidated = true;
    if (before === this.ourself && claims[0] !== before) changes.lost = true;
    this.#used.set(peer.shortId, claims[0]?.name ?? peer.name);
  }

  remove(peer: Peer, changes: ShortIdChanges): void {
    if (!peer.hasShortId) return;
    const claims = this.#claims.get(peer.shortId) ?? [];
    const at = placeOf(peer.name, claims);
    if (claims[at] !== peer) return;
    claims.splice(at, 1);
    if (claims.length === 0) this.#claims.delete(peer.shortId);
    else if (at === 0) changes.invalidated = true;
  }

  /** Remove a crowd of peers, of which a liar may give all the same id. */
  removeAll(peers: ReadonlySet<Peer>, changes: ShortIdChanges): void {
    const ids = new Set<number>();
    for (const { shortId } of peers) ids.add(shortId);
    for (const id of ids) {
      const claims = this.#claims.get(id) ?? [];
      const left = claims.filter((peer) => !peers.has(peer));
      if (left.length === 0) this.#claims.delete(id);
      else this.#claims.set(id, left);
      if (left.length > 0 && left[0] !== claims[0]) changes.invalidated = true;
    }
  }

  /** Return an unclaimed id, at random; undefined where there is none. */
  chooseFree(random: Random): number | undefined {
    const free = SHORT_IDS - this.#claims.size;
    if (free <= 0) return undefined;
    let skip = below(random, free);
    for (let id = 0; id < SHORT_IDS; id++) {
      if (!this.#claims.has(id) && skip-- === 0) return id;
    }
    return undefined;
  }
}

/** Return the index of a name in a sorted list of peers, or where it would be. */
function placeOf(name: PeerName, peers: readonly Peer[]): number {
  return firstIndex(peers.length, (at) => (peers[at]?.name ?? name) >= name);
}
