// A peer as the topology knows it, and how it travels in topology gossip: a gob stream of peer, its connections,
// peer, its connections, … (mesh: peer.go, peers.go).
import { concat } from "../bytes/concat.ts";
import { GobReader } from "../gob/decoder.ts";
import { GobEncoder } from "../gob/encoder.ts";
import { bool, bytes, type GobValue, slice, string, struct, uint64 } from "../gob/type.ts";
import {
  MAX_ADDRESS,
  MAX_CONNECTIONS_BYTES,
  MAX_NICKNAME,
  MAX_TOPOLOGY_MESSAGE,
  SHORT_IDS,
} from "./bounds.ts";
import { nameFromBytes, nameToBytes, type PeerName, UNKNOWN_PEER } from "./name.ts";

/** One direction of a connection between two peers, as its `from` end describes it. */
export interface PeerConnection {
  readonly remote: Peer;
  /** "ip:port" of the other end as this end sees it. */
  readonly address: string;
  readonly outbound: boolean;
  readonly established: boolean;
}

/** What a peer says of itself. */
export interface PeerSummary {
  readonly name: PeerName;
  readonly nickName: string;
  /** Drawn anew at each start; 0 for a peer of which only the name is known yet. */
  readonly uid: bigint;
  /** Counts the changes of the peer's own connections. What gossip says may be greater than MAX_VERSION. */
  readonly version: number;
  readonly shortId: number;
  readonly hasShortId: boolean;
}

/** A peer of the network, with the connections it says it has. */
export class Peer implements PeerSummary {
  readonly name: PeerName;
  nickName: string;
  uid: bigint;
  version: number;
  shortId: number;
  hasShortId: boolean;
  connections = new Map<PeerName, PeerConnection>();
  /** There was no room for some of its connections. */
  incomplete = false;
  /** Connections of ours that refer to this peer; while there are any it is not forgotten. */
  references = 0;
  /** Of the last walk over the topology that came by here: its number, from whom, and the first hop (routes.ts). */
  walk = 0;
  foundBy: Peer | undefined;
  firstHop: PeerName = UNKNOWN_PEER;

  constructor(summary: PeerSummary) {
    this.name = summary.name;
    this.nickName = summary.nickName;
    this.uid = summary.uid;
    this.version = summary.version;
    this.shortId = summary.shortId;
    this.hasShortId = summary.hasShortId;
  }

  /** A peer of which only the name is known. */
  static placeholder(name: PeerName): Peer {
    return new Peer({ name, nickName: "", uid: 0n, version: 0, shortId: 0, hasShortId: false });
  }

  /** "name(nickname)", as logs and status texts have it. */
  toString(): string {
    return `${this.name}(${this.nickName})`;
  }
}

const SummaryType = struct("peerSummary", {
  NameByte: bytes,
  NickName: string,
  UID: uint64,
  // What no honest peer says is passed on by honest ones: it must not end their connections.
  Version: uint64,
  ShortID: uint64,
  HasShortID: bool,
});

const ConnectionsType = slice(
  struct("connectionSummary", {
    NameByte: bytes,
    RemoteTCPAddr: string,
    Outbound: bool,
    Established: bool,
  }),
);

/** A connection as gossip names it: by the name of its far end. */
export interface ConnectionSummary {
  readonly name: PeerName;
  readonly address: string;
  readonly outbound: boolean;
  readonly established: boolean;
}

/** One peer of a topology update. */
export interface PeerUpdate {
  readonly summary: PeerSummary;
  readonly connections: readonly ConnectionSummary[] | "not wanted" | "too many";
}

function encodePeer(peer: Peer, encoder: GobEncoder): Uint8Array {
  const summary = encoder.encode(SummaryType, {
    NameByte: nameToBytes(peer.name),
    NickName: peer.nickName,
    UID: peer.uid,
    Version: BigInt(peer.version),
    ShortID: BigInt(peer.shortId),
    HasShortID: peer.hasShortId,
  });
  const connections = Array.from(peer.connections.values(), (connection) => ({
    NameByte: nameToBytes(connection.remote.name),
    RemoteTCPAddr: connection.address,
    Outbound: connection.outbound,
    Established: connection.established,
  }));
  return concat([summary, encoder.encode(ConnectionsType, connections)]);
}

