// The topology as a gossip channel of its own: peers and their connections. What waits to be sent is only the names
// of peers; they are encoded as they are at the moment of sending.
import type { Clock } from "../clock/clock.ts";
import { below, type Random } from "../clock/random.ts";
import type { Work } from "../clock/slices.ts";
import type { GossipData, Gossiper } from "./gossip.ts";
import type { PeerName } from "./name.ts";
import { type Peer, topologyMessages } from "./peer.ts";
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
      // What we have cut is not passed on as what that peer says.
      if (peer && !peer.incomplete) yield peer;
    }
  }
}

/** Peers that a repetition is about beside ourself: those with news of late, and a few that come up by chance. */
const MAX_RECENT = 16;
const RECENT_MS = 60_000;
const BY_CHANCE = 2;
/** Peers that a neighbour is asked about at a time. */
const MAX_DOUBTS = 32;

/** What the mesh is told. */
export interface TopologyListener {
  /** The topology has changed; with `tell`, there is something to tell on. */
  changed(tell: boolean): void;
  /** For a neighbour that is behind. */
  reply(to: PeerName, data: GossipData): void;
}

/** Something to broadcast along our own tree; from whom we have it, if it is not of our own making. */
export interface ToTell {
  readonly data: GossipData;
  readonly from: PeerName | undefined;
}

/**
 * News travels along spanning trees, each piece to each peer once. What arrives otherwise (from a new neighbour, by
 * periodic gossip, from a peer of the original) is told on along our own tree, a little later and together, to those
 * that only we can tell: not to whom the neighbour reaches without us, nor if somebody else's broadcast is faster. Who has missed something gets it by repetitions: they
 * grow neither with the size of the network nor with its connections, but with what happens in it; and where what we
 * know does not fit together, we ask.
 */
export class TopologyGossip implements Gossiper {
  /** Peers to be told of, by the neighbour that has told us, if one has. */
  readonly #toTell = new Map<PeerName | undefined, Set<PeerName>>();
  /** When we last heard news of a peer, the oldest first. */
  readonly #recent = new Map<PeerName, number>();

  /** There was nothing to doubt, and nothing has been heard since. */
  #sound = false;

  constructor(
    private readonly peers: Peers,
    private readonly clock: Clock,
    private readonly random: Random,
    private readonly listener: TopologyListener,
  ) {}

  addToTell(names: Iterable<PeerName>, from?: PeerName): void {
    const waiting = this.#toTell.get(from) ?? new Set();
    for (const name of names) waiting.add(name);
    if (waiting.size > 0) this.#toTell.set(from, waiting);
  }

  /** What has to be told by now. */
  takeToTell(): ToTell[] {
    const all = Array.from(this.#toTell, ([from, names]) => ({ data: this.#of(names), from }));
    this.#toTell.clear();
    return all;
  }

  onUnicast(): void {
    throw new Error("unexpected topology gossip unicast");
  }

  *onBroadcast(_source: PeerName, update: Uint8Array): Work<GossipData | undefined> {
    const { fresh } = yield* this.#apply(update);
    if (fresh.size === 0) return undefined;
    for (const [from, waiting] of this.#toTell) {
      for (const name of fresh) waiting.delete(name);
      if (waiting.size === 0) this.#toTell.delete(from);
    }
    this.listener.changed(false);
    return this.#of(fresh);
  }

  *onGossip(update: Uint8Array, from: PeerName): Work<undefined> {
    const { fresh, stale } = yield* this.#apply(update);
    if (stale.size > 0) this.listener.reply(from, this.#of(stale));
    if (fresh.size === 0) return;
    this.addToTell(fresh, from);
    this.listener.changed(true);
  }

  gossip(): GossipData {
    return this.#of(this.peers.names());
  }

  repetition(): GossipData {
    const since = this.clock.now() - RECENT_MS;
    for (const [name, at] of this.#recent) if (at < since) this.#recent.delete(name);
    const names = new Set([this.peers.ourself.name, ...[...this.#recent.keys()].slice(-MAX_RECENT)]);
    const all = [...this.peers.all()];
    for (let i = 0; i < BY_CHANCE; i++) {
      const peer = all[below(this.random, all.length)];
      if (peer) names.add(peer.name);
    }
    return this.#of(names);
  }

  /**
   * Peers that we must know too little of, as far as we are going to ask for: one says that it is connected to the
   * other, the other does not. Who of our neighbours knows more, tells us when he sees what we have.
   */
  *doubts(): Work<GossipData | undefined> {
    if (this.#sound) return undefined;
    this.#sound = true;
    const doubtful = new Set<PeerName>();
    const all = [...this.peers.all()];
    const start = below(this.random, all.length);
    for (const peer of [...all.slice(start), ...all.slice(0, start)]) {
      for (const { remote } of peer.connections.values()) {
        if (!remote.connections.has(peer.name)) doubtful.add(peer.name).add(remote.name);
      }
      if (doubtful.size > MAX_DOUBTS) break;
      yield;
    }
    doubtful.delete(this.peers.ourself.name);
    if (doubtful.size === 0) return undefined;
    this.#sound = false;
    return this.#of(new Set([...doubtful].slice(0, MAX_DOUBTS)));
  }

  *#apply(update: Uint8Array): Work<Applied> {
    const { fresh, stale } = yield* this.peers.apply(update);
    if (fresh.size > 0) this.#sound = false;
    const now = this.clock.now();
    for (const name of fresh) {
      this.#recent.delete(name);
      this.#recent.set(name, now);
    }
    return { fresh, stale };
  }

  #of(names: ReadonlySet<PeerName>): GossipData {
    return new TopologyData(this.peers, names);
  }
}
