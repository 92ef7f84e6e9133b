// The kernel's part of the overlay: the bridge's port to other hosts, the TAP link of sleeve, and the programs and maps
// that move frames between them. Where the kernel has VXLAN, the port is a VXLAN link (the fast datapath) and the TAP
// link stands aside; where not, the TAP link is the port.

import { closeSync } from "node:fs";
import type { IPv4 } from "../../address/ipv4.ts";
import { liftMemoryLimit } from "../../bpf/bpf.ts";
import { loadProgram, programMapIds } from "../../bpf/program.ts";
import { sysctlSet } from "../../host/sysctl.ts";
import { bridgePortSet, type Link, linkAdd, linkByName, linkDelete, linkSet } from "../../netlink/link.ts";
import type { NetlinkSocket } from "../../netlink/socket.ts";
import { openTap } from "../../netlink/tap.ts";
import {
  bpfFilterList,
  bpfFilterReplace,
  clsactEnsure,
  type Direction,
} from "../../netlink/trafficcontrol.ts";
import { EBUSY, isErrno } from "../../sys/errno.ts";
import { reasonOf } from "../../sys/reason.ts";
import {
  adoptMaps,
  createMaps,
  type DatapathMaps,
  type Hops,
  type MacEntry,
  type ReceivedHeartbeat,
} from "./maps.ts";
import { egressProgram, ingressProgram, tapProgram } from "./programs.ts";

/** Frames that wait for the sleeve engine; more would only wait longer. */
const TAP_QUEUE = 256;

/** The kernel lacks something that the datapath needs; the message names it. */
export class DatapathError extends Error {
  override readonly name = "DatapathError";
}

export function vxlanName(port: number): string {
  return `vxlan-${port}`;
}

export function tapName(port: number): string {
  return `sleeve-${port}`;
}

export interface DatapathConfig {
  /** ifindex of the bridge. */
  readonly bridge: number;
  /** Port of the mesh, and UDP port of sleeve; the fast datapath has the UDP port above. */
  readonly port: number;
  readonly mtu: number;
  /** Our short id. */
  readonly self: number;
  /** Whether to have a VXLAN link. */
  readonly fastdp: boolean;
}

/** The TAP link; there is one owner of it at a time. */
function exclusiveTap(name: string): number {
  try {
    return openTap(name, true);
  } catch (error) {
    if (isErrno(error, EBUSY)) throw new DatapathError(`link ${name} is in use: is weave running already?`);
    throw error;
  }
}

