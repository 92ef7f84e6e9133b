// A peer of the topology, and its encoding in topology gossip: a gob stream of peer, its connections, peer, its
// connections, … (mesh: peer.go, peers.go).
import { concat } from "../bytes/concat.ts";
import { atOnce, mapInSteps, type Work } from "../clock/slices.ts";
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
import { nameFromBytes, nameToBytes, nameToNumber, type PeerName, UNKNOWN_PEER } from "./name.ts";

/** A connection between two peers, as one end announces it. */
export interface PeerConnection {
  readonly remote: Peer;
  /** "ip:port" of the other end, as this end sees it. */
  readonly address: string;
  readonly outbound: boolean;
  readonly established: boolean;
}

/** What a peer announces of itself. */
export interface PeerSummary {
  readonly name: PeerName;
  readonly nickName: string;
  /** Drawn at each start; 0 for a peer of which only the name is known. */
  readonly uid: bigint;
  /** Counts changes of the peer's connections. In gossip it may be greater than MAX_VERSION. */
  readonly version: number;
  readonly shortId: number;
  readonly hasShortId: boolean;
}

/** A peer of the network, with the connections that it announces. */
export class Peer implements PeerSummary {
  readonly name: PeerName;
  /** The name as a number, which is faster to compare. */
  readonly order: number;
  nickName: string;
  uid: bigint;
  version: number;
  shortId: number;
  hasShortId: boolean;
  connections = new Map<PeerName, PeerConnection>();
  /** There was no room for all of its connections. */
  incomplete = false;
  /** When we first heard of this life of it, in ms of the clock. */
  heardAt = Number.NEGATIVE_INFINITY;
  /** Connections of ours to this peer; it is not forgotten while there are any. */
  references = 0;
  /** The last walk over the topology that found this peer: its number, the peer before, and the first hop (routes.ts). */
  walk = 0;
  foundBy: Peer | undefined;
  firstHop: PeerName = UNKNOWN_PEER;

  constructor(summary: PeerSummary) {
    this.name = summary.name;
    this.order = Number(nameToNumber(summary.name));
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

/** A connection in gossip, which names its far end. */
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

/** What to decode of a peer of an update: all of it, its summary, or nothing that is kept. */
export type Wanted = "all" | "summary" | "nothing";

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

/** Encode a topology update with given gob type ids, for tests against recorded bytes. */
export function encodeTopologyWith(encoder: GobEncoder, peers: Iterable<Peer>): Uint8Array {
  return concat(Array.from(peers, (peer) => encodePeer(peer, encoder)));
}

interface Encoded extends Pick<Peer, "version" | "uid" | "connections"> {
  readonly bytes: Uint8Array;
}

/**
 * Return a function that encodes a peer with an encoder from `encoder`. It keeps the bytes until the peer's version, UID or
 * connections change, as each peer is sent to many neighbours.
 */
function encodedOnce(encoder: () => GobEncoder): (peer: Peer) => Uint8Array {
  const encoded = new WeakMap<Peer, Encoded>();
  return (peer) => {
    const known = encoded.get(peer);
    const { version, uid, connections } = peer;
    if (known?.version === version && known.uid === uid && known.connections === connections)
      return known.bytes;
    const bytes = encodePeer(peer, encoder());
    encoded.set(peer, { version, uid, connections, bytes });
    return bytes;
  };
}

/** Gob's type descriptions precede the first peer of a stream only. */
const encodeFirst = encodedOnce(() => new GobEncoder());
let later: GobEncoder | undefined;
const encodeLater = encodedOnce(() => {
  if (later) return later;
  later = new GobEncoder();
  encodePeer(Peer.placeholder(UNKNOWN_PEER), later);
  return later;
});

/** Encode a topology update. */
export function encodeTopology(peers: Iterable<Peer>): Uint8Array {
  const parts: Uint8Array[] = [];
  for (const peer of peers) {
    parts.push(parts.length === 0 ? encodeFirst(peer) : encodeLater(peer));
  }
  return concat(parts);
}

/** Encode a topology update in messages of about MAX_TOPOLOGY_MESSAGE bytes, each when it is asked for. */
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

/** Connections between two steps. */
const STEP = 128;

/**
 * Decode a topology update peer by peer, in steps; throws GobError or PeerNameError. What is not `wanted` is skipped: most of
 * what gossip brings is known already.
 */
export function* readTopology(
  update: Uint8Array,
  wanted: (summary: PeerSummary) => Wanted,
): Work<PeerUpdate[]> {
  const reader = new GobReader(update);
  const updates: PeerUpdate[] = [];
  while (!reader.atEnd) {
    const summary = fromWire(reader.read(SummaryType));
    const want = wanted(summary);
    if (want === "all") {
      const read = yield* reader.readUpTo(ConnectionsType, MAX_CONNECTIONS_BYTES);
      const connections = read ? yield* mapInSteps(read, STEP, connectionFromWire) : "too many";
      updates.push({ summary, connections });
    } else {
      reader.skip();
      if (want === "summary") updates.push({ summary, connections: "not wanted" });
    }
    yield;
  }
  return updates;
}

/** Decode a whole topology update, for tests against recorded bytes. */
export function decodeTopology(update: Uint8Array, wanted: (summary: PeerSummary) => boolean) {
  return atOnce(readTopology(update, (summary) => (wanted(summary) ? "all" : "summary"))).map(
    ({ summary, connections }) => ({
      summary,
      connections: typeof connections === "string" ? [] : connections,
    }),
  );
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
