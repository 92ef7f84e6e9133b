// The addresses worth dialling now: of peers that the user named, that this host has lost, and that gossip tells of.
import { splitHostPort } from "../../address/hostport.ts";
import type { LatestMap } from "../../clock/latestmap.ts";
import type { Random } from "../../clock/random.ts";
import type { LocalConnection } from "../connection.ts";
import type { PeerName } from "../name.ts";
import type { Peer, PeerConnection } from "../peer.ts";
import { dialable, GossipedAddresses } from "./gossiped.ts";
import type { Reason } from "./target.ts";

/** What is known when addresses are chosen. */
export interface Known {
  readonly ourself: Peer;
  readonly connections: Iterable<LocalConnection>;
  /** Addresses of named peers; `anyPort` for one that was named without a port. */
  readonly named: Iterable<{ readonly address: string; readonly ip: string; readonly anyPort: boolean }>;
  /** Addresses of peers that this host has lost. */
  readonly lost: Iterable<readonly [PeerName, string]>;
  /** Peers of the topology; empty where none may be sought. */
  readonly peers: Iterable<Peer>;
  /** The port that peers listen on. */
  readonly port: number;
  /** Addresses that are dialled already. */
  readonly targets: { has(address: string): boolean };
  readonly random: Random;
  /** Results of earlier calls: most addresses are told by many peers, again and again. */
  readonly dials: LatestMap<string, string | undefined>;
}

/** Addresses whose results are kept: all of MAX_GOSSIPED, as each end of a connection has told them. */
export const MAX_DIALS = 8_192;

/** As dialable(), which takes microseconds. */
function dialableAgain({ dials, port }: Known, address: string, outbound: boolean): string | undefined {
  const key = outbound ? address : `<${address}`;
  const known = dials.get(key);
  if (known !== undefined || dials.has(key)) return known;
  const dial = dialable(address, outbound, port);
  dials.set(key, dial);
  return dial;
}

/** Return the addresses to dial, and how many gossip tells of: of those, not all may be among them. */
export function wantedAddresses(known: Known): { wanted: Map<string, Reason>; gossiped: number } {
  const { ourself, port, targets, random } = known;
  const connectedAddresses = new Set<string>();
  const connectedPeers = new Set<PeerName>();
  const inboundIps = new Set<string>();
  for (const connection of known.connections) {
    connectedAddresses.add(connection.address);
    connectedPeers.add(connection.remote.name);
    if (!connection.outbound) inboundIps.add(splitHostPort(connection.address)?.host ?? "");
  }
  const wanted = new Map<string, Reason>();
  const isOpen = (address: string) => !connectedAddresses.has(address) && !wanted.has(address);
  // A host that has dialled us is not dialled, unless it was named with a port: that may be another peer.
  for (const { address, ip, anyPort } of known.named)
    if (isOpen(address) && !(anyPort && inboundIps.has(ip))) wanted.set(address, "named");
  for (const [name, address] of known.lost)
    if (isOpen(address) && !connectedPeers.has(name)) wanted.set(address, "lost");
  const gossiped = new GossipedAddresses<Reason>(port);
  for (const { remote, address, outbound } of connectionsToMissing(ourself, known.peers, connectedPeers)) {
    const dial = dialableAgain(known, address, outbound);
    const reason = ourself.name > remote.name ? "ours to call" : "theirs to call";
    if (dial && isOpen(dial)) gossiped.add(dial, reason);
  }
  for (const [address, reason] of gossiped.take(targets, random)) wanted.set(address, reason);
  return { wanted, gossiped: gossiped.size };
}

/** Yield the connections of others to peers that we are not connected to; by those peers where they are few. */
function* connectionsToMissing(
  ourself: Peer,
  peers: Iterable<Peer>,
  connectedPeers: ReadonlySet<PeerName>,
): Generator<PeerConnection> {
  const others = [...peers].filter((peer) => peer !== ourself);
  const missing = others.filter(({ name }) => !connectedPeers.has(name));
  const connections = others.reduce((sum, peer) => sum + peer.connections.size, 0);
  for (const peer of others) {
    if (missing.length * others.length < connections) {
      for (const { name } of missing) {
        const connection = peer.connections.get(name);
        if (connection) yield connection;
      }
    } else {
      for (const [name, connection] of peer.connections) {
        if (name !== ourself.name && !connectedPeers.has(name)) yield connection;
      }
    }
  }
}
