// How the network grows: simulated networks of real cores (mesh, addresses, names) of 10, 100 and 1,000 routers with a
// limit on connections, all started within a second; then one name and one allocation a second, somewhere.
import { parseCidr } from "../../lib/address/ipv4.ts";
import { below } from "../../lib/clock/random.ts";
import { Nameserver } from "../../lib/dns/nameserver.ts";
import { CHANNEL as NAMES_CHANNEL } from "../../lib/dns/wire.ts";
import type { Allocator } from "../../lib/ipam/allocator.ts";
import { silentLog } from "../../lib/log/log.ts";
import { encodeTopology } from "../../lib/mesh/peer.ts";
import { settled, withAddresses } from "../support/allocators.ts";
import { type SimulatedPeer, Simulation } from "../support/simulation.ts";

const LIMIT = 10;
const RANGE = parseCidr("10.32.0.0/12");
/** Simulated seconds. */
const CHANGING_S = 60;
const IDLE_S = 120;
const SETTLE_S = 60;

export interface Growth {
  readonly routers: number;
  /** Simulated seconds from the first start until everybody had a way to everybody. */
  readonly convergedS: number;
  /** Simulated seconds from the first request for an address until all had the same ring. */
  readonly ringS: number;
  /** Bytes that each router sent on the whole until then. */
  readonly joinBytes: number;
  /** Bytes that each router sends a second. */
  readonly changingBytes: number;
  readonly idleBytes: number;
  /** Simulated seconds until a name given at one router is known at all others; the longest of 10. */
  readonly nameS: number;
  /** Bytes of the ring as it travels, and of the topology as one router would tell it whole. */
  readonly ringBytes: number;
  readonly topologyBytes: number;
  /** MB that one router's part takes of the simulation's memory. */
  readonly memoryMB: number;
}

interface Node {
  readonly peer: SimulatedPeer;
  readonly allocator: Allocator;
  readonly nameserver: Nameserver;
}

function addNode(simulation: Simulation, i: number, count: number): Node {
  const peer = simulation.add(i, { connectionLimit: LIMIT });
  const { router } = peer;
  const quorum = () => Math.floor(count / 2) + 1;
  const allocator = withAddresses(simulation, peer, { quorum, universe: RANGE });
  const isKnownPeer = (name: Parameters<typeof router.peers.get>[0]) => router.peers.get(name) !== undefined;
  const nameserver = new Nameserver(
    { ourName: router.ourself.name, domain: "weave.local.", isKnownPeer },
    { clock: simulation.clock, log: silentLog, store: { load: () => [], save() {}, remove() {} } },
  );
  router.listen({ peersGone: (peers) => nameserver.peersGone(peers) });
  nameserver.start((gossiper) => router.channel(NAMES_CHANNEL, gossiper));
  return { peer, allocator, nameserver };
}

export async function grow(count: number): Promise<Growth> {
  Bun.gc(true);
  const before = process.memoryUsage().heapUsed;
  const simulation = new Simulation(BigInt(count));
  const { clock, network, random } = simulation;
  const nodes: Node[] = [];
  const started = clock.now();
  for (let i = 1; i <= count; i++) {
    const node = addNode(simulation, i, count);
    const others = [nodes[0], nodes[below(random, Math.max(1, i - 1))]].flatMap((other) =>
      other ? [other.peer] : [],
    );
    nodes.push(node);
    await simulation.connect(node.peer, ...others);
    clock.advance(1000 / count);
  }
  simulation.until(() => simulation.converged(), 30 * 60_000, 500);
  const convergedS = (clock.now() - started) / 1000;

  const asked = clock.now();
  const requests = nodes.map(({ allocator }, i) => allocator.allocate(`first${i}`, RANGE));
  await settled(simulation, Promise.all(requests), 30 * 60_000);
  const ring = ({ allocator }: Node) =>
    allocator.ring
      .ranges()
      .map(({ entry, range }) => `${range.start} ${entry.peer}`)
      .join();
  simulation.until(() => new Set(nodes.map(ring)).size === 1, 30 * 60_000, 500);
  const ringS = (clock.now() - asked) / 1000;
  const joinBytes = network.bytes / count;

  // Connections over the limit are closed bit by bit.
  clock.advance(Math.max(0, started + SETTLE_S * 1000 - clock.now()));
  const idleFrom = network.bytes;
  clock.advance(IDLE_S * 1000);
  const idleBytes = (network.bytes - idleFrom) / count / IDLE_S;

  const changingFrom = network.bytes;
  let nameS = 0;
  for (let second = 0; second < CHANGING_S; second++) {
    const node = nodes[below(random, count)];
    if (!node) continue;
    await settled(simulation, node.allocator.allocate(`c${second}`, RANGE));
    const name = `n${second}.weave.local.`;
    node.nameserver.add(name, `c${second}`, second + 1);
    const added = clock.now();
    while (second % 6 === 0 && !nodes.every(({ nameserver }) => nameserver.lookup(name).length > 0))
      clock.advance(5);
    nameS = Math.max(nameS, (clock.now() - added) / 1000);
    clock.advance(1000 - ((clock.now() - started) % 1000));
  }
  const changingBytes = (network.bytes - changingFrom) / count / CHANGING_S;

  Bun.gc(true);
  const [first] = nodes;
  const size = (messages: Uint8Array[]) => messages.reduce((sum, bytes) => sum + bytes.length, 0);
  return {
    routers: count,
    convergedS,
    ringS,
    joinBytes,
    changingBytes,
    idleBytes,
    nameS,
    ringBytes: size([...(first?.allocator.gossiper.gossip()?.encode() ?? [])]),
    topologyBytes: size([encodeTopology(first?.peer.router.peers.all() ?? [])]),
    memoryMB: (process.memoryUsage().heapUsed - before) / count / 1e6,
  };
}

if (import.meta.main) {
  for (const count of process.argv.slice(2).map(Number)) {
    const started = performance.now();
    const growth = await grow(count);
    console.log(JSON.stringify({ ...growth, realS: Math.round((performance.now() - started) / 1000) }));
  }
}
