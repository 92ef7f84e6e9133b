// The kernel's part of the overlay: links with programs on them that move frames (links.ts), and the maps that they
// move them by, written when the topology changes.
import type { IPv4 } from "../../address/ipv4.ts";
import { liftMemoryLimit } from "../../bpf/bpf.ts";
import { programMapIds } from "../../bpf/program.ts";
import { linkByName } from "../../netlink/link.ts";
import type { NetlinkSocket } from "../../netlink/socket.ts";
import { bpfFilterList } from "../../netlink/trafficcontrol.ts";
import { type DatapathConfig, DatapathLinks, vxlanName } from "./links.ts";
import {
  adoptMaps,
  createMaps,
  type DatapathMaps,
  type Hops,
  type MacEntry,
  type ReceivedHeartbeat,
} from "./maps.ts";

/** Where frames of one peer go: what the maps are made from. Peers are given by their numbers. */
export interface ForwardingTable {
  /** Next hop by destination: its address, or SLEEVE. */
  readonly routes: ReadonlyMap<number, IPv4>;
  /** Hops by source. */
  readonly hops: ReadonlyMap<number, Hops>;
  /** Addresses that frames are taken from by VXLAN. */
  readonly neighbours: ReadonlySet<IPv4>;
}

export class Datapath {
  readonly maps: DatapathMaps;
  readonly links: DatapathLinks;
  #routes = new Map<number, IPv4>();
  #hops = new Map<number, string>();
  #neighbours = new Set<IPv4>();

  /** Sets it all up; throws DatapathError and leaves nothing behind where the kernel lacks something. */
  constructor(
    private readonly nl: NetlinkSocket,
    private readonly config: DatapathConfig,
  ) {
    this.links = new DatapathLinks(nl, config, () => {
      liftMemoryLimit();
      return this.#adopt() ?? createMaps();
    });
    this.maps = this.links.maps;
  }

  /** What the kernel forwards by: at the start what a router before us has left. */
  get table(): ForwardingTable {
    const hops = new Map([...this.#hops].map(([id, text]) => [id, JSON.parse(text) as Hops]));
    return { routes: this.#routes, hops, neighbours: this.#neighbours };
  }

  /** Writes what differs from the table before. */
  apply(table: ForwardingTable): void {
    const { routes, hops, neighbours } = this.maps;
    for (const address of table.neighbours) if (!this.#neighbours.has(address)) neighbours.set(address, 0n);
    for (const [id, address] of table.routes) if (this.#routes.get(id) !== address) routes.set(id, address);
    for (const id of this.#routes.keys()) if (!table.routes.has(id)) routes.set(id, 0);
    const written = new Map<number, string>();
    for (const [id, list] of table.hops) {
      const text = JSON.stringify(list);
      if (this.#hops.get(id) !== text) hops.set(id, list);
      written.set(id, text);
    }
    for (const id of this.#hops.keys()) if (!table.hops.has(id)) hops.delete(id);
    for (const address of this.#neighbours) if (!table.neighbours.has(address)) neighbours.delete(address);
    this.#routes = new Map(table.routes);
    this.#hops = written;
    this.#neighbours = new Set(table.neighbours);
  }

  /** The last heartbeat from a peer, by its short id. */
  heartbeat(shortId: number): ReceivedHeartbeat | undefined {
    return this.maps.heartbeats.get(shortId);
  }

  /** When the last frame came from a neighbour: CLOCK_MONOTONIC in ns, 0 for never. */
  lastFrame(neighbour: IPv4): bigint {
    return this.maps.neighbours.get(neighbour) ?? 0n;
  }

  macs(): [string, MacEntry][] {
    return this.maps.macs.entries();
  }

  /** Forgets MAC addresses that were not seen since `before` (CLOCK_MONOTONIC, ns). */
  forgetMacs(before: bigint): void {
    for (const [mac, { seen }] of this.macs()) if (seen < before) this.maps.macs.delete(mac);
  }

  /** Peers have other numbers now, or (undefined) are gone: their MAC addresses go along. */
  renumberMacs(changes: ReadonlyMap<number, number | undefined>): void {
    for (const [mac, { peer, seen }] of this.macs()) {
      if (!changes.has(peer)) continue;
      const now = changes.get(peer);
      if (now === undefined) this.maps.macs.delete(mac);
      else this.maps.macs.set(mac, { peer: now, seen });
    }
  }

  /** The maps of a router before us, which the kernel still forwards by; and what is in them. */
  #adopt(): DatapathMaps | undefined {
    const link = linkByName(this.nl, vxlanName(this.config.port + 1));
    const ingress = link && this.config.fastdp && bpfFilterList(this.nl, link.index, "ingress")[0];
    const maps = ingress && adoptMaps(programMapIds(ingress.id));
    if (!maps) return undefined;
    this.#routes = new Map(maps.routes.entries().filter(([, address]) => address !== 0));
    this.#hops = new Map(maps.hops.entries().map(([id, hops]) => [id, JSON.stringify(hops)]));
    this.#neighbours = new Set(maps.neighbours.entries().map(([address]) => address));
    return maps;
  }
}
