// The kernel's part of the overlay: links, the programs on them that forward frames, and the maps they forward by.
import type { IPv4 } from "../../address/ipv4.ts";
import { liftMemoryLimit } from "../../bpf/bpf.ts";
import { programMapIds } from "../../bpf/program.ts";
import { silentSysctls } from "../../host/linksettings.ts";
import { type Keeper, keeper } from "../../host/reconcile/resource.ts";
import { Sysctls } from "../../host/reconcile/sysctls.ts";
import { linkByName } from "../../netlink/link.ts";
import type { NetlinkSocket } from "../../netlink/socket.ts";
import { bpfFilterList } from "../../netlink/trafficcontrol.ts";
import { type FlowMaps, flowFds } from "../flowcache/maps.ts";
import { fastdpPort } from "../ports.ts";
import type { OverlayTrouble } from "../trouble.ts";
import { Contents, type ForwardingTable } from "./contents.ts";
import { Hooks } from "./hooks.ts";
import {
  linkAddress,
  PortInUseError,
  removeFormerLinks,
  requireKernel,
  TapLink,
  tapName,
  VxlanLink,
  vxlanName,
} from "./links.ts";
import {
  adoptMaps,
  closeMaps,
  createMaps,
  type DatapathMaps,
  expectHeartbeats,
  type MacEntry,
  NEW_NEIGHBOUR,
  type NeighbourEntry,
  type ReceivedHeartbeat,
} from "./maps.ts";

export interface DatapathConfig {
  /** Name of our peer. */
  readonly name: string;
  /** TCP port of the mesh, and UDP port of sleeve; the fast datapath uses the UDP port above it. */
  readonly port: number;
  /** Return the MTU of the links, in bytes. */
  mtu(): number;
  /** Our short id. */
  readonly self: number;
  /** Use the fast datapath. */
  readonly fastdp: boolean;
  /** Maps of the flow cache. */
  readonly flow?: FlowMaps | undefined;
}

/** Reconcile a resource now and from now on; throws where it fails now, unless it is to be tried again. */
type Keep = (keeper: Keeper, trying?: boolean) => void;

export class Datapath {
  readonly maps: DatapathMaps;
  /** Called with why frames may be lost in the kernel's part; with undefined when it is repaired. */
  onTrouble: (reason: string | undefined) => void = () => {};
  /** Called when the table has changed. */
  onTable: () => void = () => {};
  readonly #vxlan: VxlanLink;
  readonly #tap: TapLink;
  readonly #hooks: Hooks;
  readonly #troubles = new Map<string, string>();
  /** The sleeve engine has let go of its files. */
  #unused = true;
  #mapsClosed = false;
  /** All resources are kept. */
  #complete = false;
  readonly #contents: Contents;

