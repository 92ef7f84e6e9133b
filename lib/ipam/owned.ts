// Who holds which addresses on this host.
import { type AddressRange, type Cidr, type IPv4, rangeContains } from "../address/ipv4.ts";
import type { AllocatorStore, Owned } from "./saved.ts";

/** Holders by their id; every change is saved before the method returns. */
export class OwnedAddresses {
  #holders: Map<string, Owned>;

  constructor(private readonly store: AllocatorStore) {
    this.#holders = new Map();
  }

  load(): void {
    this.#holders = this.store.loadOwned();
  }

  forgetAll(): void {
    this.#holders = new Map();
    this.store.saveOwned(this.#holders);
  }

  entries(): IterableIterator<[string, Owned]> {
    return this.#holders.entries();
  }

  /** Addresses of one holder that lie in a range. */
  within(id: string, range: AddressRange): Cidr[] {
    return (this.#holders.get(id)?.cidrs ?? []).filter((cidr) => rangeContains(range, cidr.address));
  }

  holderOf(address: IPv4): string | undefined {
    for (const [id, { cidrs }] of this.#holders) {
      if (cidrs.some((cidr) => cidr.address === address)) return id;
    }
    return undefined;
  }

  add(id: string, cidr: Cidr, isContainer: boolean): void {
    const cidrs = this.#holders.get(id)?.cidrs ?? [];
    this.#holders.set(id, { isContainer, cidrs: [...cidrs, cidr] });
    this.store.saveOwned(this.#holders);
  }

  /** Takes one address from its holder; false when it did not hold it. */
  remove(id: string, address: IPv4): boolean {
    const holder = this.#holders.get(id);
    const left = holder?.cidrs.filter((cidr) => cidr.address !== address);
    if (!holder || !left || left.length === holder.cidrs.length) return false;
    if (left.length === 0) this.#holders.delete(id);
    else this.#holders.set(id, { ...holder, cidrs: left });
    this.store.saveOwned(this.#holders);
    return true;
  }

  /** Takes all addresses from a holder and returns them. */
  removeAll(id: string): Cidr[] {
    const cidrs = this.#holders.get(id)?.cidrs ?? [];
    if (this.#holders.delete(id)) this.store.saveOwned(this.#holders);
    return cidrs;
  }
}
