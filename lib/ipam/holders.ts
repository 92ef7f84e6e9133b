// The holders of addresses on this host (weave: ipam/allocator.go, owned).
import { type AddressRange, formatIPv4, type IPv4, rangeContains } from "../address/ipv4.ts";
import { StoreError } from "../store/error.ts";
import type { AllocatorStore, Holder, Lease } from "./saved.ts";

/** The id for nobody in particular: the address itself is then the id of its holder. */
export const NO_CONTAINER = "_";

/** Return the id under which an address is held. */
export const holderId = (id: string, address: IPv4) => (id === NO_CONTAINER ? formatIPv4(address) : id);

const NOTHING: Holder = { isContainer: false, cidrs: [] };

/** Holders by id. A change is on disk before it takes effect; throws StoreError where it cannot be saved. */
export class Holders {
  readonly #holders = new Map<string, Holder>();
  readonly #byAddress = new Map<IPv4, string>();

  constructor(private readonly store: AllocatorStore) {}

  load(): void {
    for (const [id, owned] of this.store.loadHolders()) {
      // A transfer that was cut short has left an address with both holders.
      const cidrs = owned.cidrs.filter(({ address }) => !this.#byAddress.has(address));
      if (cidrs.length === owned.cidrs.length) this.#put(id, owned);
      else this.#change(id, { ...owned, cidrs });
    }
  }

  forgetAll(): void {
    this.store.forgetHolders();
    this.#holders.clear();
    this.#byAddress.clear();
  }

  entries(): IterableIterator<[string, Holder]> {
    return this.#holders.entries();
  }

  get(id: string): Holder {
    return this.#holders.get(id) ?? NOTHING;
  }

  /** Return the addresses of one holder in a range. */
  within(id: string, range: AddressRange): Lease[] {
    return this.get(id).cidrs.filter((cidr) => rangeContains(range, cidr.address));
  }

  holderOf(address: IPv4): string | undefined {
    return this.#byAddress.get(address);
  }

  add(id: string, lease: Lease, isContainer: boolean): void {
    this.#change(id, { isContainer, cidrs: [...this.get(id).cidrs, lease] });
  }

  /** Record the attachment that an address is for. */
  attribute(id: string, address: IPv4, attachment: string): void {
    const { isContainer, cidrs } = this.get(id);
    const attributed = cidrs.map((lease) => (lease.address === address ? { ...lease, attachment } : lease));
    this.#change(id, { isContainer, cidrs: attributed });
  }

  /** Let another container hold an address, for this attachment; false if it has no holder. */
  transfer(address: IPv4, to: string, attachment: string | undefined): boolean {
    const from = this.holderOf(address);
    const lease =
      from === undefined ? undefined : this.get(from).cidrs.find((held) => held.address === address);
    if (from === undefined || !lease) return false;
    if (from === to) {
      if (attachment !== undefined && lease.attachment !== attachment)
        this.attribute(to, address, attachment);
      return true;
    }
    this.add(to, { ...lease, attachment }, true);
    const { isContainer, cidrs } = this.get(from);
    const left = { isContainer, cidrs: cidrs.filter((held) => held.address !== address) };
    try {
      this.#change(from, left);
    } catch (error) {
      // On disk both have it: load() knows.
      if (!(error instanceof StoreError)) throw error;
      if (left.cidrs.length > 0) this.#holders.set(from, left);
      else this.#holders.delete(from);
    }
    this.#byAddress.set(address, to);
    return true;
  }

  /** Remove addresses of a holder, all or none. */
  remove(id: string, addresses: readonly IPv4[]): void {
    const { isContainer, cidrs } = this.get(id);
    const left = cidrs.filter(({ address }) => !addresses.includes(address));
    if (left.length < cidrs.length) this.#change(id, { isContainer, cidrs: left });
  }

  #change(id: string, owned: Holder): void {
    const left = owned.cidrs.length > 0;
    this.store.saveHolder(id, left ? owned : undefined);
    for (const { address } of this.get(id).cidrs) this.#byAddress.delete(address);
    if (left) this.#put(id, owned);
    else this.#holders.delete(id);
  }

  #put(id: string, owned: Holder): void {
    this.#holders.set(id, owned);
    for (const { address } of owned.cidrs) this.#byAddress.set(address, id);
  }
}
