// The addresses that we own, free and in use: sorted, disjoint ranges (weave: ipam/space).

import { type AddressRange, formatIPv4, type IPv4, rangeContains, rangeSize } from "../address/ipv4.ts";
import { RangeSet } from "./rangeset.ts";

const single = (address: IPv4): AddressRange => ({ start: address, end: address + 1 });

export class Space {
  readonly #used = new RangeSet();
  readonly #free = new RangeSet();
  /** Released addresses, the oldest first: reused last. */
  readonly #released = new Set<IPv4>();
  /** The last owned ranges as a set, cached: peers can split the ring into thousands. */
  #owned: { readonly of: readonly AddressRange[]; readonly set: RangeSet } | undefined;

  /** Take an address of a range and not of `except` into use: one that never was, else the one released first. */
  allocate(range: AddressRange, except: readonly AddressRange[] = []): IPv4 | undefined {
    const available = this.#available(range, except);
    for (const free of available) {
      for (let address = free.start; address < free.end; address++) {
        if (!this.#released.has(address)) return this.#use(address);
      }
    }
    for (const address of this.#released) {
      if (available.some((free) => rangeContains(free, address))) return this.#use(address);
    }
    return undefined;
  }

  #available(range: AddressRange, except: readonly AddressRange[]): AddressRange[] {
    if (except.length === 0) return this.#free.within(range);
    return RangeSet.of(this.#free.within(range)).except(RangeSet.of(except));
  }

  /** Take this address into use; returns false where it is not ours or not free. */
  claim(address: IPv4): boolean {
    if (!this.#free.contains(address)) return false;
    this.#use(address);
    return true;
  }

  /** Release an address; returns false where it was not in use. */
  release(address: IPv4): boolean {
    if (!this.unuse(address)) return false;
    this.#released.add(address);
    return true;
  }

  /** Undo that an address was taken into use; returns false where it was not. */
  unuse(address: IPv4): boolean {
    if (!this.#used.contains(address)) return false;
    this.#used.remove(single(address));
    this.#free.add(single(address));
    return true;
  }

  #use(address: IPv4): IPv4 {
    this.#released.delete(address);
    this.#free.remove(single(address));
    this.#used.add(single(address));
    return address;
  }

  get usedCount(): number {
    return this.#used.size();
  }

  /** Free addresses that were in use before: reused last. */
  get releasedCount(): number {
    return this.#released.size;
  }

  freeCount(range?: AddressRange): number {
    return this.#free.size(range);
  }

  /** Return whether allocate() would find an address. */
  canAllocate(range: AddressRange, except: readonly AddressRange[]): boolean {
    return this.#available(range, except).length > 0;
  }

  /**
   * Give away part of what is free in a range and not of `except`: a run that fits a prefix, at most half of it (rounded
   * up) and at most `most` addresses. Returns undefined where nothing is free.
   */
  donate(
    range: AddressRange,
    except: readonly AddressRange[] = [],
    most = Number.POSITIVE_INFINITY,
  ): AddressRange | undefined {
    let biggest: AddressRange | undefined;
    for (const free of this.#available(range, except)) {
      const aligned = biggestAligned(free);
      if (!biggest || rangeSize(aligned) >= rangeSize(biggest)) biggest = aligned;
    }
    if (!biggest) return undefined;
    if (rangeSize(biggest) > Math.floor(this.freeCount(range) / 2)) {
      biggest = { start: biggest.start + Math.floor(rangeSize(biggest) / 2), end: biggest.end };
    }
    while (rangeSize(biggest) > most && rangeSize(biggest) > 1) {
      biggest = { start: biggest.start + Math.floor(rangeSize(biggest) / 2), end: biggest.end };
    }
    this.#free.remove(biggest);
    for (const address of this.#released) if (rangeContains(biggest, address)) this.#released.delete(address);
    return biggest;
  }

  /** Set the ranges that we own; new ones are free. Throws where addresses in use are not among them. */
  update(owned: readonly AddressRange[]): void {
    const outside = this.#usedOutside(owned);
    if (outside) throw new Error(`addresses in use at ${formatIPv4(outside.start)} are no longer ours`);
    this.#free.ranges = this.#setOf(owned).except(this.#used);
  }

  /** Return whether all addresses in use are in these ranges. */
  isUsedWithin(owned: readonly AddressRange[]): boolean {
    return this.#usedOutside(owned) === undefined;
  }

  #usedOutside(owned: readonly AddressRange[]): AddressRange | undefined {
    const ours = this.#setOf(owned);
    return this.#used.ranges.find((used) => ours.size(used) !== rangeSize(used));
  }

  #setOf(owned: readonly AddressRange[]): RangeSet {
    if (this.#owned?.of !== owned) this.#owned = { of: owned, set: RangeSet.of(owned) };
    return this.#owned.set;
  }

  clear(): void {
    this.#used.ranges = [];
    this.#free.ranges = [];
    this.#released.clear();
  }
}

/** Return the biggest run in a range that is a power of two long and starts at a multiple of its length. */
export function biggestAligned({ start, end }: AddressRange): AddressRange {
  for (let size = 2 ** Math.floor(Math.log2(end - start)); size >= 1; size /= 2) {
    const aligned = Math.ceil(start / size) * size;
    if (aligned + size <= end) return { start: aligned, end: aligned + size };
  }
  return { start, end: start };
}
