// All peers of the network, as far as gossip has told us. The newest word of each peer on itself wins: by its
// version, then by its uid (mesh: peers.go).
import type { Clock, Timer } from "../clock/clock.ts";
import type { Random } from "../clock/random.ts";
import type { Work } from "../clock/slices.ts";
import { MAX_CONNECTIONS, MAX_PEERS, MAX_VERSION } from "./bounds.ts";
import type { PeerName } from "./name.ts";
import {
  type ConnectionSummary,
  Peer,
  type PeerConnection,
  type PeerSummary,
  type PeerUpdate,
  readTopology,
} from "./peer.ts";
import { type ShortIdChanges, ShortIds } from "./shortid.ts";

const GARBAGE_COLLECTION_MS = 1000;

export interface PeersListener {
  /** Peers can no longer be reached and were forgotten. */
  peersGone(peers: readonly Peer[]): void;
  shortIdsInvalidated(): void;
  /** What we say of ourself has changed and should be told. */
  ourselfChanged(): void;
  /** There is no newer version of what we say of ourself than the one that others know. */
  exhausted(): void;
  /** Something of a topology update was not taken in, for want of room or sense. */
  refused(what: string): void;
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
  #collectingSoon: Timer | undefined;
  /** Updates that are being taken in. */
  #applying = 0;
  /** Connections that other peers say they have, each counted at both ends. */
  #connections = 0;
  /** What there was no room for, counted. */
  #refused = 0;

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
   * Takes in a topology update. Throws GobError or PeerNameError and changes nothing where it is malformed. What there
   * is no room for is left out.
   */
  *apply(bytes: Uint8Array): Work<Applied> {
    const updates: PeerUpdate[] = [];
    for (const update of readTopology(bytes, (summary) => this.#wants(summary))) {
      updates.push(update);
      yield;
    }
    this.#applying++;
    try {
      return yield* this.#applyAll(updates);
    } finally {
      this.#applying--;
      this.#collection ??= this.clock.after(GARBAGE_COLLECTION_MS, () => {
        this.#collection = undefined;
        this.collectGarbage();
      });
    }
  }

  *#applyAll(updates: readonly PeerUpdate[]): Work<Applied> {
    const changes = noChanges();
    const added = new Set<Peer>();
    for (const { summary, connections } of updates) {
      if (this.#byName.has(summary.name)) continue;
      const usable = isValid(summary) && typeof connections !== "string";
      const peer = usable ? this.#add(new Peer(summary)) : undefined;
      if (peer) added.add(peer);
      else this.#refuse(`peer ${summary.name}`);
    }
    for (const peer of added) this.#shortIds.add(peer, changes);
    const fresh = new Set<PeerName>();
    const stale = new Set<PeerName>();
    for (const { summary, connections } of updates) {
      yield;
      const peer = this.#byName.get(summary.name);
      if (!peer) continue;
      if (summary.version < peer.version) stale.add(peer.name);
      if (peer === this.ourself) {
        this.#correct(summary);
      } else if (typeof connections === "string") {
        if (connections === "too many") this.#refuse(`what peer ${peer.name} says of its connections`);
      } else if (added.delete(peer) || this.#supersede(peer, summary, changes)) {
        fresh.add(peer.name);
        this.#connect(peer, connections);
      } else if (this.#canComplete(peer, summary)) {
        this.#connect(peer, connections);
      }
    }
    this.#settle(changes);
    return { fresh, stale };
  }

  /** Forgets peers that no path of connections leads to, in a moment: much may end at once. */
  collectSoon(): void {
    this.#collectingSoon ??= this.clock.after(0, () => {
      this.#collectingSoon = undefined;
      this.collectGarbage();
    });
  }

  collectGarbage(): void {
    // The connections that lead to a peer may be further on in the update that is being applied.
    if (this.#applying > 0) return;
    const reached = new Set<Peer>([this.ourself]);
    for (const peer of reached) {
      if (reached.size === this.#byName.size) return;
      for (const connection of peer.connections.values()) reached.add(connection.remote);
    }
    const gone = [...this.#byName.values()].filter((peer) => !reached.has(peer) && peer.references === 0);
    if (gone.length === 0) return;
    const changes = noChanges();
    for (const peer of gone) {
      this.#byName.delete(peer.name);
      this.#connections -= peer.connections.size;
      this.#shortIds.remove(peer, changes);
    }
    // With an id freed, the draw that failed for want of one can be made up for.
    if (this.#shortIds.owner(this.ourself.shortId) !== this.ourself) changes.lost = true;
    this.listener.peersGone(gone);
    this.#settle(changes);
  }

  /**
   * What we say of ourself has changed, or is to be newer than a version that others know: they believe no older one.
   * Beyond the greatest there is none; then we have to begin anew.
   */
  raise(beyond = 0): void {
    const version = Math.max(this.ourself.version, beyond) + 1;
    if (version <= MAX_VERSION) this.ourself.version = version;
    else this.listener.exhausted();
  }

  /** What there is no room for, in words; empty while there is room. */
  notes(): string[] {
    return this.#refused === 0
      ? []
      : [
          `${this.#refused} peers or connections of peers were not added to the topology: limits are ` +
            `${MAX_PEERS} peers (${this.#byName.size} known) and ${MAX_CONNECTIONS} connections (${this.#connections} known)`,
        ];
  }

  stop(): void {
    this.#collection?.cancel();
    this.#collectingSoon?.cancel();
  }

  #add(peer: Peer): Peer | undefined {
    if (this.#byName.size >= MAX_PEERS) return undefined;
    this.#byName.set(peer.name, peer);
    return peer;
  }

  #refuse(what: string): void {
    this.#refused++;
    this.listener.refused(what);
  }

  /** True where the connections of a peer are worth looking at. */
  #wants(summary: PeerSummary): boolean {
    const known = this.#byName.get(summary.name);
    if (!isValid(summary) || known === this.ourself) return false;
    if (!known) return this.#byName.size < MAX_PEERS;
    return supersedes(summary, known) || this.#canComplete(known, summary);
  }

  /** True where there was no room for all connections of this very state of a peer, and may be now. */
  #canComplete(peer: Peer, { version, uid }: PeerSummary): boolean {
    return (
      peer.incomplete &&
      peer.version === version &&
      peer.uid === uid &&
      this.#byName.size < MAX_PEERS &&
      this.#connections < MAX_CONNECTIONS
    );
  }

  /** An older life of ours, or an impostor, is remembered out there: our own word has to be newer than that. */
  #correct({ uid, version }: PeerSummary): void {
    const { ourself } = this;
    if (version < ourself.version || (version === ourself.version && uid === ourself.uid)) return;
    this.raise(version);
    this.listener.ourselfChanged();
  }

  #supersede(peer: Peer, summary: PeerSummary, changes: ShortIdChanges): boolean {
    if (!isValid(summary) || !supersedes(summary, peer)) return false;
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

  #connect(peer: Peer, summaries: readonly ConnectionSummary[]): void {
    this.#connections -= peer.connections.size;
    const connections = new Map<PeerName, PeerConnection>();
    peer.incomplete = false;
    for (const { name, address, outbound, established } of summaries) {
      const room = this.#connections + connections.size < MAX_CONNECTIONS;
      const remote = room ? (this.#byName.get(name) ?? this.#add(Peer.placeholder(name))) : undefined;
      if (remote) connections.set(name, { remote, address, outbound, established });
      else peer.incomplete = true;
    }
    if (peer.incomplete) this.#refuse(`connections of peer ${peer.name}`);
    peer.connections = connections;
    this.#connections += connections.size;
  }

  #settle(changes: ShortIdChanges): void {
    if (changes.lost && this.#shortIds.owner(this.ourself.shortId) !== this.ourself) {
      const id = this.#shortIds.chooseFree(this.random);
      if (id !== undefined) {
        this.#shortIds.remove(this.ourself, changes);
        this.ourself.shortId = id;
        this.raise();
        this.#shortIds.add(this.ourself, changes);
        changes.invalidated = true;
        this.listener.ourselfChanged();
      }
    }
    if (changes.invalidated) this.listener.shortIdsInvalidated();
  }
}

/** True when the version can be compared with others. */
function isValid({ version }: PeerSummary): boolean {
  return version <= MAX_VERSION;
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
