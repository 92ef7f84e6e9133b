// Topology gossip: peers and their connections. Only names of peers wait to be sent; peers are encoded when they are sent.
import type { Clock } from "../clock/clock.ts";
import { LatestMap } from "../clock/latestmap.ts";
import { below, type Random } from "../clock/random.ts";
import type { Work } from "../clock/slices.ts";
import type { GossipData, Gossiper } from "./gossip.ts";
import type { PeerName } from "./name.ts";
import { announcedBy, type Peer, topologyMessages } from "./peer.ts";
import type { Applied, Peers } from "./peers.ts";

class TopologyData implements GossipData {
  readonly bytes = 0;

  constructor(
    private readonly peers: Peers,
    private readonly names: ReadonlySet<PeerName>,
  ) {}

  join(others: readonly GossipData[]): GossipData {
    const names = new Set(this.names);
    for (const other of others) {
      if (!(other instanceof TopologyData)) throw new TypeError("topology gossip joins with its like only");
      for (const name of other.names) names.add(name);
    }
    return new TopologyData(this.peers, names);
  }

  encode(): Iterable<Uint8Array> {
    return topologyMessages(this.#known());
  }

  *#known(): Generator<Peer> {
    for (const name of this.names) {
      const peer = this.peers.get(name);
      // A peer whose connections we have cut is not passed on.
      if (peer && !peer.incomplete) yield peer;
    }
  }
}

/** Name of the gossip channel (mesh: router.go). */
export const TOPOLOGY_CHANNEL = "topology";
/** Peers of a repetition, beside ourself: those that changed lately, and a few at random. */
const MAX_RECENT = 16;
const RECENT_MS = 60_000;
const MAX_RANDOM = 2;
/** Peers that a neighbour is asked about at a time. */
const MAX_INCONSISTENT = 64;
const MAX_UNKNOWN = 512;

export interface TopologyListener {
  /** A broadcast of `bytes` has arrived. */
  received(bytes: number): void;
  /** The topology has changed; `hasPending`: there are updates to broadcast. */
  changed(hasPending: boolean): void;
  /** Send data to a neighbour that is behind. */
  reply(to: PeerName, data: GossipData): void;
}

/** An update to broadcast along our own tree, and the neighbour that it came from, unless it is our own. */
export interface PendingUpdate {
  readonly data: GossipData;
  readonly from: PeerName | undefined;
}

/**
 * Updates travel along spanning trees, each to each peer once. What arrives otherwise (from a new neighbour, by periodic
 * gossip, from a peer of the original) is broadcast along our own tree a little later, except to peers that the neighbour
 * reaches without us, and unless another broadcast is faster. What a peer has missed arrives by repetitions, which grow
 * with the changes and not with the size of the network; and we ask about peers that are inconsistent.
 */
export class TopologyGossip implements Gossiper {
  /** Peers to broadcast, by the neighbour that they came from. */
  readonly #pending = new Map<PeerName | undefined, Set<PeerName>>();
  /** The peers that changed last, and when. Any peer can make others up. */
  readonly #recent = new LatestMap<PeerName, number>(MAX_RECENT);

  /** Peers that were inconsistent at the last check. */
  #inconsistent: ReadonlySet<PeerName> = new Set();
  /** No peer was inconsistent, and none has changed since. */
  #consistent = false;

  constructor(
    private readonly peers: Peers,
    private readonly clock: Clock,
    private readonly random: Random,
    private readonly listener: TopologyListener,
  ) {}

  addPending(names: Iterable<PeerName>, from?: PeerName): void {
    const waiting = this.#pending.get(from) ?? new Set();
    for (const name of names) waiting.add(name);
    if (waiting.size > 0) this.#pending.set(from, waiting);
  }

