// With a limit on connections: which of ours the network can do without.
import type { Peer } from "./peer.ts";

/**
 * The neighbour whose connection to us can best be spared: reachable without it, and of those the one with most
 * connections. Undefined where every neighbour hangs on us.
 */
export function prunable(ourself: Peer): Peer | undefined {
  const reached = reachedFromNeighbours(ourself);
  let best: Peer | undefined;
  for (const { remote } of ourself.connections.values()) {
    if (best && remote.connections.size <= best.connections.size) continue;
    if (reached.get(remote)?.some((from) => from !== remote)) best = remote;
  }
  return best;
}

/**
 * For each peer, two neighbours of ours at most that reach it on ways that do not lead through us. Two are enough: of
 * those that reach a neighbour, one is another than itself, or none is. So the whole is walked over twice at most,
 * however many neighbours there are.
 */
function reachedFromNeighbours(ourself: Peer): Map<Peer, Peer[]> {
  const reached = new Map<Peer, Peer[]>();
  const walked: { peer: Peer; from: Peer }[] = [];
  const reach = (peer: Peer, from: Peer) => {
    const known = reached.get(peer) ?? [];
    if (peer === ourself || known.length === 2 || known.includes(from)) return;
    reached.set(peer, [...known, from]);
    walked.push({ peer, from });
  };
  for (const { remote } of ourself.connections.values()) reach(remote, remote);
  for (const { peer, from } of walked) {
    for (const { remote } of peer.connections.values()) reach(remote, from);
  }
  return reached;
}
