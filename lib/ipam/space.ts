// Which of the addresses that we own are free, and which are in use: sorted, disjoint ranges (weave: ipam/space).
import { type AddressRange, formatIPv4, type IPv4, rangeContains, rangeSize } from "../address/ipv4.ts";

/** A set of addresses as disjoint ranges in order. */
class RangeSet {
  ranges: AddressRange[] = [];

  contains(address: IPv4): boolean {
    return this.ranges.some((range) => rangeContains(range, address));
  }

  size(within?: AddressRange): number {
    return this.within(within).reduce((sum, range) => sum + rangeSize(range), 0);
  }

  /** The parts that lie in a range. */
  within(bounds: AddressRange | undefined): AddressRange[] {
    if (!bounds) return this.ranges;
    const parts: AddressRange[] = [];
    for (let i = this.#firstEndingAfter(bounds.start); ; i++) {
      const range = this.ranges[i];
      if (!range || range.start >= bounds.end) return parts;
      const [start, end] = [Math.max(range.start, bounds.start), Math.min(range.end, bounds.end)];
      if (start < end) parts.push({ start, end });
    }
  }

  #firstEndingAfter(address: IPv4): number {
    let low = 0;
    let high = this.ranges.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((this.ranges[middle]?.end ?? 0) > address) high = middle;
      else low = middle + 1;
    }
    return low;
  }

  add(added: AddressRange): void {
    if (rangeSize(added) <= 0) return;
    let { start, end } = added;
    const apart = this.ranges.filter((range) => {
      if (range.end < start || range.start > end) return true;
      start = Math.min(start, range.start);
      end = Math.max(end, range.end);
      return false;
    });
    this.ranges = [...apart, { start, end }].sort((a, b) => a.start - b.start);
  }

  remove(removed: AddressRange): void {
    this.ranges = this.ranges.flatMap((range) =>
      [
        { start: range.start, end: Math.min(range.end, removed.start) },
        { start: Math.max(range.start, removed.end), end: range.end },
      ].filter((part) => part.start < part.end),
    );
  }
}

const single = (address: IPv4): AddressRange => ({ start: address, end: address + 1 });

export class Space {
  readonly #used = new RangeSet();
  readonly #free = new RangeSet();
  /** Addresses that were given back, oldest first: they rest as long as there are others. */
  readonly #resting = new Set<IPv4>();

  /**
   * Takes an address of the range into use, none of `except`: one that never was, else the one that has rested
   * longest.
   */
  allocate(range: AddressRange, except: readonly AddressRange[] = []): IPv4 | undefined {
    const available = this.#available(range, except);
    for (const free of available) {
      for (let address = free.start; address < free.end; address++) {
        if (!this.#resting.has(address)) return this.#use(address);
      }
    }
    for (const address of this.#resting) {
      if (available.some((free) => rangeContains(free, address))) return this.#use(address);
    }
    return undefined;
  }

  #available(range: AddressRange, except: readonly AddressRange[]): AddressRange[] {
    if (except.length === 0) return this.#free.within(range);
    const free = new RangeSet();
    free.ranges = this.#free.within(range);
    for (const excepted of except) free.remove(excepted);
    return free.ranges;
  }

  /** Takes this very address into use; false when it is not ours or not free. */
  claim(address: IPv4): boolean {
    if (!this.#free.contains(address)) return false;
    this.#use(address);
    return true;
  }

  /** Gives an address back, to rest; false when it was not in use. */
  release(address: IPv4): boolean {
    if (!this.unuse(address)) return false;
    this.#resting.add(address);
    return true;
  }

  /** Takes back that an address was taken into use; false when it was not. */
  unuse(address: IPv4): boolean {
    if (!this.#used.contains(address)) return false;
    this.#used.remove(single(address));
    this.#free.add(single(address));
    return true;
  }

  #use(address: IPv4): IPv4 {
    this.#resting.delete(address);
    this.#free.remove(single(address));
    this.#used.add(single(address));
    return address;
  }

  get usedCount(): number {
    return this.#used.size();
  }

  /** Free addresses that were given back, and are reused last. */
  get restingCount(): number {
    return this.#resting.size;
  }

  freeCount(range?: AddressRange): number {
    return this.#free.size(range);
  }

  /** Whether `allocate` would find an address. */
  canAllocate(range: AddressRange, except: readonly AddressRange[]): boolean {
    return this.#available(range, except).length > 0;
  }

  /**
   * Gives away part of what is free in a range and not of `except`, as a run that fits a prefix, at most half of it
   * (rounded up) and at most `most` addresses. Undefined when nothing is free there.
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
    for (const address of this.#resting) if (rangeContains(biggest, address)) this.#resting.delete(address);
    return biggest;
  }

  /** Brings the space in line with what the ring says is ours; what is new is free. Throws on lost used addresses. */
  update(owned: readonly AddressRange[]): void {
    const ours = new RangeSet();
    for (const range of owned) ours.add(range);
    for (const used of this.#used.ranges) {
      if (ours.size(used) !== rangeSize(used)) {
        throw new Error(`addresses in use at ${formatIPv4(used.start)} are no longer ours`);
      }
    }
    const free = new RangeSet();
    for (const range of owned) free.add(range);
    for (const used of this.#used.ranges) free.remove(used);
    this.#free.ranges = free.ranges;
  }

  clear(): void {
    this.#used.ranges = [];
    this.#free.ranges = [];
    this.#resting.clear();
  }
}

/** The biggest run in a range that is a power of two long and starts at a multiple of its length. */
export function biggestAligned({ start, end }: AddressRange): AddressRange {
  for (let size = 2 ** Math.floor(Math.log2(end - start)); size >= 1; size /= 2) {
    const aligned = Math.ceil(start / size) * size;
    if (aligned + size <= end) return { start: aligned, end: aligned + size };
  }
  return { start, end: start };
}
