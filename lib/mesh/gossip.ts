// Gossip: what the rooms above the mesh (addresses, names) and the topology itself say to other peers. A channel has
// three ways to speak: to one peer, to all along a spanning tree, and to random neighbours every so often.
import type { Sliced } from "../clock/slices.ts";
import type { PeerName } from "./name.ts";

/** Something to tell that can wait and be joined with what comes after it: a slow link gets one message, no queue. */
export interface GossipData {
  /** Bytes that it takes while it waits, where these are the messages themselves; else 0. */
  readonly bytes: number;
  /** All of it and of others, as new data. */
  join(others: readonly GossipData[]): GossipData;
  /** The messages it is sent as; each encoded when there is room on the wire. */
  encode(): Iterable<Uint8Array>;
}

/** A user of a channel. What the handlers throw ends the connection that brought the message. */
export interface Gossiper {
  /** Handle a message of `source`, as `neighbour` says, which has sent or relayed it. */
  onUnicast(source: PeerName, message: Uint8Array, neighbour: PeerName): Sliced<void>;
  /** Takes in a broadcast, of UNKNOWN_PEER where it is doubtful whose; returns what to pass on along the tree. */
  onBroadcast(source: PeerName, message: Uint8Array): Sliced<GossipData | undefined>;
  /** Takes in gossip from a neighbour; returns what was new in it, to be passed on to random neighbours. */
  onGossip(message: Uint8Array, from: PeerName): Sliced<GossipData | undefined>;
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

/** A channel that nobody is on: for a user that keeps to itself. */
export const MUTE: GossipChannel = { unicast: () => false, broadcast() {}, neighbours() {} };

/** Ready bytes that cannot be joined into less: sent one after the other. */
export class RawGossip implements GossipData {
  readonly bytes: number;

  constructor(readonly messages: readonly Uint8Array[]) {
    this.bytes = messages.reduce((sum, message) => sum + message.length, 0);
  }

  join(others: readonly GossipData[]): GossipData {
    return new RawGossip([...this.messages, ...others.flatMap((other) => [...other.encode()])]);
  }

  encode(): Iterable<Uint8Array> {
    return this.messages;
  }
}
