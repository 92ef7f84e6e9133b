// A set of addresses as sorted, disjoint ranges.
import { type AddressRange, type IPv4, rangeContains, rangeSize } from "../address/ipv4.ts";
import { firstIndex } from "../address/sorted.ts";

export class RangeSet {
  ranges: AddressRange[] = [];

  /** Return the set of these ranges, in any order. */
  static of(ranges: readonly AddressRange[]): RangeSet {
    const set = new RangeSet();
    for (const { start, end } of [...ranges].sort((a, b) => a.start - b.start)) {
      if (start >= end) continue;
      const last = set.ranges.at(-1);
      if (last && start <= last.end)
        set.ranges[set.ranges.length - 1] = { start: last.start, end: Math.max(last.end, end) };
      else set.ranges.push({ start, end });
    }
    return set;
  }

  /** Return the parts that lie in no range of another set. */
  except(other: RangeSet): AddressRange[] {
    const parts: AddressRange[] = [];
    let at = 0;
    for (const { start, end } of this.ranges) {
      let from = start;
      for (; at < other.ranges.length; at++) {
        const cut = other.ranges[at];
        if (!cut || cut.start >= end) break;
        if (cut.end <= from) continue;
        if (cut.start > from) parts.push({ start: from, end: cut.start });
        from = cut.end;
        // It may reach into the next range.
        if (cut.end > end) break;
      }
      if (from < end) parts.push({ start: from, end });
    }
    return parts;
  }

  contains(address: IPv4): boolean {
    return this.ranges.some((range) => rangeContains(range, address));
  }

  size(within?: AddressRange): number {
    return this.within(within).reduce((sum, range) => sum + rangeSize(range), 0);
  }

  /** Return the parts that lie in a range. */
  within(bounds: AddressRange | undefined): AddressRange[] {
    if (!bounds) return this.ranges;
    const parts: AddressRange[] = [];
    const first = firstIndex(this.ranges.length, (at) => (this.ranges[at]?.end ?? 0) > bounds.start);
    for (let i = first; ; i++) {
      const range = this.ranges[i];
      if (!range || range.start >= bounds.end) return parts;
      const [start, end] = [Math.max(range.start, bounds.start), Math.min(range.end, bounds.end)];
      if (start < end) parts.push({ start, end });
    }
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
