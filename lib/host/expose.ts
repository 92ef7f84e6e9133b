// The addresses that give the host itself, and the world, a way into the network: a part of what is desired of the bridge and
// of the packet filter.
import { type AddressRange, type Cidr, formatCidr } from "../address/ipv4.ts";
import type { NetlinkSocket } from "../netlink/socket.ts";
import { bridgeAddresses, requireBridge } from "./bridge.ts";
import type { DesiredAddresses } from "./reconcile/addresses.ts";
import type { Reconciler } from "./reconcile/reconciler.ts";

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
  return bridgeAddresses(route).map((cidr) => ({ cidr, masquerade: true }));
}

/** The exposed addresses of this host, and how they change. */
export class Exposure {
  #exposed: readonly Exposed[] = [];
  #local: readonly AddressRange[] = [];
  /** Addresses that are being taken from the bridge. */
  #unwanted: readonly Cidr[] = [];

  constructor(
    private readonly route: NetlinkSocket,
    /** Makes the kernel as desired. */
    private readonly reconciler: Pick<Reconciler, "check" | "apply">,
  ) {}

  get exposed(): readonly Exposed[] {
    return this.#exposed;
  }

  get addresses(): Cidr[] {
    return this.#exposed.map(({ cidr }) => cidr);
  }

  /** What the bridge is to have. */
  get desired(): DesiredAddresses {
    return { wanted: this.addresses, unwanted: this.#unwanted };
  }

  /** Addresses of this host's containers: what comes from outside to them is to keep its source. */
  get local(): readonly AddressRange[] {
    return this.#local;
  }

  /** What is desired at the start, before anything is applied. */
  start(exposed: readonly Exposed[]): void {
    this.#exposed = exposed;
  }

  /** Exposes the host by an address; nothing is changed where that fails. */
  expose(cidr: Cidr, masquerade: boolean): void {
    this.#change(withExposed(this.#exposed, { cidr, masquerade }), []);
  }

  /** Takes an address back; false where it was not exposed. Nothing is changed where that fails. */
  hide(cidr: Cidr): boolean {
    const there = [...this.addresses, ...bridgeAddresses(this.route)].some((other) => isSame(other, cidr));
    this.#change(withoutExposed(this.#exposed, cidr), [cidr]);
    return there;
  }

  keepSourcesTo(local: readonly AddressRange[]): void {
    if (JSON.stringify(local) === JSON.stringify(this.#local)) return;
    this.reconciler.check();
    this.#local = local;
    this.reconciler.apply();
  }

  #change(exposed: readonly Exposed[], unwanted: readonly Cidr[]): void {
    requireBridge(this.route);
    this.reconciler.check();
    const before = this.#exposed;
    this.#exposed = exposed;
    this.#unwanted = unwanted;
    try {
      this.reconciler.apply();
    } catch (error) {
      this.#exposed = before;
      this.#unwanted = exposed
        .map(({ cidr }) => cidr)
        .filter((cidr) => !before.some((old) => isSame(old.cidr, cidr)));
      this.#applyAgain();
      throw error;
    } finally {
      this.#unwanted = [];
    }
  }

  /** What was refused is told; what of it was done is taken back as far as that goes, and tried again later. */
  #applyAgain(): void {
    try {
      this.reconciler.apply();
    } catch {}
  }
}
