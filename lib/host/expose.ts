// Giving the host itself an address on the network: on the bridge, with the routes and the address translation that
// let containers and the world talk through it.
import { type AddressRange, type Cidr, formatCidr } from "../address/ipv4.ts";
import { addressAdd, addressDelete, addressList } from "../netlink/address.ts";
import type { NetlinkSocket } from "../netlink/socket.ts";
import { announce } from "./arp.ts";
import { requireBridge } from "./bridge.ts";
import { applyFirewall, type Exposed, type FirewallSettings, isFirewallThere } from "./firewall.ts";
import { acceptForwarded, droppingForwarded, isAccepted, type Variant } from "./forwarding.ts";
import { BRIDGE, TABLE } from "./names.ts";
import { sysctlSet } from "./sysctl.ts";

/** The exposed addresses of one host, kept in step with the bridge and the packet filter. */
export class Exposure {
  readonly #exposed = new Map<string, Exposed>();
  /** Kinds of iptables that would have dropped our packets and were told not to. */
  iptables: Variant[] = [];
  #local: readonly AddressRange[] = [];

  constructor(
    private readonly route: NetlinkSocket,
    private readonly filter: NetlinkSocket,
    /** TCP port of the control API, to be shut to other hosts. */
    private readonly controlPort: number | undefined,
  ) {}

  /** The exposed addresses. */
  get addresses(): Cidr[] {
    return Array.from(this.#exposed.values(), ({ cidr }) => cidr);
  }

  /** Takes up the addresses that the bridge has, and sets up the packet filter. */
  start(): void {
    const { index } = requireBridge(this.route);
    for (const { cidr } of addressList(this.route, index)) {
      this.#exposed.set(formatCidr(cidr), { cidr, masquerade: true });
    }
    this.#apply();
  }

  /** Gives the bridge, which was made anew, the addresses that it had. */
  restore(): void {
    const bridge = requireBridge(this.route);
    for (const { cidr } of this.#exposed.values()) addressAdd(this.route, BRIDGE, bridge.index, cidr);
    this.#apply();
    announce(this.route, bridge);
  }

  /** Exposes the host by an address; nothing is changed where that fails. */
  expose(cidr: Cidr, masquerade: boolean): void {
    const bridge = requireBridge(this.route);
    const key = formatCidr(cidr);
    const before = this.#exposed.get(key);
    const added = addressAdd(this.route, BRIDGE, bridge.index, cidr);
    this.#exposed.set(key, { cidr, masquerade });
    try {
      this.#apply();
    } catch (error) {
      if (before) this.#exposed.set(key, before);
      else this.#exposed.delete(key);
      if (added) addressDelete(this.route, BRIDGE, bridge.index, cidr);
      throw error;
    }
    announce(this.route, bridge);
  }

  /** Takes an address back; false where it was not exposed. */
  hide(cidr: Cidr): boolean {
    const bridge = requireBridge(this.route);
    const known = this.#exposed.delete(formatCidr(cidr));
    const removed = addressDelete(this.route, BRIDGE, bridge.index, cidr);
    this.#apply();
    return known || removed;
  }

  /** What comes from outside to these addresses, those of this host's containers, is to keep its source. */
  keepSourcesTo(local: readonly AddressRange[]): void {
    if (JSON.stringify(local) === JSON.stringify(this.#local)) return;
    this.#local = local;
    this.#apply();
  }

  /** Puts back what others flushed or dropped in the packet filter; returns what that was. */
  repairFilter(): string[] {
    const { filter } = this;
    const wrong = [
      ...(isFirewallThere(filter, this.#settings) ? [] : [`nftables table ${TABLE} was flushed or removed`]),
      ...(isAccepted(filter, droppingForwarded(filter)) ? [] : ["iptables dropped forwarded packets"]),
    ];
    if (wrong.length > 0) this.#apply();
    return wrong;
  }

  get #settings(): FirewallSettings {
    return { exposed: [...this.#exposed.values()], controlPort: this.controlPort, local: this.#local };
  }

  #apply(): void {
    const { exposed } = this.#settings;
    if (exposed.length > 0) sysctlSet("net/ipv4/ip_forward", "1");
    applyFirewall(this.filter, this.#settings);
    this.iptables = acceptForwarded(
      this.filter,
      exposed.map(({ cidr }) => cidr),
    );
  }
}
