// Arithmetic of address ranges: what is left of blocks without their exceptions, put together.
import type { Family, IpRange } from "../address/ip.ts";

/** A block without its exceptions. */
export function without(block: IpRange, except: readonly IpRange[]): IpRange[] {
  const { family } = block;
  let left: IpRange[] = [block];
  for (const { family: other, first, last } of except) {
    if (other !== family) continue;
    left = left.flatMap((range) => {
      if (last < range.first || first > range.last) return [range];
      return [
        ...(range.first < first ? [{ family, first: range.first, last: first - 1n }] : []),
        ...(range.last > last ? [{ family, first: last + 1n, last: range.last }] : []),
      ];
    });
  }
  return left;
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

export function rangesContain(ranges: readonly IpRange[], family: Family, address: bigint): boolean {
  return ranges.some((range) => range.family === family && range.first <= address && address <= range.last);
}
