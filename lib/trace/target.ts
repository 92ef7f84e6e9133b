// Where the probes of a trace go to, as our own report has it: the peer, and the connection to the next hop on the way.
import type { Report } from "../api/report.ts";
import { connectionsSummary } from "../api/summary.ts";
import type { Target, Tunnel } from "./hops/hop.ts";

/** Return what a peer is as a target; `unseen` says why it cannot be looked at. */
export function targetOf(
  report: Report,
  { name, nickname }: { name: string; nickname: string },
  unseen: string | undefined,
): Target {
  const { Router } = report;
  const peer = Router.Peers.find(({ Name }) => Name === name);
  const via = Router.UnicastRoutes.find(({ Dest }) => Dest === name)?.Via ?? name;
  return { kind: "peer", nickname, shortId: peer?.ShortID ?? -1, unseen, tunnel: tunnelTo(report, via) };
}

function tunnelTo(report: Report, name: string): Tunnel | undefined {
  const connection = connectionsSummary(report).find(({ peer }) => peer?.name === name);
  if (!connection?.peer) return undefined;
  const { peer, state, overlay, mtu, encrypted, reason, remedy } = connection;
  const { Port: port } = report.Router;
  return { neighbour: peer.nickname, port, state, overlay, mtu, encrypted, reason, remedy };
}
