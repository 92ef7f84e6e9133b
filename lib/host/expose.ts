// Exposed addresses: addresses of the bridge by which the host itself, and others through it, reach the network.
import { type AddressRange, type Cidr, formatCidr } from "../address/ipv4.ts";
import type { NetlinkSocket } from "../netlink/socket.ts";
import { bridgeAddresses, requireBridge } from "./bridge.ts";
import type { DesiredAddresses } from "./reconcile/addresses.ts";
import type { Reconciler } from "./reconcile/reconciler.ts";

/** An address of the bridge; with `masquerade`, packets that enter or leave the network by it get the host's address. */
export interface Exposed {
  readonly cidr: Cidr;
  readonly masquerade: boolean;
}

const isSame = (one: Cidr, other: Cidr) => formatCidr(one) === formatCidr(other);

/** Return the list with one more, in place of one of the same address and prefix. */
export function withExposed(list: readonly Exposed[], exposed: Exposed): readonly Exposed[] {
  const at = list.findIndex(({ cidr }) => isSame(cidr, exposed.cidr));
  return at < 0 ? [...list, exposed] : list.with(at, exposed);
}

export function withoutExposed(list: readonly Exposed[], hidden: Cidr): readonly Exposed[] {
  return list.filter(({ cidr }) => !isSame(cidr, hidden));
}

/** Return the exposures of a bridge of which nothing is saved. */
export function exposedByBridge(route: NetlinkSocket): Exposed[] {
  return bridgeAddresses(route).map((cidr) => ({ cidr, masquerade: true }));
}

/** The exposed addresses of this host. */
export class Exposure {
  #exposed: readonly Exposed[] = [];
  #local: readonly AddressRange[];
  /** Addresses that are being removed from the bridge. */
  #unwanted: readonly Cidr[] = [];

  constructor(
    private readonly route: NetlinkSocket,
    private readonly reconciler: Pick<Reconciler, "check" | "apply">,
    /** Local ranges to begin with. */
    local: readonly AddressRange[] = [],
  ) {
    this.#local = local;
  }

  get exposed(): readonly Exposed[] {
    return this.#exposed;
  }

  get addresses(): Cidr[] {
    return this.#exposed.map(({ cidr }) => cidr);
  }

  /** The desired addresses of the bridge. */
  get desired(): DesiredAddresses {
    return { wanted: this.addresses, unwanted: this.#unwanted };
  }

  /** Ranges of this host's containers: packets to them from outside keep their source address. */
  get local(): readonly AddressRange[] {
    return this.#local;
  }

  /** Set the exposures to begin with, before anything is applied. */
  start(exposed: readonly Exposed[]): void {
    this.#exposed = exposed;
  }

  /**
   * Expose the host by an address; changes nothing where that fails. Many containers that are the first to need it ask at
   * once: one of them has it done.
   */
  expose(cidr: Cidr, masquerade: boolean): void {
    if (this.#has({ cidr, masquerade })) return;
    this.#change(withExposed(this.#exposed, { cidr, masquerade }), []);
  }

  /** Hide an address; false where it was not exposed. Changes nothing where that fails. */
  hide(cidr: Cidr): boolean {
    const there = [...this.addresses, ...bridgeAddresses(this.route)].some((other) => isSame(other, cidr));
    this.#change(withoutExposed(this.#exposed, cidr), [cidr]);
    return there;
  }

  setLocalRanges(local: readonly AddressRange[]): void {
    if (JSON.stringify(local) === JSON.stringify(this.#local)) return;
    this.reconciler.check();
    this.#local = local;
    this.reconciler.apply();
  }

  #has({ cidr, masquerade }: Exposed): boolean {
    const known = this.#exposed.some((other) => isSame(other.cidr, cidr) && other.masquerade === masquerade);
    return known && bridgeAddresses(this.route).some((other) => isSame(other, cidr));
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

  /** Undo what was applied of a refused change; what fails is tried again later. */
  #applyAgain(): void {
    try {
      this.reconciler.apply();
    } catch {}
  }
}
