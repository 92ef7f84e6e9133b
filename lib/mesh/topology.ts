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

export class TopologyGossip implements Gossiper {
  /** Peers to be told of beside ourself, next time. */
  toTell = new Set<PeerName>();

  constructor(
    private readonly peers: Peers,
    private readonly changed: () => void,
  ) {}

  takeToTell(): GossipData {
    const names = this.toTell.add(this.peers.ourself.name);
    this.toTell = new Set();
    return new TopologyData(this.peers, names);
  }

  onUnicast(): void {
    throw new Error("unexpected topology gossip unicast");
  }

  onBroadcast(_source: PeerName, update: Uint8Array): GossipData | undefined {
    return this.#data(this.#apply(update).named);
  }

  onGossip(update: Uint8Array): GossipData | undefined {
    return this.#data(this.#apply(update).fresh);
  }

  gossip(): GossipData {
    return new TopologyData(this.peers, this.peers.names());
  }

  #apply(update: Uint8Array) {
    const applied = this.peers.apply(update);
    if (applied.fresh.size > 0) this.changed();
    return applied;
  }

  #data(names: ReadonlySet<PeerName>): GossipData | undefined {
    return names.size > 0 ? new TopologyData(this.peers, names) : undefined;
  }
}
