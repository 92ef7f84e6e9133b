// The limit of connections. A peer that can be reached through others is turned away at the limit; one that cannot is let
// in, and a connection that others can stand in for is closed: a limit never takes a peer off the network. At the limit an
// address that has connections already displaces its own alone: one host that is many peers evicts no other host.
import { splitHostPort } from "../address/hostport.ts";
import type { Limit } from "../sys/limit.ts";
import { neighbourNumbers } from "./adjacency.ts";
import { ConnectionLimitError } from "./errors.ts";
import { nameOfNumber, numberEra, numberOf } from "./numbers.ts";
import type { Peer, PeerConnection } from "./peer.ts";

/** Peers that only we can reach are let in up to this, whatever the limit. */
const MAX_CONNECTIONS = 4096;
/** Connections with one address: peers behind one NAT, say. */
const MAX_CONNECTIONS_OF_ONE_ADDRESS = 128;
/** Part of the connections over the limit that is closed at a time: other peers may rely on the same detours. */
const SHED_SHARE = 0.1;

export class ConnectionLimit {
  #refused = 0;

  constructor(
    private readonly ourself: Peer,
    readonly max: number,
    private readonly close: (peer: Peer, error: ConnectionLimitError) => void,
  ) {}

  /**
   * Make room for one more connection, with `ip`, to a peer that is `reachable` without it or not. Throws
   * ConnectionLimitError.
   */
  admit(reachable: boolean, ip: string): void {
    const { size } = this.ourself.connections;
    if (size >= MAX_CONNECTIONS) throw this.#refusal(MAX_CONNECTIONS);
    const own = this.#byAddress().get(ip) ?? 0;
    if (own >= MAX_CONNECTIONS_OF_ONE_ADDRESS) throw this.#refusal(MAX_CONNECTIONS_OF_ONE_ADDRESS);
    if (size < this.max) return;
    const error = this.#refusal(this.max);
    if (reachable) throw error;
    const spare = prunable(this.ourself, own > 0 ? ip : undefined);
    if (spare) this.close(spare, error);
    else if (own > 0) throw error;
  }

  limits(): Limit[] {
    return [
      {
        name: "connections",
        value: this.ourself.connections.size,
        max: Math.min(this.max, MAX_CONNECTIONS),
        refused: this.#refused,
      },
      {
        name: "connections-of-one-address",
        value: Math.max(0, ...this.#byAddress().values()),
        max: MAX_CONNECTIONS_OF_ONE_ADDRESS,
      },
    ];
  }

  #refusal(max: number): ConnectionLimitError {
    this.#refused++;
    return new ConnectionLimitError(max);
  }

  #byAddress(): Map<string, number> {
    const counts = new Map<string, number>();
    for (const connection of this.ourself.connections.values()) {
      const ip = ipOf(connection);
      counts.set(ip, (counts.get(ip) ?? 0) + 1);
    }
    return counts;
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
 * connections; with `ip`, of those at that address. Undefined where every neighbour needs ours.
 */
export function prunable(ourself: Peer, ip?: string): Peer | undefined {
  const reached = reachedByOthers(ourself);
  let best: Peer | undefined;
  for (const connection of ourself.connections.values()) {
    const { remote } = connection;
    if (ip !== undefined && ipOf(connection) !== ip) continue;
    if (best && remote.connections.size <= best.connections.size) continue;
    if (reached.has(remote)) best = remote;
  }
  return best;
}

const ipOf = ({ address }: PeerConnection): string => splitHostPort(address)?.host ?? "";

/**
 * Return our neighbours that another neighbour reaches on paths without us. For each peer, two neighbours that reach it are
 * enough: of those that reach a neighbour, one is not itself, or none is. So the topology is walked at most twice.
 */
function reachedByOthers(ourself: Peer): Set<Peer> {
  // Of each peer by its number: the peer, and the indices of those two neighbours.
  const peers: Peer[] = [];
  const [first, second]: [number[], number[]] = [[], []];
  const walked: number[] = [];
  const from: number[] = [];
  const era = numberEra();
  const us = numberOf(ourself.name);
  const neighbours = [...ourself.connections.values()].map(({ remote }) => remote);
  const reach = (number: number, neighbour: number) => {
    if (number === us || second[number] !== undefined || first[number] === neighbour) return false;
    (first[number] === undefined ? first : second)[number] = neighbour;
    from[walked.push(number) - 1] = neighbour;
    return true;
  };
  neighbours.forEach((remote, i) => {
    const number = numberOf(remote.name);
    peers[number] = remote;
    reach(number, i);
  });
  for (let at = 0; at < walked.length; at++) {
    const peer = peers[walked[at] as number];
    const numbers = peer ? neighbourNumbers(peer) : [];
    for (let i = 0; i < numbers.length; i++) {
      const number = numbers[i] as number;
      if (!reach(number, from[at] as number) || peers[number]) continue;
      const connection = peer?.connections.get(nameOfNumber(number));
      if (connection) peers[number] = connection.remote;
    }
  }
  // The numbers are void.
  if (era !== numberEra()) return reachedByOthers(ourself);
  const isByOther = (i: number, number: number) =>
    (first[number] !== undefined && first[number] !== i) ||
    (second[number] !== undefined && second[number] !== i);
  return new Set(neighbours.filter((remote, i) => isByOther(i, numberOf(remote.name))));
}
