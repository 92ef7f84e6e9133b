// Routes through the mesh: the next hop to each peer, and the spanning tree of each source of broadcasts. All peers compute
// the same trees from the same topology: levels of a breadth-first walk are visited in order of names (mesh: routes.go,
// peer.go).
import { neighbourNumbers } from "./adjacency.ts";
import type { PeerName } from "./name.ts";
import { UNKNOWN_PEER } from "./name.ts";
import { byName, MAX_NUMBERS, nameOfNumber, numberEra, numberOf, numbersByName } from "./numbers.ts";
import { announcedBy, type Peer } from "./peer.ts";

/** Next hops by destination; the source's own is UNKNOWN_PEER. */
export type UnicastRoutes = ReadonlyMap<PeerName, PeerName>;

/** Neighbours of each peer, by the numbers of the peers; none where a peer's connections are not known. */
type Links = (Uint16Array | undefined)[];

/** What walks find, by the numbers of peers: levels of a walk are stamped in order, those of an earlier walk are lower. */
const stamps = new Uint32Array(MAX_NUMBERS);
const foundBy = new Uint16Array(MAX_NUMBERS);
const firstHop = new Uint16Array(MAX_NUMBERS);
/** The peers that the walk found, in order. */
const found = new Uint16Array(MAX_NUMBERS);
const MAX_STAMP = 2 ** 32 - 1 - MAX_NUMBERS;
let stamp = 0;

function nextWalk(): number {
  if (stamp > MAX_STAMP) {
    stamps.fill(0);
    stamp = 0;
  }
  return ++stamp;
}

interface Walk {
  /** Those found have at least this stamp. */
  readonly first: number;
  readonly count: number;
  readonly met: boolean;
}

/**
 * Walk the topology breadth-first from `start` until `stopAt` is visited. The walk ends once `count` peers, which is all there
 * are, have been found: in a full mesh after the first.
 */
function walk(links: Links, start: number, count: number, stopAt = -1): Walk {
  const first = nextWalk();
  let size = 1;
  found[0] = start;
  stamps[start] = first;
  for (let from = 0; from < size; ) {
    const to = size;
    sortLevel(from, to, stamp);
    const next = ++stamp;
    for (; from < to; from++) {
      const peer = found[from] as number;
      if (peer === stopAt) return { first, count: size, met: true };
      const neighbours = size < count ? links[peer] : undefined;
      if (!neighbours) continue;
      for (let i = 0; i < neighbours.length; i++) {
        const remote = neighbours[i] as number;
        if ((stamps[remote] as number) >= first) continue;
        stamps[remote] = next;
        foundBy[remote] = peer;
        firstHop[remote] = peer === start ? remote : (firstHop[peer] as number);
        found[size++] = remote;
      }
    }
  }
  return { first, count: size, met: false };
}

/** Levels up to this are sorted by insertion. */
const SMALL = 16;

/** Sort the peers found from `from` to `to`, all of one level, by their names. */
function sortLevel(from: number, to: number, level: number): void {
  if (to - from > SMALL) {
    const all = numbersByName();
    for (let i = 0, at = from; at < to && i < all.length; i++) {
      const peer = all[i] as number;
      if (stamps[peer] === level) found[at++] = peer;
    }
    return;
  }
  for (let i = from + 1; i < to; i++) {
    const peer = found[i] as number;
    let at = i;
    for (; at > from && byName(peer, found[at - 1] as number) < 0; at--) found[at] = found[at - 1] as number;
    found[at] = peer;
  }
}

const wasFound = (peer: number, { first }: Walk) => (stamps[peer] as number) >= first;

/** Return whether both ends have established their connection: others carry no frames. */
function carriesFrames(peer: Peer, remote: Peer | undefined): boolean {
  const isEstablished = (from: Peer, to: Peer) => announcedBy(from).get(to.name)?.established === true;
  return remote !== undefined && isEstablished(peer, remote) && isEstablished(remote, peer);
}

/** Our place in the tree of a source: the neighbour before us, and those after us. */
interface Branch {
  readonly from: PeerName | undefined;
  readonly to: readonly PeerName[];
}

/** Peers up to which all trees are computed to be shown. */
const MAX_SHOWN = 512;

const NO_BRANCH: Branch = { from: undefined, to: [] };

interface KnownPeers {
  readonly size: number;
  get(name: PeerName): Peer | undefined;
  /** Peers whose connections have changed since this was emptied; unless given, any may have. */
  readonly relinked?: Set<PeerName>;
}

/** The routes of one peer over the current topology, computed when they are first asked for. */
export class Routes {
  #established: UnicastRoutes | undefined;
  #all: UnicastRoutes | undefined;
  readonly #broadcast = new Map<PeerName, Branch>();
  readonly #broadcastAll = new Map<PeerName, Branch>();

