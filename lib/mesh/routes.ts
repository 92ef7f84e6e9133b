// Routes through the mesh: the next hop to each peer, and for each source of a broadcast the neighbours to pass it
// on to, so that it travels a spanning tree. Every peer computes the same trees from the same topology: levels of a
// breadth-first walk are taken in order of names (mesh: routes.go, peer.go).
import type { PeerName } from "./name.ts";
import { UNKNOWN_PEER } from "./name.ts";
import type { Peer, PeerConnection } from "./peer.ts";

/** Next hops by destination; the source's own is UNKNOWN_PEER. */
export type UnicastRoutes = ReadonlyMap<PeerName, PeerName>;

/** Counts walks; what a peer carries of an earlier one means nothing. */
let walks = 0;

/**
 * Walks from `start`, until `stopAt` is to be visited, and leaves at each peer that was found the number of the walk
 * and the first hop to it. With `established`, only over connections that both ends have established, i.e. those that
 * carry frames. Of `count` peers in all, there is nobody left to be found once so many have been: in a full mesh that
 * is after the first.
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
    const level = found.slice(from).sort((a, b) => (a.name < b.name ? -1 : 1));
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

/** Our place in the tree of a source: the neighbour that it comes from, and those that it goes on to. */
interface Branch {
  readonly from: PeerName | undefined;
  readonly to: readonly PeerName[];
}

/** In networks of so many peers all trees are computed to be shown. */
const MAX_SHOWN = 512;

const NO_BRANCH: Branch = { from: undefined, to: [] };

/** All routes of one peer over the topology as it is now; trees are computed when they are first asked for. */
export class Routes {
  #established: UnicastRoutes | undefined;
  #all: UnicastRoutes | undefined;
  readonly #broadcast = new Map<PeerName, Branch>();
  readonly #broadcastAll = new Map<PeerName, Branch>();

  constructor(
    private readonly ourself: Peer,
    private readonly peers: { readonly size: number; get(name: PeerName): Peer | undefined },
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
    this.#established ??= this.#unicast(true);
    return this.#established;
  }

  /** Next hops over all connections: control messages need no established overlay. */
  get unicastAll(): UnicastRoutes {
    this.#all ??= this.#unicast(false);
    return this.#all;
  }

  /** The neighbours that a frame broadcast by `source` is to be passed on to. */
  broadcast(source: PeerName): readonly PeerName[] {
    return this.#tree(source, true, this.#broadcast).to;
  }

  /** As `broadcast`; in a large network without those that nobody has asked for yet, which would take long. */
  shownBroadcast(source: PeerName): readonly PeerName[] {
    if (this.peers.size <= MAX_SHOWN) return this.broadcast(source);
    return this.#broadcast.get(source)?.to ?? [];
  }

  /** The neighbours that a control message broadcast by `source` is to be passed on to. */
  broadcastAll(source: PeerName): readonly PeerName[] {
    return this.#tree(source, false, this.#broadcastAll).to;
  }

  /** The neighbour that a frame broadcast by `source` is to come from. */
  broadcastFrom(source: PeerName): PeerName | undefined {
    return this.#tree(source, true, this.#broadcast).from;
  }

  /** Neighbours of ours that a peer reaches on ways that do not lead through us, itself among them. */
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
    // What carries frames carries them both ways: whom we do not reach, does not reach us.
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
