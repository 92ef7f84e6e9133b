// Counts of what the report lists: a status of numbers needs no lists, which peers can make long.
import type { Peer } from "../peer.ts";
import type { MeshRouter } from "../router.ts";
import { type ConnectionReport, targetStateName } from "./connections.ts";

export interface MeshCounts {
  /** Of this router, with its targets. */
  Connections: Partial<Record<ConnectionReport["State"], number>>;
  /** Established connections whose frames go by a slower overlay than they could. */
  Slow: number;
  Peers: number;
  /** Of all peers, each counted at both ends. */
  PeerConnections: { Established: number; Pending: number };
}

export function meshCounts({ maker, peers, ourself }: MeshRouter): MeshCounts {
  const Connections: MeshCounts["Connections"] = {};
  const count = (state: ConnectionReport["State"]) => {
    Connections[state] = (Connections[state] ?? 0) + 1;
  };
  let Slow = 0;
  for (const connection of maker.connections) {
    count(connection.established ? "established" : "pending");
    if (connection.established && isSlow(connection.slowness()?.cause)) Slow++;
  }
  for (const target of maker.targets.values()) {
    const state = targetStateName(target);
    if (state) count(state);
  }
  const own = establishedOf(ourself);
  const { all, established } = peers.connectionCounts;
  const Established = established + own;
  const Pending = all + ourself.connections.size - Established;
  return { Connections, Slow, Peers: peers.size, PeerConnections: { Established, Pending } };
}

/** Lists of a report. */
interface Lists {
  readonly Connections: readonly ConnectionReport[];
  readonly Peers?: readonly { readonly Connections: readonly { readonly Established: boolean }[] }[];
}

/** Return the counts of a report without them, as the original's. */
export function countsOf({ Connections: all, Peers = [] }: Lists): MeshCounts {
  const Connections: MeshCounts["Connections"] = {};
  for (const { State } of all) Connections[State] = (Connections[State] ?? 0) + 1;
  const ofPeers = Peers.flatMap((peer) => peer.Connections);
  const Established = ofPeers.filter((connection) => connection.Established).length;
  return {
    Connections,
    Slow: all.filter(({ State, Trouble }) => State === "established" && isSlow(Trouble?.Cause)).length,
    Peers: Peers.length,
    PeerConnections: { Established, Pending: ofPeers.length - Established },
  };
}

/** Sleeve by configuration is no problem. */
const isSlow = (cause: string | undefined) => cause !== undefined && cause !== "switched off";

function establishedOf({ connections }: Peer): number {
  let count = 0;
  for (const { established } of connections.values()) if (established) count++;
  return count;
}
