// The mesh in the report, with the field names of the original (mesh: status.go).
import { PROTOCOL_MAX_VERSION } from "../handshake.ts";
import type { Peer } from "../peer.ts";
import type { MeshRouter } from "../router.ts";
import { type ConnectionReport, connectionReport, targetReport } from "./connections.ts";
import { type MeshCounts, meshCounts } from "./counts.ts";
import { type LostReport, lostReports, type RefusedReport, refusedReports } from "./peers.ts";
import { type TargetReport, targetState } from "./targets.ts";

interface PeerReport {
  Name: string;
  NickName: string;
  UID: bigint;
  ShortID: number;
  Version: number;
  Connections: { Name: string; NickName: string; Address: string; Outbound: boolean; Established: boolean }[];
}

export interface MeshReport {
  Protocol: "weave";
  ProtocolMinVersion: number;
  ProtocolMaxVersion: number;
  Encryption: boolean;
  PeerDiscovery: boolean;
  Counts?: MeshCounts;
  Name: string;
  NickName: string;
  Port: number;
  Peers: PeerReport[];
  UnicastRoutes: { Dest: string; Via: string }[];
  BroadcastRoutes: { Source: string; Via: string[] | null }[];
  Connections: ConnectionReport[];
  /** Peers lost in the last 10 min that are not connected again, the latest first. */
  Lost?: LostReport[];
  /** Peers, and hosts that may be none, that we refuse or that refuse us. */
  Refused?: RefusedReport[];
  TerminationCount: number;
  /** Of all connections since the start. */
  GossipBytes?: { Received: number; Sent: number };
  Targets: string[];
  /** The state of each target. */
  TargetStates: TargetReport[];
}

const byName = <T extends { Name: string }>(a: T, b: T) => (a.Name < b.Name ? -1 : 1);

/** `owners`: peers that own a part of the address range. */
export function meshReport(mesh: MeshRouter, owners: ReadonlySet<string>): MeshReport {
  const { clock, ourself } = mesh;
  // Peers can make these lists long, and few readers of a report need them.
  let peers: PeerReport[] | undefined;
  let connections: ConnectionReport[] | undefined;
  return {
    Protocol: "weave",
    ProtocolMinVersion: mesh.minVersion,
    ProtocolMaxVersion: PROTOCOL_MAX_VERSION,
    Encryption: mesh.encryption !== undefined,
    PeerDiscovery: mesh.config.discovery ?? true,
    Counts: meshCounts(mesh),
    Name: ourself.name,
    NickName: ourself.nickName,
    Port: mesh.port,
    get Peers() {
      peers ??= Array.from(mesh.peers.all(), peerReport).sort(byName);
      return peers;
    },
    get UnicastRoutes() {
      return Array.from(mesh.routes.unicast, ([Dest, Via]) => ({ Dest, Via }));
    },
    get BroadcastRoutes() {
      return Array.from(mesh.peers.all(), ({ name }) => {
        const via = [...mesh.routes.shownBroadcast(name)];
        return { Source: name, Via: via.length > 0 ? via : null };
      });
    },
    get Connections() {
      connections ??= [
        ...Array.from(mesh.maker.connections, (connection) => connectionReport(mesh, connection)),
        ...Array.from(mesh.maker.targets, ([address, target]) => targetReport(clock, address, target)).flat(),
      ];
      return connections;
    },
    Lost: lostReports(mesh, owners),
    Refused: refusedReports(mesh),
    TerminationCount: mesh.maker.terminations,
    GossipBytes: { Received: mesh.gossipBytes.received, Sent: mesh.gossipBytes.sent },
    Targets: mesh.maker.directPeers(),
    TargetStates: mesh.maker.namedTargets().map(targetState),
  };
}

function peerReport(peer: Peer): PeerReport {
  return {
    Name: peer.name,
    NickName: peer.nickName,
    UID: peer.uid,
    ShortID: peer.shortId,
    Version: peer.version,
    Connections: Array.from(peer.connections.values(), ({ remote, address, outbound, established }) => ({
      Name: remote.name as string,
      NickName: remote.nickName,
      Address: address,
      Outbound: outbound,
      Established: established,
    })).sort(byName),
  };
}
