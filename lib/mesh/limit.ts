// With a limit on connections: which of ours the network can do without.
import type { Peer } from "./peer.ts";

/**
 * The neighbour whose connection to us can best be spared: reachable without it, and of those the one with most
 * connections. Undefined where every neighbour hangs on us.
 */
export function prunable(ourself: Peer): Peer | undefined {
  let best: Peer | undefined;
  for (const { remote } of ourself.connections.values()) {
    if (best && remote.connections.size <= best.connections.size) continue;
    if (reachableWithout(ourself, remote)) best = remote;
  }
  return best;
}

/** True when a path leads from `ourself` to `remote` that does not use the connection between them. */
function reachableWithout(ourself: Peer, remote: Peer): boolean {
  const reached = new Set<Peer>([ourself]);
  for (const peer of reached) {
    for (const connection of peer.connections.values()) {
      if (peer === ourself && connection.remote === remote) continue;
      if (connection.remote === remote) return true;
      reached.add(connection.remote);
    }
  }
  return false;
}
