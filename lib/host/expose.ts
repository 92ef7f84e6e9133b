// The addresses that give the host itself, and the world, a way into the network: a part of what is desired of the bridge and
// of the packet filter.
import { type AddressRange, type Cidr, formatCidr } from "../address/ipv4.ts";
import { addressAdd, addressDelete, addressList } from "../netlink/address.ts";
import type { NetlinkSocket } from "../netlink/socket.ts";
import { announce } from "./arp.ts";
import { requireBridge } from "./bridge.ts";
import { BRIDGE } from "./names.ts";

/** An address of the bridge; `masquerade` where what enters or leaves the network by it takes the host's address. */
export interface Exposed {
  readonly cidr: Cidr;
  readonly masquerade: boolean;
}

const isSame = (one: Cidr, other: Cidr) => formatCidr(one) === formatCidr(other);

/** With one more; it takes the place of one of the same address and prefix. */
export function withExposed(list: readonly Exposed[], exposed: Exposed): readonly Exposed[] {
  const at = list.findIndex(({ cidr }) => isSame(cidr, exposed.cidr));
  return at < 0 ? [...list, exposed] : list.with(at, exposed);
}

export function withoutExposed(list: readonly Exposed[], hidden: Cidr): readonly Exposed[] {
  return list.filter(({ cidr }) => !isSame(cidr, hidden));
}

/** What the bridge is exposed by, where nothing else is known of it. */
export function exposedByBridge(route: NetlinkSocket): Exposed[] {
  return addressList(route, requireBridge(route).index).map(({ cidr }) => ({ cidr, masquerade: true }));
}

/** The exposed addresses of this host, and how they change. */
export class Exposure {
  #exposed: readonly Exposed[] = [];
  #local: readonly AddressRange[] = [];

  constructor(
    private readonly route: NetlinkSocket,
    /** Makes the kernel as desired; throws where it refuses. */
    private readonly apply: () => void,
  ) {}

  get exposed(): readonly Exposed[] {
    return this.#exposed;
  }

  get addresses(): Cidr[] {
    return this.#exposed.map(({ cidr }) => cidr);
  }

  /** Addresses of this host's containers: what comes from outside to them is to keep its source. */
  get local(): readonly AddressRange[] {
    return this.#local;
  }

  /** Puts these in force. */
  start(exposed: readonly Exposed[]): void {
    this.#exposed = exposed;
    this.restore();
  }

  /** Gives the bridge, which was made anew, the addresses that it had. */
  restore(): void {
    const bridge = requireBridge(this.route);
    for (const { cidr } of this.#exposed) addressAdd(this.route, BRIDGE, bridge.index, cidr);
    this.apply();
    announce(this.route, bridge);
  }

  /** Exposes the host by an address; nothing is changed where that fails. */
  expose(cidr: Cidr, masquerade: boolean): void {
    const bridge = requireBridge(this.route);
    const added = addressAdd(this.route, BRIDGE, bridge.index, cidr);
    try {
      this.#change(withExposed(this.#exposed, { cidr, masquerade }));
    } catch (error) {
      if (added) addressDelete(this.route, BRIDGE, bridge.index, cidr);
      throw error;
    }
    announce(this.route, bridge);
  }

  /** Takes an address back; false where it was not exposed. Nothing is changed where that fails. */
  hide(cidr: Cidr): boolean {
    const known = this.#exposed.some((exposed) => isSame(exposed.cidr, cidr));
    if (known) this.#change(withoutExposed(this.#exposed, cidr));
    return addressDelete(this.route, BRIDGE, requireBridge(this.route).index, cidr) || known;
  }

  keepSourcesTo(local: readonly AddressRange[]): void {
    if (JSON.stringify(local) === JSON.stringify(this.#local)) return;
    this.#local = local;
    this.apply();
  }

  #change(exposed: readonly Exposed[]): void {
    const before = this.#exposed;
    this.#exposed = exposed;
    try {
      this.apply();
    } catch (error) {
      this.#exposed = before;
      this.#applyAgain();
      throw error;
    }
  }

  /** What was refused is told; what of it was done is taken back as far as that goes, and tried again later. */
  #applyAgain(): void {
    try {
      this.apply();
    } catch {}
  }
}
