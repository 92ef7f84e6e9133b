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
import { dialable } from "./dial/gossiped.ts";
import { nameFromBytes, nameToBytes, type PeerName, UNKNOWN_PEER } from "./name.ts";

/** A connection between two peers, as one end announces it. */
export interface PeerConnection {
  readonly remote: Peer;
  /** "ip:port" of the other end, as this end sees it. */
  readonly address: string;
  readonly outbound: boolean;
  readonly established: boolean;
}

/** Connections by the name of the peer at the other end. */
export type PeerConnections = Omit<ReadonlyMap<PeerName, PeerConnection>, "forEach">;

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
  nickName: string;
  uid: bigint;
  version: number;
  shortId: number;
  hasShortId: boolean;
  connections: PeerConnections = new Map<PeerName, PeerConnection>();
  /** There was no room for all of its connections. */
  incomplete = false;
  /** When we first heard of this life of it, in ms of the clock. */
  heardAt = Number.NEGATIVE_INFINITY;
  /** Connections of ours to this peer; it is not forgotten while there are any. */
  references = 0;

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

/** A connection as gossip tells of it. */
class AnnouncedConnection implements Omit<PeerConnection, "remote"> {
  #dial: string | undefined;
  #dialPort = -1;

  constructor(
    readonly address: string,
    readonly outbound: boolean,
    readonly established: boolean,
  ) {}

  /** As dialable(), which takes microseconds: this is looked at again and again. */
  dial(port: number): string | undefined {
    if (this.#dialPort !== port) {
      this.#dial = dialable(this.address, this.outbound, port);
      this.#dialPort = port;
    }
    return this.#dial;
  }
}

/** Return the address at which to dial the other end of an announced connection; see dialable(). */
export function dialOf(connection: Omit<PeerConnection, "remote">, port: number): string | undefined {
  if (connection instanceof AnnouncedConnection) return connection.dial(port);
  return dialable(connection.address, connection.outbound, port);
}

/** What a peer announces of its connections, by the names of the other ends. */
export type Announced = Omit<ReadonlyMap<PeerName, Omit<PeerConnection, "remote">>, "forEach">;

/** Connections that a peer announces, to peers as we know them. What is announced never changes: others may know the same. */
export class AnnouncedConnections implements PeerConnections {
  constructor(
    readonly announced: Announced,
    private readonly peers: Pick<ReadonlyMap<PeerName, Peer>, "get">,
  ) {}

  get size(): number {
    return this.announced.size;
  }

  has(name: PeerName): boolean {
    return this.announced.has(name);
  }

  get(name: PeerName): PeerConnection | undefined {
    const connection = this.announced.get(name);
    if (!connection) return undefined;
    const { address, outbound, established } = connection;
    return { remote: this.peers.get(name) ?? Peer.placeholder(name), address, outbound, established };
  }

  keys() {
    return this.announced.keys();
  }

  values() {
    return this.announced.keys().map((name) => this.#of(name));
  }

  entries() {
    return this.announced.keys().map((name): [PeerName, PeerConnection] => [name, this.#of(name)]);
  }

  [Symbol.iterator]() {
    return this.entries();
  }

  #of(name: PeerName): PeerConnection {
    return this.get(name) as PeerConnection;
  }
}

/** Return what a peer announces of its connections: the same object for as long as that is the same, but for ourself. */
export function announcedBy({ connections }: Pick<Peer, "connections">): Announced {
  return connections instanceof AnnouncedConnections ? connections.announced : connections;
}

/** One peer of a topology update. */
export interface PeerUpdate {
  readonly summary: PeerSummary;
  readonly connections: Announced | "not wanted" | "too many";
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
  const connections = Array.from(announcedBy(peer), ([name, { address, outbound, established }]) => ({
    NameByte: nameToBytes(name),
    RemoteTCPAddr: address,
    Outbound: outbound,
    Established: established,
  }));
  return concat([summary, encoder.encode(ConnectionsType, connections)]);
}

/** Encode a topology update with given gob type ids, for tests against recorded bytes. */
export function encodeTopologyWith(encoder: GobEncoder, peers: Iterable<Peer>): Uint8Array {
  return concat(Array.from(peers, (peer) => encodePeer(peer, encoder)));
}

interface Encoded extends Pick<Peer, "name" | "version" | "uid"> {
  readonly bytes: Uint8Array;
}

/**
 * Return a function that encodes a peer with an encoder from `encoder`. It keeps the bytes until the peer's version, UID or
 * connections change, as each peer is sent to many neighbours.
 */
function encodedOnce(encoder: () => GobEncoder): (peer: Peer) => Uint8Array {
  const encoded = new WeakMap<object, Encoded>();
  return (peer) => {
    const announced = announcedBy(peer);
    const known = encoded.get(announced);
    const { name, version, uid } = peer;
    if (known?.version === version && known.uid === uid && known.name === name) return known.bytes;
    const bytes = encodePeer(peer, encoder());
    encoded.set(announced, { name, version, uid, bytes });
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

/** Most messages tell of one peer: they need no copy. */
function joined(parts: readonly Uint8Array[]): Uint8Array {
  const [only, ...more] = parts;
  return only && more.length === 0 ? only : concat(parts);
}

/** Encode a topology update in messages of about MAX_TOPOLOGY_MESSAGE bytes, each when it is asked for. */
export function* topologyMessages(peers: Iterable<Peer>): Generator<Uint8Array, void, void> {
  let parts: Uint8Array[] = [];
  let length = 0;
  for (const peer of peers) {
    const part = parts.length === 0 ? encodeFirst(peer) : encodeLater(peer);
    parts.push(part);
    length += part.length;
    if (length < MAX_TOPOLOGY_MESSAGE) continue;
    yield joined(parts);
    parts = [];
    length = 0;
  }
  if (parts.length > 0) yield joined(parts);
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
      const connections = read && (yield* mapInSteps(read, STEP, connectionFromWire));
      updates.push({ summary, connections: connections ? new Map(connections) : "too many" });
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
      connections:
        typeof connections === "string"
          ? []
          : Array.from(connections, ([name, connection]) => ({ name, ...connection })),
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

function connectionFromWire(wire: GobValue<typeof ConnectionsType>[number]) {
  const { NameByte, RemoteTCPAddr, Outbound, Established } = wire;
  const address = RemoteTCPAddr.slice(0, MAX_ADDRESS);
  return [nameFromBytes(NameByte), new AnnouncedConnection(address, Outbound, Established)] as const;
}
