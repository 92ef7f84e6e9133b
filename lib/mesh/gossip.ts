// Gossip channels, for the topology and the rooms above the mesh (addresses, names): unicast to one peer, broadcast along a
// spanning tree, and gossip to random neighbours.
import type { Sliced } from "../clock/slices.ts";
import type { PeerName } from "./name.ts";

/** Data to send, which is joined with later data while it waits: a slow link gets one message, no queue. */
export interface GossipData {
  /** Bytes that wait where these are the messages themselves; else 0. */
  readonly bytes: number;
  /** Return this data and others as one. */
  join(others: readonly GossipData[]): GossipData;
  /** Return its messages, each encoded when there is room on the wire. */
  encode(): Iterable<Uint8Array>;
  /** The same in slices, with undefined where the encoding of a long message pauses; unless given, encode(). */
  encodeSliced?(): Iterable<Uint8Array | undefined>;
}

/** Return the messages of data, in slices. */
export const slicedMessages = (data: GossipData): Iterable<Uint8Array | undefined> =>
  data.encodeSliced?.() ?? data.encode();

/** A user of a channel. What its handlers throw ends the connection that the message arrived on. */
export interface Gossiper {
  /** Handle a message of `source`, as `neighbour` says, which has sent or relayed it. */
  onUnicast(source: PeerName, message: Uint8Array, neighbour: PeerName): Sliced<void>;
  /** Handle a broadcast, of UNKNOWN_PEER where its source may be forged; returns what to pass on along the tree. */
  onBroadcast(source: PeerName, message: Uint8Array): Sliced<GossipData | undefined>;
  /** Handle gossip of a neighbour; returns what was new, to be passed on to random neighbours. */
  onGossip(message: Uint8Array, from: PeerName): Sliced<GossipData | undefined>;
  /** Return the full state, for new neighbours. */
  gossip(): GossipData | undefined;
  /** Return what to repeat to few neighbours every 30 s, for those that have missed it; unless given, gossip(). */
  repetition?(): GossipData | undefined;
}

/** The sending side of a channel. */
export interface GossipChannel {
  /** Send to one peer; returns false where no route leads to it. */
  unicast(destination: PeerName, message: Uint8Array): boolean;
  /** Send along our spanning tree, except to neighbours that are known to have it. */
  broadcast(data: GossipData, except?: ReadonlySet<PeerName>): void;
  /** Send to random neighbours. */
  neighbours(data: GossipData): void;
}

/** A channel without other users. */
export const MUTE: GossipChannel = { unicast: () => false, broadcast() {}, neighbours() {} };

/** Encoded messages, which cannot be joined into fewer. */
export class RawGossip implements GossipData {
  readonly bytes: number;

  constructor(readonly messages: readonly Uint8Array[]) {
    this.bytes = messages.reduce((sum, message) => sum + message.length, 0);
  }

  join(others: readonly GossipData[]): GossipData {
    return new RawGossip([...this.messages, ...others.flatMap((other) => [...other.encode()])]);
  }

  encode(): Iterable<Uint8Array> {
    return forgetting([...this.messages]);
  }
}

/** Return the messages one by one, and forget each: a long one does not stay in memory until the next is taken. */
function* forgetting(messages: Uint8Array[]): Iterable<Uint8Array> {
  for (let next = messages.shift(); next; next = messages.shift()) yield next;
}
