// Gossip: what the rooms above the mesh (addresses, names) and the topology itself say to other peers. A channel has
// three ways to speak: to one peer, to all along a spanning tree, and to random neighbours every so often.
import type { PeerName } from "./name.ts";

/** Something to tell that can wait and be merged with what comes after it: a slow link gets one message, no queue. */
export interface GossipData {
  merge(other: GossipData): GossipData;
  /** The messages it is sent as; encoded when there is room on the wire. */
  encode(): Uint8Array[];
}

/** A user of a channel. What the handlers throw ends the connection that brought the message. */
export interface Gossiper {
  onUnicast(source: PeerName, message: Uint8Array): void;
  /** Takes in a broadcast; returns what to pass on along the tree. */
  onBroadcast(source: PeerName, message: Uint8Array): GossipData | undefined;
  /** Takes in gossip from a neighbour; returns what was new in it, to be passed on to random neighbours. */
  onGossip(message: Uint8Array, from: PeerName): GossipData | undefined;
  /** Everything there is to say: for new neighbours. */
  gossip(): GossipData | undefined;
  /** What to repeat to few neighbours every 30 seconds, for those that have missed it; everything unless given. */
  repetition?(): GossipData | undefined;
}

/** How a user of a channel speaks. */
export interface GossipChannel {
  /** False where there is no way to that peer at the moment. */
  unicast(destination: PeerName, message: Uint8Array): boolean;
  /** Along our spanning tree, but not to neighbours that are known to have it. */
  broadcast(data: GossipData, except?: ReadonlySet<PeerName>): void;
  /** To random neighbours. */
  neighbours(data: GossipData): void;
}

/** Ready bytes that cannot be merged into less: sent one after the other. */
export class RawGossip implements GossipData {
  constructor(readonly messages: readonly Uint8Array[]) {}

  merge(other: GossipData): GossipData {
    return new RawGossip([...this.messages, ...other.encode()]);
  }

  encode(): Uint8Array[] {
    return [...this.messages];
  }
}

/** What one connection has yet to send on one channel. */
export class PendingGossip {
  #gossip: GossipData | undefined;
  readonly #broadcasts = new Map<PeerName, GossipData>();

  addGossip(data: GossipData): void {
    this.#gossip = this.#gossip ? this.#gossip.merge(data) : data;
  }

  addBroadcast(source: PeerName, data: GossipData): void {
    const waiting = this.#broadcasts.get(source);
    this.#broadcasts.set(source, waiting ? waiting.merge(data) : data);
  }

  /** Takes out what is to be sent next; gossip goes before broadcasts. A broadcast has its source. */
  take(): { source: PeerName | undefined; data: GossipData } | undefined {
    if (this.#gossip) {
      const data = this.#gossip;
      this.#gossip = undefined;
      return { source: undefined, data };
    }
    for (const [source, data] of this.#broadcasts) {
      this.#broadcasts.delete(source);
      return { source, data };
    }
    return undefined;
  }
}
