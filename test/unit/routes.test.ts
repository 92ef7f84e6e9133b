import { describe, expect, test } from "bun:test";
import { seededRandom } from "../../lib/clock/random.ts";
import { MAX_PEERS } from "../../lib/mesh/bounds.ts";
import { prunable } from "../../lib/mesh/limit.ts";
import { nameFromNumber, type PeerName, UNKNOWN_PEER } from "../../lib/mesh/name.ts";
import { Peer } from "../../lib/mesh/peer.ts";
import { Routes, randomNeighbours } from "../../lib/mesh/routes.ts";
import { isShortId, PeerIds } from "../../lib/overlay/peerid.ts";
import { fc } from "../support/fastcheck.ts";
import { linksOf } from "../support/links.ts";

const name = (i: number) => nameFromNumber(BigInt(i + 1));

interface Graph {
  readonly size: number;
  readonly edges: readonly (readonly [number, number])[];
}

/** Connected graphs: a tree, and some more edges. */
const graphs = fc.integer({ min: 2, max: 12 }).chain((size) =>
  fc.record({
    size: fc.constant(size),
    edges: fc
      .tuple(
        fc.tuple(
          ...Array.from({ length: size - 1 }, (_, i) => fc.nat(i).map((parent) => [i + 1, parent] as const)),
        ),
        fc.array(fc.tuple(fc.nat(size - 1), fc.nat(size - 1)), { maxLength: 15 }),
      )
      .map(([tree, more]) => [...tree, ...more.filter(([a, b]) => a !== b)]),
  }),
);

/** One router's own copy of the topology: what it knows came in an order of its own. */
function peersOf(self: number, { size, edges }: Graph): Map<PeerName, Peer> {
  const random = seededRandom(BigInt(self));
  const peers = new Map(Array.from({ length: size }, (_, i) => [name(i), Peer.placeholder(name(i))]));
  const get = (i: number) => peers.get(name(i)) as Peer;
  const shuffled = edges.map((edge) => ({ edge, order: random.float() })).sort((a, b) => a.order - b.order);
  for (const { edge } of shuffled) {
    for (const [from, to] of [edge, [edge[1], edge[0]] as const]) {
      linksOf(get(from)).set(name(to), {
        remote: get(to),
        address: "",
        outbound: true,
        established: true,
      });
    }
  }
  return peers;
}

function routesOf(self: number, graph: Graph): Routes {
  const peers = peersOf(self, graph);
  return new Routes(peers.get(name(self)) as Peer, peers);
}

const allRoutes = (graph: Graph) =>
  new Map(Array.from({ length: graph.size }, (_, i) => [name(i), routesOf(i, graph)]));

describe("routes over any connected topology", () => {
  test("a broadcast reaches every peer exactly once", () => {
    fc.assert(
      fc.property(graphs, (graph) => {
        const routes = allRoutes(graph);
        for (const source of routes.keys()) {
          const reached = [source];
          for (const at of reached) reached.push(...(routes.get(at)?.broadcast(source) ?? []));
          expect(reached.toSorted()).toEqual([...routes.keys()].toSorted());
        }
      }),
      { numRuns: 100 },
    );
  });

  test("following next hops leads to every peer", () => {
    fc.assert(
      fc.property(graphs, (graph) => {
        const routes = allRoutes(graph);
        for (const from of routes.keys()) {
          for (const to of routes.keys()) {
            let at: PeerName = from;
            for (let hops = 0; at !== to; hops++) {
              expect(hops).toBeLessThan(graph.size);
              at = routes.get(at)?.unicast.get(to) ?? UNKNOWN_PEER;
            }
          }
        }
      }),
    );
  });
});

test("frames take only what both ends have established; control messages take all", () => {
  const [a, b] = [Peer.placeholder(name(0)), Peer.placeholder(name(1))];
  const connection = (remote: Peer, established: boolean) => ({
    remote,
    address: "",
    outbound: true,
    established,
  });
  linksOf(a).set(b.name, connection(b, true));
  linksOf(b).set(a.name, connection(a, false));
  const routes = new Routes(a, new Map([a, b].map((peer) => [peer.name, peer])));
  expect([routes.unicast.has(b.name), routes.unicastAll.has(b.name)]).toEqual([false, true]);
  expect([routes.broadcast(a.name), routes.broadcastAll(a.name)]).toEqual([[], [b.name]]);
  linksOf(b).set(a.name, connection(a, true));
  routes.invalidate();
  expect(routes.unicast.has(b.name)).toBe(true);
});

test("random neighbours are few, different, and never the one it came from", () => {
  const random = seededRandom(1n);
  const routes = new Map([
    [name(0), UNKNOWN_PEER],
    ...Array.from({ length: 63 }, (_, i) => [name(i + 1), name(i + 1)] as const),
  ]);
  const chosen = randomNeighbours(routes, name(5), () => random.float());
  expect(chosen.length).toBe(12);
  expect(new Set(chosen).size).toBe(12);
  expect(chosen).not.toContain(name(5));
  expect(randomNeighbours(routes, name(5), () => random.float(), 0.3).length).toBe(2);
  expect(randomNeighbours(new Map([[name(0), UNKNOWN_PEER]]), name(0), () => 0)).toEqual([]);
});

describe("the connection that can best be spared", () => {
  /** As defined: a path to the neighbour that does not use the connection to it. */
  function spared(ourself: Peer): PeerName[] {
    return [...ourself.connections.values()]
      .filter(({ remote }) => {
        const reached = new Set<Peer>([ourself]);
        for (const peer of reached) {
          for (const connection of peer.connections.values()) {
            if (peer === ourself && connection.remote === remote) continue;
            if (connection.remote === remote) return true;
            reached.add(connection.remote);
          }
        }
        return false;
      })
      .map(({ remote }) => remote.name);
  }

  test("leads to a peer that is reachable without it, and of those to one with most connections", () => {
    fc.assert(
      fc.property(graphs, (graph) => {
        const peers = peersOf(0, graph);
        const ourself = peers.get(name(0)) as Peer;
        const candidates = spared(ourself);
        const chosen = prunable(ourself);
        if (candidates.length === 0) expect(chosen).toBeUndefined();
        else {
          expect(candidates).toContain(chosen?.name as PeerName);
          const most = Math.max(...candidates.map((other) => peers.get(other)?.connections.size ?? 0));
          expect(chosen?.connections.size).toBe(most);
        }
      }),
      { numRuns: 100 },
    );
  });
});

test("every peer has a number of its own, however many share a short id, and however many come and go", () => {
  const present = new Map<PeerName, Peer>();
  const ids = new PeerIds({ get: (wanted) => present.get(wanted), byShortId: () => undefined });
  for (let round = 0; round < 3; round++) {
    present.clear();
    for (let i = 0; i < MAX_PEERS; i++) present.set(name(round * MAX_PEERS + i), Peer.placeholder(name(i)));
    const numbers = Array.from(present.keys(), (peer) => ids.of(Peer.placeholder(peer)));
    expect(new Set(numbers).size).toBe(MAX_PEERS);
    expect(numbers).not.toContain(undefined);
    expect(numbers.some((id) => id !== undefined && isShortId(id))).toBe(false);
  }
});
