// The forwarding tables of kernel and sleeve engine, computed from the routes of the mesh and the overlays to each
// neighbour. Pure.
import type { IPv4 } from "../address/ipv4.ts";
import type { ForwardingTable } from "./datapath/contents.ts";
import { type Hop, type Hops, MAX_HOPS, SLEEVE } from "./datapath/maps.ts";
import { isShortId } from "./peerid.ts";
import type { ForwardingTables } from "./sleeve/routes.ts";

/** The ways to a neighbour. */
export interface Neighbour {
  readonly id: number;
  /** Present where its frames go by VXLAN: its address, and the engine's link for relaying to it. */
  readonly fastdp: { readonly address: IPv4; readonly link: number } | undefined;
  /** The engine's link, where sleeve works. */
  readonly sleeve: number | undefined;
}

export interface Topology {
  /** Our own number. */
  readonly self: number;
  /** Names of all peers, six bytes each, by their numbers. */
  readonly names: ReadonlyMap<number, Uint8Array>;
  readonly neighbours: readonly Neighbour[];
  /** Addresses that VXLAN frames are accepted from, also while ours go another way. */
  readonly vxlanSources: ReadonlySet<IPv4>;
  /** Next hop to each peer, by numbers. */
  readonly unicast: ReadonlyMap<number, number>;
  /** Children and parent of ourselves in each peer's broadcast tree, by numbers. */
  readonly broadcast: ReadonlyMap<
    number,
    { readonly from: number | undefined; readonly to: readonly number[] }
  >;
}

/** Return the tables of both. VXLAN carries only frames between peers with short ids; all others go by sleeve. */
export function makeTables(topology: Topology): { kernel: ForwardingTable; engine: ForwardingTables } {
  const { self, names, vxlanSources } = topology;
  const neighbours = new Map(topology.neighbours.map((neighbour) => [neighbour.id, neighbour]));
  const routes = new Map<number, IPv4>();
  const next = new Map<number, number>();
  const nextBySleeve = new Map<number, number>();
  for (const [destination, via] of topology.unicast) {
    const neighbour = neighbours.get(via);
    if (!neighbour) continue;
    const { fastdp, sleeve } = neighbour;
    if (sleeve !== undefined) nextBySleeve.set(destination, sleeve);
    if (fastdp && isShortId(destination)) {
      routes.set(destination, fastdp.address);
      next.set(destination, fastdp.link);
    } else if (sleeve !== undefined) {
      routes.set(destination, SLEEVE);
      next.set(destination, sleeve);
    }
  }
  const hops = new Map<number, Hops>();
  const broadcast = new Map<number, readonly number[]>();
  const origins = new Map<number, number>();
  for (const [source, { from, to }] of topology.broadcast) {
    const vxlan: Hop[] = [];
    const links: number[] = [];
    for (const id of to) {
      const neighbour = neighbours.get(id);
      // Of more children than the kernel has room for, the others get it by sleeve.
      if (neighbour?.fastdp && isShortId(source) && isShortId(id) && vxlan.length < MAX_HOPS) {
        vxlan.push({ shortId: id, address: neighbour.fastdp.address });
      } else if (neighbour?.sleeve !== undefined) {
        links.push(neighbour.sleeve);
      }
    }
    const origin = from === undefined ? undefined : (neighbours.get(from)?.fastdp?.address ?? SLEEVE);
    if (vxlan.length + links.length > 0) hops.set(source, { from: origin, vxlan, sleeve: links.length > 0 });
    if (links.length > 0) broadcast.set(source, links);
    if (from !== undefined) origins.set(source, from);
  }
  return {
    kernel: { routes, hops, neighbours: vxlanSources },
    engine: { self, names, next, nextBySleeve, broadcast, origins },
  };
}