  /**
   * Set it up by `keep`. Throws DatapathError where the kernel lacks something, and leaves nothing behind.
   */
  constructor(
    private readonly nl: NetlinkSocket,
    config: DatapathConfig,
    keep: Keep,
  ) {
    const { name, port, mtu, self, fastdp, flow } = config;
    const trouble = (what: string) => (reason: string | undefined) => this.#trouble(what, reason);
    const udp = fastdpPort(port);
    this.#vxlan = new VxlanLink(nl, udp, mtu, linkAddress(name, vxlanName(udp)), fastdp, trouble("vxlan"));
    // While the VXLAN link cannot be restored, the TAP link is the bridge's port: frames go by sleeve.
    const isPort = () => this.#vxlan.without !== undefined || this.#troubles.has("vxlan");
    this.#tap = new TapLink(nl, port, mtu, linkAddress(name, tapName(port)), isPort, trouble("tap"));
    try {
      const adopted = requireKernel("eBPF maps (CONFIG_BPF_SYSCALL)", () => {
        liftMemoryLimit();
        return fastdp ? this.#adopt() : undefined;
      });
      this.maps = adopted ?? requireKernel("eBPF maps (CONFIG_BPF_SYSCALL)", createMaps);
      // Of connections of the router before us.
      for (const [uid] of this.maps.heartbeats.entries()) this.maps.heartbeats.delete(uid);
      this.#contents = new Contents(this.maps, adopted !== undefined);
      const links = () => ({ vxlan: isPort() ? undefined : this.#vxlan.link, tap: this.#tap.link });
      const flowMaps = flow && flowFds(flow);
      this.#hooks = new Hooks(nl, this.maps, links, self, flowMaps, trouble("programs"));
      this.#keepVxlan(keep);
      this.#vxlan.started();
      // Before the new link has programs and forwards anything.
      removeFormerLinks(nl, this.#vxlan.link);
      keep(keeper(this.#tap));
      // Not before: a link of that name that is in the way is somebody else's.
      const ours = () => [...(isPort() ? [] : [this.#vxlan.link]), this.#tap.link];
      keep(
        keeper(
          new Sysctls("overlay link settings", ["links", "netconf", "settings"], () =>
            ours().flatMap(silentSysctls),
          ),
        ),
      );
      keep(keeper(this.#hooks));
      keep(keeper(this.#contents));
      this.#complete = true;
    } catch (error) {
      this.remove();
      throw error;
    }
  }

  /** Keep the VXLAN link; one whose UDP port is taken is made once that is free, and frames go by sleeve until then. */
  #keepVxlan(keep: Keep): void {
    const vxlan = keeper(this.#vxlan);
    try {
      keep(vxlan);
    } catch (error) {
      if (!(error instanceof PortInUseError)) throw error;
      keep(vxlan, true);
    }
  }

  /** Return whether frames to other hosts go by sleeve alone now. */
  get onlySleeve(): boolean {
    return this.#tap.isPort();
  }

  /** Why there is no fast datapath, and will be none; undefined where there is one. */
  get withoutFastdp(): OverlayTrouble | undefined {
    return this.#vxlan.without;
  }

  /** Name of the bridge's port to other hosts. */
  get portName(): string {
    return this.#tap.isPort() ? this.#tap.link : this.#vxlan.link;
  }

  /** Names of the links that can be that port. */
  get linkNames(): readonly string[] {
    return [this.#vxlan.link, this.#tap.link];
  }

  get tap(): Pick<TapLink, "fd" | "link" | "recreated"> {
    return this.#tap;
  }

  /** Why frames may be lost in the kernel's part. */
  get trouble(): string | undefined {
    return this.#troubles.size === 0 ? undefined : [...this.#troubles.values()].join("; ");
  }

  /** The same, without the parts that only sleeve needs. */
  get fastdpTrouble(): string | undefined {
    const reasons = [...this.#troubles].flatMap(([what, reason]) => (what === "tap" ? [] : [reason]));
    return reasons.length === 0 ? undefined : reasons.join("; ");
  }

  /** Replace the programs by those for another short id, each atomically. */
  renumber(self: number): void {
    this.#hooks.self = self;
    keeper(this.#hooks).reconcile(() => true);
  }

  /** Remove what the constructor has made. */
  remove(): void {
    this.close();
    this.#vxlan.remove();
    this.closeMaps();
  }

  /**
   * Close our end; the VXLAN link and its programs stay, and go on forwarding. `unused` is false where the sleeve
   * engine has not released the TAP link: then its file stays open until the process ends.
   */
  close(unused = true): void {
    this.#hooks?.close();
    this.#tap.close(unused);
    this.#unused &&= unused;
  }

  /** Close our end of the maps, once no part reads or writes them; the programs in the kernel keep theirs. */
  closeMaps(): void {
    // There are none where the kernel has refused them.
    if (this.#unused && !this.#mapsClosed && this.maps) closeMaps(this.maps);
    this.#mapsClosed = true;
  }

  /** The table that the kernel forwards by: at the start that of the router before us. */
  get table(): ForwardingTable {
    return this.#contents.table;
  }

  /** Write the entries that differ from the table before, and tell of it where there are any. */
  apply(table: ForwardingTable): void {
    if (this.#contents.replace(table)) this.onTable();
  }

  /** Accept heartbeats of a connection, by its uid, from now on. */
  expectHeartbeats(uid: bigint): void {
    expectHeartbeats(this.maps, uid);
  }

  /** Accept none of it any more. */
  forgetHeartbeats(uid: bigint): void {
    if (!this.#mapsClosed) this.maps.heartbeats.delete(uid);
  }

  /** Return the last heartbeat of a connection; undefined before the first. */
  heartbeat(uid: bigint): ReceivedHeartbeat | undefined {
    const last = this.maps.heartbeats.get(uid);
    return last && last.at > 0n ? last : undefined;
  }

  /** Return the traffic with a neighbour. */
  neighbour(address: IPv4): NeighbourEntry {
    return this.maps.neighbours.get(address) ?? NEW_NEIGHBOUR;
  }

  macs(): [string, MacEntry][] {
    return this.maps.macs.entries();
  }

  /** Forget MAC addresses that were not seen since `before` (CLOCK_MONOTONIC, ns). */
  forgetMacs(before: bigint): void {
    for (const [mac, { seen }] of this.macs()) if (seen < before) this.maps.macs.delete(mac);
  }

  /** Move MAC addresses along to the new numbers of their peers; remove those of peers that are gone (undefined). */
  renumberMacs(changes: ReadonlyMap<number, number | undefined>): void {
    for (const [mac, { peer, seen }] of this.macs()) {
      if (!changes.has(peer)) continue;
      const now = changes.get(peer);
      if (now === undefined) this.maps.macs.delete(mac);
      else this.maps.macs.set(mac, { peer: now, seen });
    }
  }

  /** Open the maps of the router before us, which the kernel still forwards by. */
  #adopt(): DatapathMaps | undefined {
    const link = linkByName(this.nl, this.#vxlan.link);
    const ingress = link && bpfFilterList(this.nl, link.index, "ingress").find(({ ours }) => ours);
    return ingress && adoptMaps(programMapIds(ingress.id));
  }

  #trouble(what: string, reason: string | undefined): void {
    const before = this.trouble;
    const hadVxlan = !this.#troubles.has("vxlan");
    if (reason === undefined) this.#troubles.delete(what);
    else this.#troubles.set(what, reason);
    if (this.trouble !== before) this.onTrouble(this.trouble);
    if (hadVxlan === !this.#troubles.has("vxlan") || !this.#complete) return;
    for (const each of [keeper(this.#tap), keeper(this.#hooks)]) each.reconcile(() => true);
  }
}
