// The fast datapath in the kernel: a VXLAN link on the bridge, and the programs and maps on it.
import type { IPv4 } from "../../address/ipv4.ts";
import { liftMemoryLimit } from "../../bpf/bpf.ts";
import { loadProgram } from "../../bpf/program.ts";
import { bridgePortSet, linkAdd, linkByName, linkDelete, linkSet } from "../../netlink/link.ts";
import type { NetlinkSocket } from "../../netlink/socket.ts";
import { bpfFilterReplace, clsactEnsure } from "../../netlink/trafficcontrol.ts";
import { createMaps, type FastdpMaps, type Hop, type MacEntry, type ReceivedHeartbeat } from "./maps.ts";
import { egressProgram, ingressProgram } from "./programs.ts";

/** The kernel lacks something that the fast datapath needs; the message names it. */
export class DatapathError extends Error {
  override readonly name = "DatapathError";
}

export function vxlanName(port: number): string {
  return `vxlan-${port}`;
}

export interface DatapathConfig {
  /** ifindex of the bridge. */
  readonly bridge: number;
  /** UDP port. */
  readonly port: number;
  readonly mtu: number;
  /** Our short id. */
  readonly self: number;
}

function need<T>(what: string, fn: () => T): T {
  try {
    return fn();
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new DatapathError(`the fast datapath needs ${what}, which this kernel refuses: ${reason}`);
  }
}

/** Where frames of one peer go: what the maps are made from. */
export interface ForwardingTable {
  /** Next hop by short id of the destination. */
  readonly routes: ReadonlyMap<number, IPv4>;
  /** Hops by short id of the source. */
  readonly hops: ReadonlyMap<number, readonly Hop[]>;
  readonly neighbours: ReadonlySet<IPv4>;
}

export class Datapath {
  readonly #maps: FastdpMaps;
  readonly #ifindex: number;
  /** The link was not there before. */
  readonly created: boolean;
  #routes = new Map<number, IPv4>();
  #hops = new Map<number, string>();
  #neighbours = new Set<IPv4>();

  /** Sets it all up; throws DatapathError and leaves nothing behind where the kernel lacks something. */
  constructor(
    private readonly nl: NetlinkSocket,
    private readonly config: DatapathConfig,
  ) {
    const name = vxlanName(config.port);
    this.#maps = need("eBPF maps (CONFIG_BPF_SYSCALL)", () => {
      liftMemoryLimit();
      return createMaps();
    });
    const existing = linkByName(nl, name);
    this.created = !existing;
    if (this.created) {
      need(`a VXLAN link on UDP port ${config.port} (CONFIG_VXLAN, and the port free)`, () =>
        linkAdd(nl, { kind: "vxlan", name, port: config.port, mtu: config.mtu }),
      );
    }
    try {
      const link = linkByName(nl, name);
      if (!link?.vxlan?.external || link.vxlan.port !== config.port) {
        throw new DatapathError(
          `link ${name} is in the way: it is no external VXLAN link on UDP port ${config.port}`,
        );
      }
      this.#ifindex = link.index;
      this.attachPrograms(config.self);
      linkSet(nl, name, link.index, { mtu: config.mtu, up: true, master: config.bridge });
      // The programs know better than the bridge which hosts are behind this port, but the bridge learns which are not.
      bridgePortSet(nl, name, link.index, { hairpin: false });
    } catch (error) {
      if (this.created) linkDelete(nl, name);
      throw error;
    }
  }

  /** Puts programs for our short id in place, each atomically instead of the one before it. */
  attachPrograms(self: number): void {
    const name = vxlanName(this.config.port);
    const config = { self, ifindex: this.#ifindex };
    need("traffic control with eBPF (CONFIG_NET_CLS_BPF, CONFIG_NET_SCH_INGRESS)", () => {
      clsactEnsure(this.nl, name, this.#ifindex);
      for (const [direction, instructions] of [
        ["ingress", ingressProgram(this.#maps, config)],
        ["egress", egressProgram(this.#maps, config)],
      ] as const) {
        const program = loadProgram(`weave_${direction}`, instructions);
        try {
          bpfFilterReplace(this.nl, name, this.#ifindex, direction, program);
        } finally {
          program.close();
        }
      }
    });
  }

  /** Writes what differs from the table before. */
  apply(table: ForwardingTable): void {
    const { routes, hops, neighbours } = this.#maps;
    for (const address of table.neighbours) if (!this.#neighbours.has(address)) neighbours.set(address, 0n);
    for (const [id, address] of table.routes) if (this.#routes.get(id) !== address) routes.set(id, address);
    for (const id of this.#routes.keys()) if (!table.routes.has(id)) routes.set(id, 0);
    const written = new Map<number, string>();
    for (const [id, list] of table.hops) {
      const text = list.map((hop) => `${hop.shortId}@${hop.address}`).join();
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
    return this.#maps.heartbeats.get(shortId);
  }

  /** When the last frame came from a neighbour: CLOCK_MONOTONIC in ns, 0 for never. */
  lastFrame(neighbour: IPv4): bigint {
    return this.#maps.neighbours.get(neighbour) ?? 0n;
  }

  macs(): [string, MacEntry][] {
    return this.#maps.macs.entries();
  }

  /** Forgets MAC addresses that were not seen since `before` (CLOCK_MONOTONIC, ns), or that `gone` says so of. */
  forgetMacs(before: bigint, gone: (peer: number) => boolean = () => false): void {
    for (const [mac, entry] of this.macs()) {
      if (entry.seen < before || gone(entry.peer)) this.#maps.macs.delete(mac);
    }
  }
}
