// The links of the datapath and the programs on them: the TAP link of sleeve, the VXLAN link of the fast datapath where
// the kernel has VXLAN, and whichever of them is the bridge's port to other hosts. Set up at the start, and put right
// where others have removed or changed them.
import { closeSync } from "node:fs";
import { loadProgram } from "../../bpf/program.ts";
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
import { syscall } from "../../sys/syscall.ts";
import type { DatapathMaps } from "./maps.ts";
import { egressProgram, ingressProgram, tapProgram } from "./programs.ts";

const O_CLOEXEC = 0x80000;

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

/** Puts another open file under the number of `fd`, for all threads that have it, and lets go of the one before. */
function replaceFile(fd: number, by: number): void {
  try {
    syscall("replacing the TAP link's file", "dup3", by, fd, O_CLOEXEC);
  } finally {
    closeSync(by);
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

export class DatapathLinks {
  /** The engine's end of the TAP link; it goes when this is closed. */
  readonly tapFd: number;
  readonly maps: DatapathMaps;
  /** Why there is no fast datapath; undefined where there is one. */
  readonly withoutFastdp: string | undefined;
  #vxlan: number | undefined;
  #tap = 0;
  #self: number;
  #created = false;
  #closed = false;

  /** Sets it all up; throws DatapathError and leaves nothing behind where the kernel lacks something. */
  constructor(
    private readonly nl: NetlinkSocket,
    private readonly config: DatapathConfig,
    /** Makes the programs' maps, or takes over those that the kernel forwards by already. */
    maps: () => DatapathMaps,
  ) {
    this.#self = config.self;
    this.tapFd = need("TAP links (CONFIG_TUN)", () => exclusiveTap(tapName(config.port)));
    try {
      this.maps = need("eBPF maps (CONFIG_BPF_SYSCALL)", maps);
      this.#setUpTap();
      const vxlan = this.#vxlanLink();
      this.#vxlan = typeof vxlan === "number" ? vxlan : undefined;
      this.withoutFastdp = typeof vxlan === "number" ? undefined : vxlan;
      this.attachPrograms(config.self);
      this.#setUpPort(config.bridge);
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
    this.#self = self;
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

  /**
   * Puts back what others have removed or changed: links, programs, and that the port is up and one of the bridge's
   * (by its ifindex; undefined where there is none). Returns what was wrong; throws where it cannot be put back.
   */
  repair(bridge: number | undefined): string[] {
    const { port, mtu } = this.config;
    const wrong: string[] = [];
    if (linkByName(this.nl, tapName(port))?.index !== this.#tap) {
      wrong.push(`link ${tapName(port)} was removed`);
      replaceFile(this.tapFd, exclusiveTap(tapName(port)));
      this.#setUpTap();
    }
    if (this.#vxlan !== undefined && linkByName(this.nl, vxlanName(port + 1))?.index !== this.#vxlan) {
      wrong.push(`link ${vxlanName(port + 1)} was removed`);
      const vxlan = this.#vxlanLink();
      if (typeof vxlan === "string") throw new DatapathError(vxlan);
      this.#vxlan = vxlan;
    }
    if (wrong.length > 0 || !this.#programsAttached()) {
      if (wrong.length === 0) wrong.push("eBPF programs were removed");
      this.attachPrograms(this.#self);
    }
    for (const name of new Set([tapName(port), this.#port.name])) {
      const link = this.#linkNamed(name);
      const outside = name === this.#port.name && bridge !== undefined && link.master !== bridge;
      if (link.up && link.mtu === mtu && !outside) continue;
      if (wrong.length === 0)
        wrong.push(
          `link ${name} was ${!link.up ? "down" : outside ? "no port of the bridge" : `given MTU ${link.mtu}`}`,
        );
      if (name === tapName(port)) this.#setUpTap();
      if (name === this.#port.name) this.#setUpPort(bridge);
    }
    return wrong;
  }

  #setUpTap(): void {
    const name = tapName(this.config.port);
    this.#tap = this.#linkNamed(name).index;
    // Nothing speaks here but the engine.
    sysctlSet(`net/ipv6/conf/${name}/disable_ipv6`, "1");
    linkSet(this.nl, name, this.#tap, { mtu: this.config.mtu, queue: TAP_QUEUE, up: true });
  }

  #setUpPort(bridge: number | undefined): void {
    const { name, index } = this.#port;
    // A link that carries others' frames says nothing itself.
    sysctlSet(`net/ipv6/conf/${name}/disable_ipv6`, "1");
    const master = bridge === undefined ? {} : { master: bridge };
    linkSet(this.nl, name, index, { mtu: this.config.mtu, up: true, ...master });
    // The programs know better than the bridge which hosts are behind this port, but the bridge learns which are not.
    if (bridge !== undefined) bridgePortSet(this.nl, name, index, { hairpin: false });
  }

  #programsAttached(): boolean {
    const has = (index: number, direction: Direction) => bpfFilterList(this.nl, index, direction).length > 0;
    const port = this.#port.index;
    return (
      has(port, "egress") && has(this.#tap, "ingress") && (this.#vxlan === undefined || has(port, "ingress"))
    );
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

  get #noVxlan(): string {
    return `no VXLAN link on UDP port ${this.config.port + 1} (does the kernel have CONFIG_VXLAN? is the port free?)`;
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
    try {
      if (!existing) linkAdd(this.nl, { kind: "vxlan", name, port: port + 1, mtu });
    } catch (error) {
      return `${this.#noVxlan}: ${reasonOf(error)}`;
    }
    if (!existing) this.#created = true;
    const link = this.#linkNamed(name);
    if (!link.vxlan?.external || link.vxlan.port !== port + 1) {
      throw new DatapathError(
        `link ${name} is in the way: it is no external VXLAN link on UDP port ${port + 1}`,
      );
    }
    // The kernel takes the port only now.
    try {
      linkSet(this.nl, name, link.index, { up: true });
    } catch (error) {
      linkDelete(this.nl, name);
      this.#created = false;
      return `${this.#noVxlan}: ${reasonOf(error)}`;
    }
    return link.index;
  }
}
