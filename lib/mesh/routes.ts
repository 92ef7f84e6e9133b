// Routes through the mesh: the next hop to each peer, and for each source of a broadcast the neighbours to pass it
// on to, so that it travels a spanning tree. Every peer computes the same trees from the same topology: levels of a
// breadth-first walk are taken in order of names (mesh: routes.go, peer.go).
import type { PeerName } from "./name.ts";
import { UNKNOWN_PEER } from "./name.ts";
import type { Peer } from "./peer.ts";

/** Next hops by destination; the source's own is UNKNOWN_PEER. */
export type UnicastRoutes = ReadonlyMap<PeerName, PeerName>;

/**
 * Walks from `start`, until `stopAt` is to be visited. With `established`, only over connections that both ends
 * have established, i.e. those that carry frames.
 */
function walk(
  start: Peer,
  established: boolean,
  stopAt?: Peer,
): { found: boolean; routes: Map<PeerName, PeerName> } {
  const routes = new Map<PeerName, PeerName>([[start.name, UNKNOWN_PEER]]);
  let level = [start];
  while (level.length > 0) {
    level.sort((a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : 0));
    const next: Peer[] = [];
    for (const peer of level) {
      if (peer === stopAt) return { found: true, routes };
      for (const remote of connectedPeers(peer, established, routes)) {
        next.push(remote);
        routes.set(remote.name, peer === start ? remote.name : (routes.get(peer.name) ?? UNKNOWN_PEER));
      }
    }
    level = next;
  }
  return { found: false, routes };
}

function* connectedPeers(
  peer: Peer,
  established: boolean,
  exclude: ReadonlyMap<PeerName, PeerName>,
): Generator<Peer> {
  for (const connection of peer.connections.values()) {
    const { remote } = connection;
    if (exclude.has(remote.name)) continue;
    if (established) {
      if (!connection.established || !remote.connections.get(peer.name)?.established) continue;
    }
    yield remote;
  }
}

/** All routes of one peer over the topology as it is now; trees are computed when they are first asked for. */
export class Routes {
  #established: UnicastRoutes | undefined;
  #all: UnicastRoutes | undefined;
  readonly #broadcast = new Map<PeerName, PeerName[]>();
  readonly #broadcastAll = new Map<PeerName, PeerName[]>();

  constructor(
    private readonly ourself: Peer,
    private readonly lookup: (name: PeerName) => Peer | undefined,
  ) {}

  /** Forgets what was computed: the topology has changed. */
  invalidate(): void {
    this.#established = undefined;
    this.#all = undefined;
    this.#broadcast.clear();
    this.#broadcastAll.clear();
  }

  /** Next hops over connections that carry frames. */
  get unicast(): UnicastRoutes {
    this.#established ??= walk(this.ourself, true).routes;
    return this.#established;
  }

  /** Next hops over all connections: control messages need no established overlay. */
  get unicastAll(): UnicastRoutes {
    this.#all ??= walk(this.ourself, false).routes;
    return this.#all;
  }

  /** The neighbours that a frame broadcast by `source` is to be passed on to. */
  broadcast(source: PeerName): readonly PeerName[] {
    return this.#tree(source, true, this.#broadcast);
  }

  /** The neighbours that a control message broadcast by `source` is to be passed on to. */
  broadcastAll(source: PeerName): readonly PeerName[] {
    return this.#tree(source, false, this.#broadcastAll);
  }

  #tree(source: PeerName, established: boolean, known: Map<PeerName, PeerName[]>): readonly PeerName[] {
    let hops = known.get(source);
    if (!hops) {
      hops = this.#hops(source, established);
      known.set(source, hops);
    }
    return hops;
  }

  #hops(source: PeerName, established: boolean): PeerName[] {
    const peer = this.lookup(source);
    if (!peer) return [];
    const { found, routes } = walk(peer, established, this.ourself);
    if (!found) return [];
    return Array.from(connectedPeers(this.ourself, established, routes), (remote) => remote.name);
  }
}

/**
 * Neighbours to gossip to, drawn at random, a neighbour the likelier the more peers lie behind it. At most
 * `share`·log2(peers): something new reaches everybody with 2, a periodic repetition needs far less.
 */
export function randomNeighbours(
  routes: UnicastRoutes,
  except: PeerName,
  random: () => number,
  share = 2,
): PeerName[] {
  const weights = new Map<PeerName, number>();
  let total = 0;
  for (const hop of routes.values()) {
    if (hop === UNKNOWN_PEER || hop === except) continue;
    weights.set(hop, (weights.get(hop) ?? 0) + 1);
    total++;
  }
  const wanted = Math.min(Math.ceil(share * Math.log2(routes.size)), weights.size);
  const chosen: PeerName[] = [];
  while (chosen.length < wanted) {
    let draw = random() * total;
    let pick: PeerName | undefined;
    for (const [name, weight] of weights) {
      pick = name;
      if (draw < weight) break;
      draw -= weight;
    }
    if (pick === undefined) break;
    total -= weights.get(pick) ?? 0;
    weights.delete(pick);
    chosen.push(pick);
  }
  return chosen;
}
