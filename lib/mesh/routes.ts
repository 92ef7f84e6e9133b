// Routes through the mesh: the next hop to each peer, and the spanning tree of each source of broadcasts. All peers compute
// the same trees from the same topology: levels of a breadth-first walk are visited in order of names (mesh: routes.go,
// peer.go).
import type { PeerName } from "./name.ts";
import { UNKNOWN_PEER } from "./name.ts";
import type { Peer, PeerConnection } from "./peer.ts";

/** Next hops by destination; the source's own is UNKNOWN_PEER. */
export type UnicastRoutes = ReadonlyMap<PeerName, PeerName>;

/** Numbers walks: marks of earlier walks on peers are stale. */
let walks = 0;

/**
 * Walk the topology breadth-first from `start` until `stopAt` is visited, and mark each peer found with the number of the
 * walk and the first hop. With `established`, only over connections that both ends have established: those carry frames.
 * The walk ends once `count` peers, which is all there are, have been found: in a full mesh after the first.
 */
function walk(
  start: Peer,
  count: number,
  established: boolean,
  stopAt?: Peer,
): { met: boolean; found: Peer[] } {
  const number = ++walks;
  const found = [start];
  start.walk = number;
  start.firstHop = UNKNOWN_PEER;
  for (let from = 0; from < found.length; ) {
    const level = found.slice(from).sort((a, b) => a.order - b.order);
    from = found.length;
    for (const peer of level) {
      if (peer === stopAt) return { met: true, found };
      if (found.length >= count) continue;
      for (const connection of peer.connections.values()) {
        const { remote } = connection;
        if (remote.walk === number || (established && !carriesFrames(peer, connection))) continue;
        remote.walk = number;
        remote.foundBy = peer;
        remote.firstHop = peer === start ? remote.name : peer.firstHop;
        found.push(remote);
      }
    }
  }
  return { met: false, found };
}

function carriesFrames(peer: Peer, { remote, established }: PeerConnection): boolean {
  return established && remote.connections.get(peer.name)?.established === true;
}

/** Our place in the tree of a source: the neighbour before us, and those after us. */
interface Branch {
  readonly from: PeerName | undefined;
  readonly to: readonly PeerName[];
}

/** Peers up to which all trees are computed to be shown. */
const MAX_SHOWN = 512;

const NO_BRANCH: Branch = { from: undefined, to: [] };

/** The routes of one peer over the current topology, computed when they are first asked for. */
export class Routes {
  #established: UnicastRoutes | undefined;
  #all: UnicastRoutes | undefined;
  readonly #broadcast = new Map<PeerName, Branch>();
  readonly #broadcastAll = new Map<PeerName, Branch>();

  constructor(
    private readonly ourself: Peer,
    private readonly peers: { readonly size: number; get(name: PeerName): Peer | undefined },
  ) {}

  /** The topology has changed. */
  invalidate(): void {
    this.#established = undefined;
    this.#all = undefined;
    this.#broadcast.clear();
    this.#broadcastAll.clear();
  }

  /** Next hops over connections that carry frames. */
  get unicast(): UnicastRoutes {
    this.#established ??= this.#unicast(true);
    return this.#established;
  }

  /** Next hops over all connections, for control messages. */
  get unicastAll(): UnicastRoutes {
    this.#all ??= this.#unicast(false);
    return this.#all;
  }

  /** Return the neighbours to pass a frame on to that `source` has broadcast. */
  broadcast(source: PeerName): readonly PeerName[] {
    return this.#tree(source, true, this.#broadcast).to;
  }

  /** As broadcast(); in a large network only trees that were computed already, as others would take long. */
  shownBroadcast(source: PeerName): readonly PeerName[] {
    if (this.peers.size <= MAX_SHOWN) return this.broadcast(source);
    return this.#broadcast.get(source)?.to ?? [];
  }

  /** Return the neighbours to pass a control message on to that `source` has broadcast. */
  broadcastAll(source: PeerName): readonly PeerName[] {
    return this.#tree(source, false, this.#broadcastAll).to;
  }

  /** Return the neighbour from which a frame that `source` has broadcast arrives. */
  broadcastFrom(source: PeerName): PeerName | undefined {
    return this.#tree(source, true, this.#broadcast).from;
  }

  /** Return our neighbours that a peer reaches on paths without us, itself included. */
  reachedWithoutUs(from: Peer): ReadonlySet<PeerName> {
    const number = ++walks;
    const { connections } = this.ourself;
    const reached = new Set<PeerName>();
    this.ourself.walk = number;
    from.walk = number;
    const walked = [from];
    for (const peer of walked) {
      if (connections.has(peer.name)) reached.add(peer.name);
      if (reached.size === connections.size) break;
      for (const { remote } of peer.connections.values()) {
        if (remote.walk === number) continue;
        remote.walk = number;
        walked.push(remote);
      }
    }
    return reached;
  }

  #tree(source: PeerName, established: boolean, known: Map<PeerName, Branch>): Branch {
    let branch = known.get(source);
    if (!branch) {
      branch = this.#branch(source, established);
      known.set(source, branch);
    }
    return branch;
  }

  #unicast(established: boolean): UnicastRoutes {
    const { found } = walk(this.ourself, this.peers.size, established);
    return new Map(found.map(({ name, firstHop }) => [name, firstHop]));
  }

  #branch(source: PeerName, established: boolean): Branch {
    const { ourself, peers } = this;
    const peer = peers.get(source);
    // Connections that carry frames carry them both ways: a peer that we do not reach does not reach us.
    if (!peer || (established && !this.unicast.has(source))) return NO_BRANCH;
    const count = established ? this.unicast.size : peers.size;
    const { met, found } = walk(peer, count, established, ourself);
    const from = peer !== ourself && ourself.walk === peer.walk ? ourself.foundBy?.name : undefined;
    if (!met || found.length >= count) return { from, to: [] };
    const to = [...ourself.connections.values()]
      .filter(({ remote }) => remote.walk !== peer.walk)
      .filter((connection) => !established || carriesFrames(ourself, connection))
      .map(({ remote }) => remote.name);
    return { from, to };
  }
}

/**
 * Return random neighbours to gossip to, weighted by the number of peers behind each; at most `share`·log2(peers). With 2
 * an update reaches every peer; a periodic repetition needs far less.
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