function need<T>(what: string, fn: () => T): T {
  try {
    return fn();
  } catch (error) {
    if (error instanceof DatapathError) throw error;
    throw new DatapathError(`the overlay needs ${what}, which this kernel refuses: ${reasonOf(error)}`);
  }
}

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
  /** The engine's end of the TAP link; it goes when this is closed. */
  readonly tapFd: number;
  /** Why there is no fast datapath; undefined where there is one. */
  readonly withoutFastdp: string | undefined;
  readonly #vxlan: number | undefined;
  readonly #tap: number;
  #routes = new Map<number, IPv4>();
  #hops = new Map<number, string>();
  #neighbours = new Set<IPv4>();
  #created = false;
  #closed = false;

  /** Sets it all up; throws DatapathError and leaves nothing behind where the kernel lacks something. */
  constructor(
    private readonly nl: NetlinkSocket,
    private readonly config: DatapathConfig,
  ) {
    const tap = tapName(config.port);
    this.tapFd = need("TAP links (CONFIG_TUN)", () => exclusiveTap(tap));
    this.maps = need("eBPF maps (CONFIG_BPF_SYSCALL)", () => {
      liftMemoryLimit();
      return this.#adopt() ?? createMaps();
    });
    try {
      this.#tap = this.#linkNamed(tap).index;
      // Nothing speaks here but the engine.
      sysctlSet(`net/ipv6/conf/${tap}/disable_ipv6`, "1");
      linkSet(nl, tap, this.#tap, { mtu: config.mtu, queue: TAP_QUEUE, up: true });
      const vxlan = this.#vxlanLink();
      this.#vxlan = typeof vxlan === "number" ? vxlan : undefined;
      this.withoutFastdp = typeof vxlan === "number" ? undefined : vxlan;
      this.attachPrograms(config.self);
      const port = this.#port;
      // A link that carries others' frames says nothing itself.
      sysctlSet(`net/ipv6/conf/${port.name}/disable_ipv6`, "1");
      linkSet(nl, port.name, port.index, { mtu: config.mtu, up: true, master: config.bridge });
      // The programs know better than the bridge which hosts are behind this port, but the bridge learns which are not.
      bridgePortSet(nl, port.name, port.index, { hairpin: false });
    } catch (error) {
      this.remove();
      throw error;
    }
  }

  /** Name of the port of the bridge that other hosts are behind. */
  get portName(): string {
    return this.#port.name;
  }

  /** Takes away what was not there before. */
  remove(): void {
    this.close();
    if (this.#created) linkDelete(this.nl, vxlanName(this.config.port + 1));
  }

  /**
   * Closes our end; the VXLAN link and its programs stay, and go on forwarding. `unused` is false where the sleeve
   * engine has not let go of the TAP link: then it is left to the end of the process.
   */
  close(unused = true): void {
    if (this.#closed) return;
    this.#closed = true;
    if (unused) closeSync(this.tapFd);
  }

  /** Puts programs for our short id in place, each atomically instead of the one before it. */
  attachPrograms(self: number): void {
    const port = this.#port;
    const config = { self, port: port.index, tap: this.#tap };
    const tap = tapName(this.config.port);
    need("traffic control with eBPF (CONFIG_NET_CLS_BPF, CONFIG_NET_SCH_INGRESS)", () => {
      if (this.#vxlan !== undefined) {
        this.#attach(port.name, port.index, "ingress", "weave_ingress", ingressProgram(this.maps, config));
      }
      this.#attach(port.name, port.index, "egress", "weave_egress", egressProgram(this.maps, config));
      this.#attach(tap, this.#tap, "ingress", "weave_tap", tapProgram(this.maps, config));
    });
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

  get #port(): { name: string; index: number } {
    const { port } = this.config;
    return this.#vxlan === undefined
      ? { name: tapName(port), index: this.#tap }
      : { name: vxlanName(port + 1), index: this.#vxlan };
  }

  #linkNamed(name: string): Link {
    const link = linkByName(this.nl, name);
    if (!link) throw new DatapathError(`link ${name} is gone`);
    return link;
  }

  #attach(
    name: string,
    index: number,
    direction: Direction,
    program: string,
    instructions: Uint8Array,
  ): void {
    clsactEnsure(this.nl, name, index);
    const loaded = loadProgram(program, instructions);
    try {
      bpfFilterReplace(this.nl, name, index, direction, loaded);
    } finally {
      loaded.close();
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

  /** ifindex of the VXLAN link, or why there is none. */
  #vxlanLink(): number | string {
    const { port, mtu, fastdp } = this.config;
    const name = vxlanName(port + 1);
    const existing = linkByName(this.nl, name);
    if (!fastdp) {
      if (existing) linkDelete(this.nl, name);
      return "switched off (--no-fastdp)";
    }
    if (!existing) {
      try {
        linkAdd(this.nl, { kind: "vxlan", name, port: port + 1, mtu });
      } catch (error) {
        return `no VXLAN link on UDP port ${port + 1} (does the kernel have CONFIG_VXLAN? is the port free?): ${reasonOf(error)}`;
      }
      this.#created = true;
    }
    const link = this.#linkNamed(name);
    if (!link.vxlan?.external || link.vxlan.port !== port + 1) {
      throw new DatapathError(
        `link ${name} is in the way: it is no external VXLAN link on UDP port ${port + 1}`,
      );
    }
    return link.index;
  }
}
