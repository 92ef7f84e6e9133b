// A peer as the topology knows it, and how it travels in topology gossip: a gob stream of peer, its connections,
// peer, its connections, … (mesh: peer.go, peers.go).
import { GobReader } from "../gob/decoder.ts";
import { concat, GobEncoder } from "../gob/encoder.ts";
import { bool, bytes, type GobValue, slice, string, struct, uint, uint64 } from "../gob/type.ts";
import { nameFromBytes, nameToBytes, type PeerName, UNKNOWN_PEER } from "./name.ts";

/** Bits of a short id; it has to fit half of a VXLAN network identifier. */
export const SHORT_ID_BITS = 12;
export const SHORT_IDS = 1 << SHORT_ID_BITS;

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
  /** Counts the changes of the peer's own connections. */
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
  Version: uint(53),
  ShortID: uint(SHORT_ID_BITS),
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
  readonly connections: readonly ConnectionSummary[];
}

function encodePeer(peer: Peer, encoder: GobEncoder): Uint8Array {
  const summary = encoder.encode(SummaryType, {
    NameByte: nameToBytes(peer.name),
    NickName: peer.nickName,
    UID: peer.uid,
    Version: peer.version,
    ShortID: peer.shortId,
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
const encoded = new WeakMap<Peer, { version: number; uid: bigint; bytes: Uint8Array }>();

function encodeLater(peer: Peer): Uint8Array {
  const known = encoded.get(peer);
  if (known && known.version === peer.version && known.uid === peer.uid) return known.bytes;
  const bytes = encodePeer(peer, later);
  encoded.set(peer, { version: peer.version, uid: peer.uid, bytes });
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

/**
 * Decodes a topology update; throws GobError or PeerNameError. The connections of peers that are not `wanted` are
 * not looked at: most of what gossip brings is known already.
 */
export function decodeTopology(update: Uint8Array, wanted: (summary: PeerSummary) => boolean): PeerUpdate[] {
  const reader = new GobReader(update);
  const updates: PeerUpdate[] = [];
  while (!reader.atEnd) {
    const summary = fromWire(reader.read(SummaryType));
    let connections: ConnectionSummary[] = [];
    if (wanted(summary)) connections = reader.read(ConnectionsType).map(connectionFromWire);
    else reader.skip();
    updates.push({ summary, connections });
  }
  return updates;
}

function fromWire(wire: GobValue<typeof SummaryType>): PeerSummary {
  return {
    name: nameFromBytes(wire.NameByte),
    nickName: wire.NickName,
    uid: wire.UID,
    version: wire.Version,
    shortId: wire.ShortID,
    hasShortId: wire.HasShortID,
  };
}

function connectionFromWire(wire: GobValue<typeof ConnectionsType>[number]): ConnectionSummary {
  return {
    name: nameFromBytes(wire.NameByte),
    address: wire.RemoteTCPAddr,
    outbound: wire.Outbound,
    established: wire.Established,
  };
}
