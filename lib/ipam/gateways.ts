// Addresses that configurations name as gateways: allocated to no container, free for the host that exposes them.
import type { AddressRange, IPv4 } from "../address/ipv4.ts";
import type { AllocatorStore } from "./saved.ts";

/** The oldest are forgotten first. */
const MAX_GATEWAYS = 64;

export class Gateways {
  #addresses: readonly IPv4[] = [];

  constructor(private readonly store: AllocatorStore) {}

  load(): void {
    this.#addresses = this.store.loadGateways().slice(-MAX_GATEWAYS);
  }

  /** Reserve an address, on disk; throws StoreError. */
  reserve(address: IPv4): void {
    if (this.#addresses.includes(address)) return;
    const addresses = [...this.#addresses, address].slice(-MAX_GATEWAYS);
    this.store.saveGateways(addresses);
    this.#addresses = addresses;
  }

  /** Let an address be allocated again, on disk; throws StoreError. */
  unreserve(address: IPv4): void {
    if (!this.#addresses.includes(address)) return;
    const addresses = this.#addresses.filter((each) => each !== address);
    this.store.saveGateways(addresses);
    this.#addresses = addresses;
  }

  get ranges(): AddressRange[] {
    return this.#addresses.map((address) => ({ start: address, end: address + 1 }));
  }
}
