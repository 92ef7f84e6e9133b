// The limit of connections. A peer that can be reached through others is turned away at the limit; one that cannot is let
// in, and a connection that others can stand in for is closed: a limit never takes a peer off the network.
import { ConnectionLimitError } from "./errors.ts";
import type { Peer } from "./peer.ts";

/** Peers that only we can reach are let in up to this, whatever the limit. */
const MAX_CONNECTIONS = 4096;
/** Part of the connections over the limit that is closed at a time: other peers may rely on the same detours. */
const SHED_SHARE = 0.1;

export class ConnectionLimit {
  constructor(
    private readonly ourself: Peer,
    readonly max: number,
    private readonly close: (peer: Peer, error: ConnectionLimitError) => void,
  ) {}

  /** Make room for one more connection, to a peer that is `reachable` without it or not. Throws ConnectionLimitError. */
  admit(reachable: boolean): void {
    const { size } = this.ourself.connections;
    if (size >= MAX_CONNECTIONS) throw new ConnectionLimitError(MAX_CONNECTIONS);
    if (size < this.max) return;
    const error = new ConnectionLimitError(this.max);
    if (reachable) throw error;
    const spare = prunable(this.ourself);
    if (spare) this.close(spare, error);
  }

  /** Close connections over the limit that others can stand in for by now. */
  shed(): void {
    const excess = this.ourself.connections.size - this.max;
    for (let i = 0; i < Math.ceil(excess * SHED_SHARE); i++) {
      const spare = prunable(this.ourself);
      if (!spare) return;
      this.close(spare, new ConnectionLimitError(this.max));
    }
  }
}

/**
 * Return the neighbour whose connection to us can best be spared: reachable without it, and of those the one with most
 * connections. Undefined where every neighbour needs ours.
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
 * For each peer, at most two neighbours of ours that reach it on paths without us. Two are enough: of those that reach a
 * neighbour, one is not itself, or none is. So the topology is walked at most twice.
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
