// Arithmetic of address ranges: what is left of blocks without their exceptions, put together.
import type { Family, IpRange } from "../address/ip.ts";

/** A block without its exceptions, in order. */
export function without({ family, first, last }: IpRange, except: readonly IpRange[]): IpRange[] {
  const left: IpRange[] = [];
  let from = first;
  for (const gap of merged(except.filter((range) => range.family === family))) {
    if (gap.last < from) continue;
    if (gap.first > last) break;
    if (gap.first > from) left.push({ family, first: from, last: gap.first - 1n });
    from = gap.last + 1n;
  }
  return from > last ? left : [...left, { family, first: from, last }];
}

/** The same addresses in as few ranges as there can be, in order; those of IPv4 first. */
export function merged(ranges: readonly IpRange[]): IpRange[] {
  const ordered = [...ranges].sort(
    (a, b) => a.family - b.family || (a.first < b.first ? -1 : a.first > b.first ? 1 : 0),
  );
  const result: IpRange[] = [];
  for (const range of ordered) {
    const before = result.at(-1);
    if (before?.family === range.family && range.first <= before.last + 1n) {
      if (range.last > before.last) result[result.length - 1] = { ...before, last: range.last };
    } else result.push(range);
  }
  return result;
}

/** Whether an address is in one of these ranges, which are as merged() returns them. */
export function rangesContain(ranges: readonly IpRange[], family: Family, address: bigint): boolean {
  let [low, high] = [0, ranges.length];
  while (low < high) {
    const middle = (low + high) >>> 1;
    const range = ranges[middle];
    if (!range || range.family > family || (range.family === family && range.first > address)) high = middle;
    else low = middle + 1;
  }
  const before = ranges[low - 1];
  return before?.family === family && address <= before.last;
}