  /** The topology as numbers, of an era; `#isStale`: it may have changed since. */
  #links: Links = [];
  /** The same of connections that carry frames. */
  #carrying: Links | undefined;
  #era = -1;
  #isStale = true;

  constructor(
    private readonly ourself: Peer,
    private readonly peers: KnownPeers,
  ) {}

  /** The topology has changed. */
  invalidate(): void {
    this.#isStale = true;
    this.#carrying = undefined;
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

  /** Return whether a way leads to a peer, for control messages. */
  reaches(name: PeerName): boolean {
    if (this.#all) return this.#all.has(name);
    const to = numberOf(name);
    const links = this.#topology(this.ourself);
    return wasFound(to, walk(links, numberOf(this.ourself.name), this.peers.size, to));
  }

  /** Return how many peers we reach, ourself included. */
  reachable(): number {
    return walk(this.#topology(this.ourself), numberOf(this.ourself.name), this.peers.size).count;
  }

  /** Return our neighbours that a peer reaches on paths without us, itself included. */
  reachedWithoutUs(from: Peer): ReadonlySet<PeerName> {
    const { connections } = this.ourself;
    const links = this.#topology(from);
    const ourself = numberOf(this.ourself.name);
    const ours = links[ourself];
    links[ourself] = undefined;
    const walked = walk(links, numberOf(from.name), this.peers.size);
    links[ourself] = ours;
    return new Set([...connections.keys()].filter((name) => wasFound(numberOf(name), walked)));
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
    const { ourself } = this;
    const links = established ? this.#carriers() : this.#topology(ourself);
    const { count } = walk(links, numberOf(ourself.name), this.peers.size);
    const routes = new Map<PeerName, PeerName>([[ourself.name, UNKNOWN_PEER]]);
    for (let i = 1; i < count; i++) {
      const peer = found[i] as number;
      routes.set(nameOfNumber(peer), nameOfNumber(firstHop[peer] as number));
    }
    return routes;
  }

  #branch(source: PeerName, established: boolean): Branch {
    const { ourself, peers } = this;
    const peer = peers.get(source);
    // Connections that carry frames carry them both ways: a peer that we do not reach does not reach us.
    if (!peer || (established && !this.unicast.has(source))) return NO_BRANCH;
    const count = established ? this.unicast.size : peers.size;
    const links = established ? this.#carriers() : this.#topology(peer);
    const us = numberOf(ourself.name);
    const walked = walk(links, numberOf(source), count, us);
    const from = peer !== ourself && wasFound(us, walked) ? nameOfNumber(foundBy[us] as number) : undefined;
    if (!walked.met || walked.count >= count) return { from, to: [] };
    const to = [...(links[us] ?? [])].filter((remote) => !wasFound(remote, walked)).map(nameOfNumber);
    return { from, to };
  }

  /** Return the topology as numbers, as far as it is reached from us and from `source`. */
  #topology(source: Peer): Links {
    const { ourself, peers } = this;
    this.#isStale ||= peers.relinked !== undefined && peers.relinked.size > 0;
    // A new era may begin meanwhile.
    for (let era = -1; era !== numberEra(); ) {
      era = numberEra();
      if (this.#era !== era || (this.#isStale && !peers.relinked)) this.#links = [];
      this.#era = era;
      const relinked = this.#isStale ? [ourself.name, ...(peers.relinked ?? [])] : [];
      for (const name of relinked) this.#links[numberOf(name)] = undefined;
      for (const name of relinked) this.#put(peers.get(name));
      this.#put(ourself);
      this.#put(source);
    }
    if (this.#isStale) peers.relinked?.clear();
    this.#isStale = false;
    return this.#links;
  }

  /** Add a peer to the topology, and those that are reached from it, unless they are there. */
  #put(peer: Peer | undefined): void {
    const waiting = peer ? [peer] : [];
    for (const each of waiting) {
      const number = numberOf(each.name);
      if (this.#links[number]) continue;
      const numbers = neighbourNumbers(each);
      this.#links[number] = numbers;
      for (let i = 0; i < numbers.length; i++) {
        const other = numbers[i] as number;
        const remote = this.#links[other] ? undefined : this.peers.get(nameOfNumber(other));
        if (remote) waiting.push(remote);
      }
    }
  }

  /** Return the same of connections that carry frames. */
  #carriers(): Links {
    const { ourself, peers } = this;
    const links = this.#topology(ourself);
    if (this.#carrying) return this.#carrying;
    const carrying: Links = [];
    for (const [number, numbers] of links.entries()) {
      const peer = numbers && peers.get(nameOfNumber(number));
      if (peer)
        carrying[number] = numbers.filter((other) => carriesFrames(peer, peers.get(nameOfNumber(other))));
    }
    this.#carrying = carrying;
    return carrying;
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
