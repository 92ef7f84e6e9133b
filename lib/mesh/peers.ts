// All peers of the network, as far as gossip has told us. The newest word of each peer on itself wins: by its
// version, then by its uid (mesh: peers.go).
import type { Clock, Timer } from "../clock/clock.ts";
import type { Random } from "../clock/random.ts";
import type { PeerName } from "./name.ts";
import {
  type ConnectionSummary,
  decodeTopology,
  Peer,
  type PeerConnection,
  type PeerSummary,
  type PeerUpdate,
} from "./peer.ts";
import { type ShortIdChanges, ShortIds } from "./shortid.ts";

const GARBAGE_COLLECTION_MS = 1000;

export interface PeersListener {
  /** A peer can no longer be reached and was forgotten. */
  peerGone(peer: Peer): void;
  shortIdsInvalidated(): void;
  /** What we say of ourself has changed and should be told. */
  ourselfChanged(): void;
}

/** Of an update: peers that it told anything new of, and those it knew less of than we do. */
export interface Applied {
  readonly fresh: Set<PeerName>;
  readonly stale: Set<PeerName>;
}

export class Peers {
  readonly #byName = new Map<PeerName, Peer>();
  readonly #shortIds: ShortIds;
  #collection: Timer | undefined;

  constructor(
    readonly ourself: Peer,
    private readonly clock: Clock,
    private readonly random: Random,
    private readonly listener: PeersListener,
  ) {
    this.#shortIds = new ShortIds(ourself);
    this.#byName.set(ourself.name, ourself);
    ourself.references++;
    this.#shortIds.add(ourself, noChanges());
  }

  get(name: PeerName): Peer | undefined {
    return this.#byName.get(name);
  }

  byShortId(id: number): Peer | undefined {
    return this.#shortIds.owner(id);
  }

  names(): Set<PeerName> {
    return new Set(this.#byName.keys());
  }

  all(): IterableIterator<Peer> {
    return this.#byName.values();
  }

  get size(): number {
    return this.#byName.size;
  }

  /** The peer of that name, made known with this summary where it is new; referred to from now on. */
  referTo(peer: Peer): Peer {
    let known = this.#byName.get(peer.name);
    if (!known) {
      known = peer;
      this.#byName.set(peer.name, peer);
      const changes = noChanges();
      this.#shortIds.add(peer, changes);
      this.#settle(changes);
    }
    known.references++;
    return known;
  }

  release(peer: Peer): void {
    peer.references--;
  }

  /**
   * Takes in a topology update. Throws GobError or PeerNameError and changes nothing where it is malformed.
   */
  apply(bytes: Uint8Array): Applied {
    const updates = decodeTopology(bytes, (summary) => {
      const known = this.#byName.get(summary.name);
      return !known || (known !== this.ourself && supersedes(summary, known));
    });
    const changes = noChanges();
    const added = new Set<Peer>();
    for (const { summary } of updates) {
      if (!this.#byName.has(summary.name)) added.add(this.#add(new Peer(summary)));
    }
    for (const { connections } of updates) {
      for (const { name } of connections) {
        if (!this.#byName.has(name)) this.#add(Peer.placeholder(name));
      }
    }
    for (const peer of added) this.#shortIds.add(peer, changes);
    const fresh = new Set<PeerName>();
    const stale = new Set<PeerName>();
    let toldOfUs = false;
    for (const update of updates) {
      const peer = this.#byName.get(update.summary.name);
      if (!peer) continue;
      if (update.summary.version < peer.version) stale.add(peer.name);
      if (peer === this.ourself) {
        toldOfUs = this.#correct(update) || toldOfUs;
      } else if (added.has(peer) || this.#supersede(peer, update, changes)) {
        peer.connections = this.#connections(update.connections);
        fresh.add(peer.name);
      }
    }
    this.#settle(changes);
    if (toldOfUs) this.listener.ourselfChanged();
    this.#collection ??= this.clock.after(GARBAGE_COLLECTION_MS, () => {
      this.#collection = undefined;
      this.collectGarbage();
    });
    return { fresh, stale };
  }

  /** Forgets peers that no path of connections leads to. */
  collectGarbage(): void {
    const reached = new Set<Peer>([this.ourself]);
    for (const peer of reached) {
      for (const connection of peer.connections.values()) reached.add(connection.remote);
    }
    const gone = [...this.#byName.values()].filter((peer) => !reached.has(peer) && peer.references === 0);
    if (gone.length === 0) return;
    const changes = noChanges();
    for (const peer of gone) {
      this.#byName.delete(peer.name);
      this.#shortIds.remove(peer, changes);
    }
    // With an id freed, the draw that failed for want of one can be made up for.
    if (this.#shortIds.owner(this.ourself.shortId) !== this.ourself) changes.lost = true;
    for (const peer of gone) this.listener.peerGone(peer);
    this.#settle(changes);
  }

  stop(): void {
    this.#collection?.cancel();
  }

  #add(peer: Peer): Peer {
    this.#byName.set(peer.name, peer);
    return peer;
  }

  /** An older life of ours, or an impostor, is remembered out there: our own word has to be newer than that. */
  #correct({ summary }: PeerUpdate): boolean {
    if (summary.uid === this.ourself.uid || summary.version < this.ourself.version) return false;
    this.ourself.version = summary.version + 1;
    return true;
  }

  #supersede(peer: Peer, { summary }: PeerUpdate, changes: ShortIdChanges): boolean {
    if (!supersedes(summary, peer)) return false;
    peer.version = summary.version;
    peer.uid = summary.uid;
    peer.nickName = summary.nickName;
    if (summary.shortId !== peer.shortId || summary.hasShortId !== peer.hasShortId) {
      this.#shortIds.remove(peer, changes);
      peer.shortId = summary.shortId;
      peer.hasShortId = summary.hasShortId;
      this.#shortIds.add(peer, changes);
    }
    return true;
  }

  #connections(summaries: readonly ConnectionSummary[]): Map<PeerName, PeerConnection> {
    const connections = new Map<PeerName, PeerConnection>();
    for (const { name, address, outbound, established } of summaries) {
      const remote = this.#byName.get(name);
      if (remote) connections.set(name, { remote, address, outbound, established });
    }
    return connections;
  }

  #settle(changes: ShortIdChanges): void {
    if (changes.lost) {
      const id = this.#shortIds.chooseFree(this.random);
      if (id !== undefined) {
        this.#shortIds.remove(this.ourself, changes);
        this.ourself.shortId = id;
        this.ourself.version++;
        this.#shortIds.add(this.ourself, changes);
        changes.invalidated = true;
        this.listener.ourselfChanged();
      }
    }
    if (changes.invalidated) this.listener.shortIdsInvalidated();
  }
}

/** True when `summary` is newer than what we know of the peer. */
function supersedes(summary: PeerSummary, peer: Peer): boolean {
  if (summary.version !== peer.version) return summary.version > peer.version;
  if (summary.uid !== peer.uid) return summary.uid > peer.uid;
  return summary.hasShortId && !peer.hasShortId;
}

function noChanges(): ShortIdChanges {
  return { invalidated: false, lost: false };
}
