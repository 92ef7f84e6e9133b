// The topology as a gossip channel of its own: peers and their connections. What waits to be sent is only the names
// of peers; they are encoded as they are at the moment of sending.
import type { GossipData, Gossiper } from "./gossip.ts";
import type { PeerName } from "./name.ts";
import { encodeTopology, type Peer } from "./peer.ts";
import type { Peers } from "./peers.ts";

class TopologyData implements GossipData {
  constructor(
    private readonly peers: Peers,
    private readonly names: ReadonlySet<PeerName>,
  ) {}

  merge(other: GossipData): GossipData {
    if (!(other instanceof TopologyData)) throw new TypeError("topology gossip merges with its like only");
    return new TopologyData(this.peers, new Set([...this.names, ...other.names]));
  }

  encode(): Uint8Array[] {
    const known = Array.from(this.names, (name) => this.peers.get(name));
    return [encodeTopology(known.filter((peer): peer is Peer => peer !== undefined))];
  }
}

/**
 * News travels along spanning trees, each piece to each peer once. What arrives otherwise (from a new neighbour, by
 * periodic gossip, from a peer of the original) is told on along our own tree, a little later and together, unless
 * somebody else's broadcast brings it to everybody before that.
 */
export class TopologyGossip implements Gossiper {
  /** Peers to be told of beside ourself, next time. */
  #toTell = new Set<PeerName>();

  constructor(
    private readonly peers: Peers,
    private readonly changed: (tell: boolean) => void,
  ) {}

  addToTell(names: Iterable<PeerName>): void {
    for (const name of names) this.#toTell.add(name);
  }

  takeToTell(): GossipData {
    const names = this.#toTell.add(this.peers.ourself.name);
    this.#toTell = new Set();
    return new TopologyData(this.peers, names);
  }

  onUnicast(): void {
    throw new Error("unexpected topology gossip unicast");
  }

  onBroadcast(_source: PeerName, update: Uint8Array): GossipData | undefined {
    const fresh = this.peers.apply(update);
    for (const name of fresh) this.#toTell.delete(name);
    if (fresh.size === 0) return undefined;
    this.changed(false);
    return new TopologyData(this.peers, fresh);
  }

  onGossip(update: Uint8Array): undefined {
    const fresh = this.peers.apply(update);
    if (fresh.size === 0) return;
    this.addToTell(fresh);
    this.changed(true);
  }

  gossip(): GossipData {
    return new TopologyData(this.peers, this.peers.names());
  }
}
