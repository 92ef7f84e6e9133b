// Guards the port of a container from the moment of attaching, in whichever process attaches it: the router has loaded the
// program and attached it to the bridge as well, where other processes find it with its maps.
import { closeSync, openSync } from "node:fs";
import type { Ip } from "../../address/ip.ts";
import type { Program } from "../../bpf/program.ts";
import type { NetlinkSocket } from "../../netlink/socket.ts";
import { inNetns, OWN_NETNS } from "../../sys/netns.ts";
import { addAddresses, bindPort, type PortIdentity, removeAddresses } from "./binding.ts";
import { findProgram, type HookLink, type How, hook } from "./hook.ts";
import { closePortMaps, mapsOf, type PortMaps } from "./maps.ts";

/** The program that was found last, still open: to open it takes longer than to look whether it is still the one. */
let opened: { readonly program: Program; readonly maps: PortMaps } | undefined;

/** The port program of this host, opened by a thread in its network namespace. */
export class PortGuard {
  readonly #home: number | undefined;

  private constructor(
    private readonly nl: NetlinkSocket,
    /** How the program is attached to the bridge. */
    private readonly how: How,
    private readonly program: Program,
    private readonly maps: PortMaps,
  ) {
    if (how === "tcx") this.#home = openSync(OWN_NETNS, "r");
  }

  /** Find the program by the bridge; undefined where no router has loaded one. */
  static find(nl: NetlinkSocket, bridge: HookLink): PortGuard | undefined {
    const found = findProgram(nl, bridge, "egress", opened?.program);
    if (!found) return undefined;
    if (found.program !== opened?.program) {
      const maps = mapsOf(found.program);
      if (!maps) {
        found.program.close();
        return undefined;
      }
      opened?.program.close();
      if (opened) closePortMaps(opened.maps);
      opened = { program: found.program, maps };
    }
    return new PortGuard(nl, found.how, opened.program, opened.maps);
  }

  /** Attach the program to a new port, whatever namespace this thread is in now. */
  attach(port: HookLink): void {
    // By netlink, the socket's namespace counts; by bpf(2), that of this thread.
    const attach = () => hook(this.how, this.nl, port, "ingress", this.program);
    if (this.#home === undefined) attach();
    else inNetns(`/proc/self/fd/${this.#home}`, attach);
  }

  bind(port: number, identity: PortIdentity): void {
    bindPort(this.maps, port, identity);
  }

  addAddresses(port: number, addresses: readonly Ip[]): void {
    addAddresses(this.maps, port, addresses);
  }

  removeAddresses(port: number, addresses: readonly Ip[]): void {
    removeAddresses(this.maps, port, addresses);
  }

  [Symbol.dispose](): void {
    if (this.#home !== undefined) closeSync(this.#home);
  }
}
