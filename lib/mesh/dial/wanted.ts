// The addresses worth dialling now: of peers that the user named, that this host has lost, and that gossip tells of.
import { splitHostPort } from "../../address/hostport.ts";
import type { Random } from "../../clock/random.ts";
import type { Work } from "../../clock/slices.ts";
import type { LocalConnection } from "../connection.ts";
import type { PeerName } from "../name.ts";
import { announcedBy, dialOf, type Peer, type PeerConnection } from "../peer.ts";
import { GossipedAddresses } from "./gossiped.ts";
import type { Reason } from "./target.ts";

/** An address that gossip tells of. */
interface GossipedTarget {
  readonly peer: PeerName;
  readonly reason: Reason;
}

/** Addresses that gossip tells of. */
export interface Gossiped {
  /** Those to dial. */
  readonly targets: ReadonlyMap<string, GossipedTarget>;
  /** How many there are in all. */
  readonly count: number;
  /** How many connections of peers were looked at. */
  readonly visited: number;
}

export const NOTHING_GOSSIPED: Gossiped = { targets: new Map(), count: 0, visited: 0 };

/** What is known when addresses are chosen that gossip tells of. */
export interface Topology {
  readonly ourself: Peer;
  readonly connections: Iterable<LocalConnection>;
  readonly peers: Iterable<Peer>;
  /** The port that peers listen on. */
  readonly port: number;
  /** Addresses that are dialled already. */
  readonly targets: { has(address: string): boolean };
  readonly random: Random;
  /** Addresses that are enough, and the share of the peers to pass over for them at first, so that each router finds others. */
  readonly enough?: number;
  readonly start?: number;
}

/** What is known when addresses are chosen. */
export interface Known {
  readonly connections: Iterable<LocalConnection>;
  /** Addresses of named peers; `anyPort` for one that was named without a port. */
  readonly named: Iterable<{ readonly address: string; readonly ip: string; readonly anyPort: boolean }>;
  /** Addresses of peers that this host has lost. */
  readonly lost: Iterable<readonly [PeerName, string]>;
  readonly gossiped: ReadonlyMap<string, GossipedTarget>;
}

/** Connections looked at between two steps. */
const STEP = 256;

/** Return where we are connected to, and whom. */
function connectedOf(connections: Iterable<LocalConnection>) {
  const all = [...connections];
  return {
    addresses: new Set(all.map(({ address }) => address)),
    peers: new Set(all.map(({ remote }) => remote.name)),
  };
}

/** Look through the topology for addresses of peers that we are not connected to. */
export function* gossipedAddresses(topology: Topology): Work<Gossiped> {
  const { ourself, port, targets, random } = topology;
  const connected = connectedOf(topology.connections);
  const gossiped = new GossipedAddresses<GossipedTarget>(port, targets);
  let visited = 0;
  for (const announced of announcedToMissing(topology, connected.peers)) {
    if (++visited % STEP === 0) yield;
    if (gossiped.size >= (topology.enough ?? Number.POSITIVE_INFINITY)) break;
    if (!announced) continue;
    const [peer, connection] = announced;
    const dial = dialOf(connection, port);
    const reason = ourself.name > peer ? "ours to call" : "theirs to call";
    if (dial && !connected.addresses.has(dial)) gossiped.add(dial, { peer, reason });
  }
  return { targets: gossiped.take(random), count: gossiped.size, visited };
}

/** Return the addresses to dial. */
export function wantedAddresses(known: Known): Map<string, Reason> {
  const connected = connectedOf(known.connections);
  const inboundIps = new Set<string>();
  for (const { address, outbound } of known.connections)
    if (!outbound) inboundIps.add(splitHostPort(address)?.host ?? "");
  const wanted = new Map<string, Reason>();
  const isOpen = (address: string) => !connected.addresses.has(address) && !wanted.has(address);
  // A host that has dialled us is not dialled, unless it was named with a port: that may be another peer.
  for (const { address, ip, anyPort } of known.named)
    if (isOpen(address) && !(anyPort && inboundIps.has(ip))) wanted.set(address, "named");
  for (const [name, address] of known.lost)
    if (isOpen(address) && !connected.peers.has(name)) wanted.set(address, "lost");
  for (const [address, { peer, reason }] of known.gossiped)
    if (isOpen(address) && !connected.peers.has(peer)) wanted.set(address, reason);
  return wanted;
}

/**
 * Yield the connections of others to peers that we are not connected to; by those peers where they are few. Undefined is one
 * that was looked at, and leads elsewhere.
 */
function* announcedToMissing(
  { ourself, peers, start = 0 }: Topology,
  connectedPeers: ReadonlySet<PeerName>,
): Generator<readonly [PeerName, Omit<PeerConnection, "remote">] | undefined> {
  const others = [...peers].filter((peer) => peer !== ourself);
  const missing = others.filter(({ name }) => !connectedPeers.has(name));
  const connections = others.reduce((sum, peer) => sum + peer.connections.size, 0);
  const first = Math.floor(start * others.length);
  for (const peer of [...others.slice(first), ...others.slice(0, first)]) {
    const announced = announcedBy(peer);
    if (missing.length * others.length < connections) {
      for (const { name } of missing) {
        const connection = announced.get(name);
        yield connection && [name, connection];
      }
    } else {
      for (const entry of announced)
        yield entry[0] !== ourself.name && !connectedPeers.has(entry[0]) ? entry : undefined;
    }
  }
}
