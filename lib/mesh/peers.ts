// All peers of the network, as gossip has told. What a peer says of itself wins by its version, then by its uid (mesh:
// peers.go).
import type { Clock } from "../clock/clock.ts";
import type { Random } from "../clock/random.ts";
import type { Work } from "../clock/slices.ts";
import { Soon } from "../clock/soon.ts";
import type { Limit } from "../sys/limit.ts";
import { MAX_CONNECTIONS, MAX_PEERS, MAX_VERSION, SHORT_IDS } from "./bounds.ts";
import type { PeerName } from "./name.ts";
import {
  type Announced,
  AnnouncedConnections,
  announcedBy,
  Peer,
  type PeerSummary,
  type PeerUpdate,
  readTopology,
  type Wanted,
} from "./peer.ts";
import { type ShortIdChanges, ShortIds } from "./shortid.ts";

const GARBAGE_COLLECTION_MS = 1000;

export interface PeersListener {
  /** Peers became unreachable and were forgotten. */
  peersGone(peers: readonly Peer[]): void;
  shortIdsInvalidated(): void;
  /** What we say of ourself has changed and has to be broadcast. */
  ourselfChanged(): void;
  /** Peers know us with the greatest version, which we cannot exceed. */
  exhausted(): void;
  /** Return how many peers are reachable, ourself included; unless given, the topology is walked. */
  reachable?(): number;
  /** Part of a topology update was not added: no room, or invalid. */
  refused(what: string): void;
}

/** The peers of an update of which it was newer than what we knew, or completed it, and older. */
export interface Applied {
  readonly fresh: Set<PeerName>;
  readonly stale: Set<PeerName>;
}

export class Peers {
  /** Peers whose connections have changed since the routes took notice of it, or that have come or gone. */
  readonly relinked = new Set<PeerName>();
  readonly #byName = new Map<PeerName, Peer>();
  readonly #shortIds: ShortIds;
  readonly #collection: Soon;
  readonly #collectingSoon: Soon;
  /** Updates that are being applied. */
  #applying = 0;
  /** Connections of other peers, each counted at both ends. */
  #connections = 0;
  /** Those of them that are established. */
  #established = 0;
  /** Peers and connections that there was no room for. */
  #refused = 0;
  #stopped = false;