/** Encodes a topology update with gob type ids of one's choice, as tests against recorded bytes need. */
export function encodeTopologyWith(encoder: GobEncoder, peers: Iterable<Peer>): Uint8Array {
  return concat(Array.from(peers, (peer) => encodePeer(peer, encoder)));
}

// The same peer is sent to many neighbours many times. Behind the descriptions of the types, which come with the
// first peer of a stream, its bytes are always the same until its version changes.
const later = new GobEncoder();
encodePeer(Peer.placeholder(UNKNOWN_PEER), later);
interface Encoded extends Pick<Peer, "version" | "uid" | "connections"> {
  readonly bytes: Uint8Array;
}
const encoded = new WeakMap<Peer, Encoded>();

function encodeLater(peer: Peer): Uint8Array {
  const known = encoded.get(peer);
  const { version, uid, connections } = peer;
  if (known?.version === version && known.uid === uid && known.connections === connections)
    return known.bytes;
  const bytes = encodePeer(peer, later);
  encoded.set(peer, { version, uid, connections, bytes });
  return bytes;
}

/** Encodes a topology update. */
export function encodeTopology(peers: Iterable<Peer>): Uint8Array {
  const parts: Uint8Array[] = [];
  for (const peer of peers) {
    parts.push(parts.length === 0 ? encodePeer(peer, new GobEncoder()) : encodeLater(peer));
  }
  return concat(parts);
}

/** Encodes a topology update in as many messages as it takes, each when it is asked for. */
export function* topologyMessages(peers: Iterable<Peer>): Generator<Uint8Array, void, void> {
  let some: Peer[] = [];
  let length = 0;
  for (const peer of peers) {
    some.push(peer);
    length += encodeLater(peer).length;
    if (length < MAX_TOPOLOGY_MESSAGE) continue;
    yield encodeTopology(some);
    some = [];
    length = 0;
  }
  if (some.length > 0) yield encodeTopology(some);
}

/**
 * Decodes a topology update peer by peer; throws GobError or PeerNameError. The connections of peers that are not
 * `wanted` are not looked at: most of what gossip brings is known already.
 */
export function* readTopology(
  update: Uint8Array,
  wanted: (summary: PeerSummary) => boolean,
): Generator<PeerUpdate, void, void> {
  const reader = new GobReader(update);
  while (!reader.atEnd) {
    const summary = fromWire(reader.read(SummaryType));
    if (wanted(summary)) {
      const connections = reader.readUpTo(ConnectionsType, MAX_CONNECTIONS_BYTES);
      yield { summary, connections: connections?.map(connectionFromWire) ?? "too many" };
    } else {
      reader.skip();
      yield { summary, connections: "not wanted" };
    }
  }
}

/** Decodes a topology update as a whole, as tests against recorded bytes need. */
export function decodeTopology(update: Uint8Array, wanted: (summary: PeerSummary) => boolean) {
  return Array.from(readTopology(update, wanted), ({ summary, connections }) => ({
    summary,
    connections: typeof connections === "string" ? [] : connections,
  }));
}

function fromWire(wire: GobValue<typeof SummaryType>): PeerSummary {
  const hasShortId = wire.HasShortID && wire.ShortID < BigInt(SHORT_IDS);
  return {
    name: nameFromBytes(wire.NameByte),
    nickName: wire.NickName.slice(0, MAX_NICKNAME),
    uid: wire.UID,
    version: Number(wire.Version),
    shortId: hasShortId ? Number(wire.ShortID) : 0,
    hasShortId,
  };
}

function connectionFromWire(wire: GobValue<typeof ConnectionsType>[number]): ConnectionSummary {
  return {
    name: nameFromBytes(wire.NameByte),
    address: wire.RemoteTCPAddr.slice(0, MAX_ADDRESS),
    outbound: wire.Outbound,
    established: wire.Established,
  };
}