  /** Take the updates to broadcast. */
  takePending(): PendingUpdate[] {
    const all = Array.from(this.#pending, ([from, names]) => ({ data: this.#of(names), from }));
    this.#pending.clear();
    return all;
  }

  onUnicast(): void {
    throw new Error("unexpected topology gossip unicast");
  }

  *onBroadcast(_source: PeerName, update: Uint8Array): Work<GossipData | undefined> {
    this.listener.received(update.length);
    const fresh = yield* this.#apply(update, (applied, whole) => {
      // The tree of its source takes it on; our own does where its connection ended meanwhile.
      if (!whole) {
        this.addPending(applied.fresh);
        return true;
      }
      for (const [from, waiting] of this.#pending) {
        for (const name of applied.fresh) waiting.delete(name);
        if (waiting.size === 0) this.#pending.delete(from);
      }
      return false;
    });
    return fresh.size > 0 ? this.#of(fresh) : undefined;
  }

  *onGossip(update: Uint8Array, from: PeerName): Work<undefined> {
    yield* this.#apply(update, ({ fresh, stale }) => {
      if (stale.size > 0) this.listener.reply(from, this.#of(stale));
      this.addPending(fresh, from);
      return true;
    });
  }

  gossip(): GossipData {
    return this.#of(this.peers.names());
  }

  repetition(): GossipData {
    const since = this.clock.now() - RECENT_MS;
    for (const [name, at] of this.#recent) if (at < since) this.#recent.delete(name);
    const names = new Set([this.peers.ourself.name, ...this.#recent.keys()]);
    const all = [...this.peers.all()];
    for (let i = 0; i < MAX_RANDOM; i++) {
      const peer = all[below(this.random, all.length)];
      if (peer) names.add(peer.name);
    }
    return this.#of(names);
  }

  /**
   * Return the peers that we know too little of. Of some only the name is known, MAX_UNKNOWN at most; others have been
   * inconsistent since the last call, MAX_INCONSISTENT at most: one announces a connection, or one that is established,
   * which the other does not. Undefined where there are none.
   */
  *inconsistentPeers(): Work<PeerName[] | undefined> {
    if (this.#consistent) return undefined;
    this.#consistent = true;
    const inconsistent = new Set<PeerName>();
    const unknown = new Set<PeerName>();
    for (const peer of this.peers.all()) {
      for (const [name, { established }] of announcedBy(peer)) {
        const remote = this.peers.get(name);
        if (!remote || remote.uid === 0n) unknown.add(name);
        else if (announcedBy(remote).get(peer.name)?.established !== established)
          inconsistent.add(peer.name).add(name);
      }
      yield;
    }
    inconsistent.delete(this.peers.ourself.name);
    // What changes just now is mostly on its way.
    const lasting = [...inconsistent].filter((name) => this.#inconsistent.has(name));
    this.#inconsistent = inconsistent;
    if (inconsistent.size + unknown.size === 0) return undefined;
    this.#consistent = false;
    for (let i = 0; i < Math.min(MAX_INCONSISTENT, lasting.length); i++) {
      const other = i + below(this.random, lasting.length - i);
      [lasting[i], lasting[other]] = [lasting[other] as PeerName, lasting[i] as PeerName];
    }
    return [...[...unknown].slice(0, MAX_UNKNOWN), ...lasting.slice(0, MAX_INCONSISTENT)];
  }

  /** Return what we know of these peers. A neighbour that knows more replies to it. */
  of(names: Iterable<PeerName>): GossipData {
    return this.#of(new Set(names));
  }

  /**
   * Apply an update, and `note` what it changed, also where its connection ends before the `whole` of it; that tells whether
   * there is anything to broadcast by it. Return what was new.
   */
  *#apply(
    update: Uint8Array,
    note: (applied: Applied, whole: boolean) => boolean,
  ): Work<ReadonlySet<PeerName>> {
    const applied: Applied = { fresh: new Set(), stale: new Set() };
    const { fresh } = applied;
    let whole = false;
    try {
      yield* this.peers.apply(update, applied);
      whole = true;
    } finally {
      const hasPending = note(applied, whole);
      if (fresh.size > 0) this.#changed(fresh, hasPending);
    }
    return fresh;
  }

  #changed(fresh: ReadonlySet<PeerName>, hasPending: boolean): void {
    this.#consistent = false;
    const now = this.clock.now();
    for (const name of fresh) this.#recent.set(name, now);
    this.listener.changed(hasPending);
  }

  #of(names: ReadonlySet<PeerName>): GossipData {
    return new TopologyData(this.peers, names);
  }
}