  constructor(
    readonly ourself: Peer,
    private readonly clock: Clock,
    private readonly random: Random,
    private readonly listener: PeersListener,
    private readonly read: typeof readTopology = readTopology,
  ) {
    this.#collection = new Soon(clock, () => this.collectGarbage());
    this.#collectingSoon = new Soon(clock, () => this.collectGarbage());
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

  /** Numbers of connections of other peers, each counted at both ends. */
  get connectionCounts(): { readonly all: number; readonly established: number } {
    return { all: this.#connections, established: this.#established };
  }

  /** Return the known peer of that name, else add this one; with a reference to it. */
  referTo(peer: Peer): Peer {
    let known = this.#byName.get(peer.name);
    if (!known) {
      known = peer;
      this.#byName.set(peer.name, peer);
      this.relinked.add(peer.name);
      peer.heardAt = this.clock.now();
      const changes = noChanges();
      this.#shortIds.add(peer, changes);
      this.#settle(changes);
    }
    known.references++;
    return known;
  }

  /** Give a reference back. A peer that was turned away is known by that alone, and forgotten within a second. */
  release(peer: Peer): void {
    if (--peer.references === 0) this.#collection.within(GARBAGE_COLLECTION_MS);
  }

  /**
   * Apply a topology update, as far as there is room, and note in `applied` what it changed. A peer is applied whole or not
   * at all: the connection that brings the update may end between two of them, and other updates are applied meanwhile.
   * Throws GobError or PeerNameError, with nothing changed, where it is malformed.
   */
  *apply(bytes: Uint8Array, applied: Applied): Work {
    const changes = noChanges();
    this.#applying++;
    try {
      const newcomers = new Set<PeerName>();
      const updates = yield* this.read(bytes, (summary) => this.#wants(summary, newcomers));
      for (const update of updates) {
        yield;
        this.#applyOne(update, changes, applied);
      }
    } finally {
      this.#applying--;
      this.#settle(changes);
      this.#collection.within(GARBAGE_COLLECTION_MS);
    }
  }

  #applyOne({ summary, connections }: PeerUpdate, changes: ShortIdChanges, { fresh, stale }: Applied): void {
    const known = this.#byName.get(summary.name);
    if (known && summary.version < known.version) stale.add(known.name);
    if (known === this.ourself) return this.#correct(summary);
    if (connections === "not wanted") return;
    if (connections === "too many") return this.#refuse(`connections of peer ${summary.name}`);
    const peer = known ?? this.#add(new Peer(summary));
    if (!peer) return this.#refuse(`peer ${summary.name}`);
    if (!known) this.#shortIds.add(peer, changes);
    const isNewer = !known || this.#supersede(known, summary, changes);
    if (!isNewer && !this.#canComplete(peer, summary)) return;
    this.#connect(peer, connections);
    // A truncated peer counts as changed once it is complete.
    if (isNewer || !peer.incomplete) fresh.add(peer.name);
  }

  /** Forget unreachable peers in the next turn: many connections may end at once. */
  collectSoon(): void {
    this.#collectingSoon.within(0);
  }

  collectGarbage(): void {
    // The connections that lead to a peer may be further on in the update that is being applied.
    if (this.#applying > 0) return;
    if (this.listener.reachable && this.listener.reachable() >= this.#byName.size) return;
    const reached = new Set<Peer>([this.ourself]);
    for (const peer of reached) {
      if (reached.size === this.#byName.size) return;
      for (const name of peer.connections.keys()) {
        const remote = this.#byName.get(name);
        if (remote) reached.add(remote);
      }
    }
    const gone = [...this.#byName.values()].filter((peer) => !reached.has(peer) && peer.references === 0);
    if (gone.length === 0) return;
    const changes = noChanges();
    for (const peer of gone) {
      this.#byName.delete(peer.name);
      this.relinked.add(peer.name);
      this.#count(peer, -1);
    }
    this.#shortIds.removeAll(new Set(gone), changes);
    // An id may be free now that was not when we lost ours.
    if (this.#shortIds.owner(this.ourself.shortId) !== this.ourself) changes.lost = true;
    this.listener.peersGone(gone);
    this.#settle(changes);
  }

  /**
   * Raise our version: what we say of ourself has changed, or has to be newer than a version (`beyond`) that peers know.
   * Where there is no greater one, we have to begin anew.
   */
  raiseVersion(beyond = 0): void {
    const version = Math.max(this.ourself.version, beyond) + 1;
    if (version <= MAX_VERSION) this.ourself.version = version;
    else this.listener.exhausted();
  }

  /** What there was no room for, for the status. */
  notes(): string[] {
    return this.#refused === 0
      ? []
      : [
          `${this.#refused} peers or connections of peers were not added to the topology: limits are ` +
            `${MAX_PEERS} peers (${this.#byName.size} known) and ${MAX_CONNECTIONS} connections (${this.#connections} known)`,
        ];
  }

  limits(): Limit[] {
    return [
      { name: "peers", value: this.#byName.size, max: MAX_PEERS, refused: this.#refused },
      { name: "topology-connections", value: this.#connections, max: MAX_CONNECTIONS },
      { name: "short-ids", value: this.#shortIds.size, max: SHORT_IDS },
    ];
  }

  stop(): void {
    this.#stopped = true;
    this.#collection.stop();
    this.#collectingSoon.stop();
  }

  #add(peer: Peer): Peer | undefined {
    if (this.#byName.size >= MAX_PEERS) return undefined;
    this.#byName.set(peer.name, peer);
    peer.heardAt = this.clock.now();
    return peer;
  }

  #refuse(what: string): void {
    this.#refused++;
    this.listener.refused(what);
  }

  /**
   * Return what to decode of a peer of an update, which may have tens of thousands for which there is no room. `newcomers` are
   * those of it that are unknown so far.
   */
  #wants(summary: PeerSummary, newcomers: Set<PeerName>): Wanted {
    const known = this.#byName.get(summary.name);
    if (known === this.ourself) return "summary";
    if (!known) {
      if (isValid(summary) && this.#byName.size + newcomers.add(summary.name).size <= MAX_PEERS) return "all";
      newcomers.delete(summary.name);
      this.#refuse(`peer ${summary.name}`);
      return "nothing";
    }
    if (isValid(summary) && (supersedes(summary, known) || this.#canComplete(known, summary))) return "all";
    return summary.version < known.version ? "summary" : "nothing";
  }

  /** Return whether there was no room for all connections of this version of a peer, and may be now. */
  #canComplete(peer: Peer, { version, uid }: PeerSummary): boolean {
    return (
      peer.incomplete &&
      peer.version === version &&
      peer.uid === uid &&
      this.#byName.size < MAX_PEERS &&
      this.#connections < MAX_CONNECTIONS
    );
  }

  /** Raise our version above that of an earlier start, or of an impostor, which peers remember. */
  #correct({ uid, version }: PeerSummary): void {
    const { ourself } = this;
    if (version < ourself.version || (version === ourself.version && uid === ourself.uid)) return;
    this.raiseVersion(version);
    this.listener.ourselfChanged();
  }

  #supersede(peer: Peer, summary: PeerSummary, changes: ShortIdChanges): boolean {
    if (!isValid(summary) || !supersedes(summary, peer)) return false;
    peer.version = summary.version;
    if (peer.uid !== summary.uid) peer.heardAt = this.clock.now();
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

  #connect(peer: Peer, announced: Announced): void {
    this.#count(peer, -1);
    const lacking = new Set<PeerName>();
    for (const name of announced.keys()) {
      const room = this.#connections + announced.size - lacking.size <= MAX_CONNECTIONS;
      if (!room || !(this.#byName.has(name) || this.#add(Peer.placeholder(name)))) lacking.add(name);
    }
    peer.incomplete = lacking.size > 0;
    if (peer.incomplete) this.#refuse(`connections of peer ${peer.name}`);
    const known = peer.incomplete
      ? new Map([...announced].filter(([name]) => !lacking.has(name)))
      : announced;
    peer.connections = new AnnouncedConnections(known, this.#byName);
    this.relinked.add(peer.name);
    this.#count(peer, 1);
  }

  /** Add the connections of a peer to the counts, or take them out. */
  #count(peer: Peer, sign: 1 | -1): void {
    const announced = announcedBy(peer);
    this.#connections += sign * announced.size;
    for (const { established } of announced.values()) if (established) this.#established += sign;
  }

  #settle(changes: ShortIdChanges): void {
    if (this.#stopped) return;
    if (changes.lost && this.#shortIds.owner(this.ourself.shortId) !== this.ourself) {
      const id = this.#shortIds.chooseFree(this.random);
      if (id !== undefined) {
        this.#shortIds.remove(this.ourself, changes);
        this.ourself.shortId = id;
        this.raiseVersion();
        this.#shortIds.add(this.ourself, changes);
        changes.invalidated = true;
        this.listener.ourselfChanged();
      }
    }
    if (changes.invalidated) this.listener.shortIdsInvalidated();
  }
}

/** Return whether the version can be compared with others. */
function isValid({ version }: PeerSummary): boolean {
  return version <= MAX_VERSION;
}

/** Return whether `summary` is newer than what we know of the peer. */
function supersedes(summary: PeerSummary, peer: Peer): boolean {
  if (summary.version !== peer.version) return summary.version > peer.version;
  if (summary.uid !== peer.uid) return summary.uid > peer.uid;
  return summary.hasShortId && !peer.hasShortId;
}

function noChanges(): ShortIdChanges {
  return { invalidated: false, lost: false };
}
