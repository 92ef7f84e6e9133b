// The ring as parts of a circle: neighbours of one owner together, and how full each is. Pure.
import type { Facts } from "../facts.ts";

export interface Share {
  /** "10.32.0.0". */
  readonly first: string;
  /** The same as a number from the start of the address range. */
  readonly from: number;
  readonly size: number;
  readonly owner: string;
  /** Undefined where its owner has not said. */
  readonly free: number | undefined;
}

/** "10.32.0.0" as a number. */
const addressNumber = (address: string) =>
  address.split(".").reduce((number, octet) => number * 256 + Number(octet), 0);

/** Return the parts of the address range in order. */
export function sharesOf({ ranges, host }: Pick<Facts, "ranges" | "host">): Share[] {
  const start = addressNumber(host.ipam?.range.split("/")[0] ?? "0.0.0.0");
  const parts = Object.entries(ranges)
    .map(
      ([token, range]): Share => ({
        free: undefined,
        ...range,
        first: token,
        from: addressNumber(token) - start,
      }),
    )
    .sort((a, b) => a.from - b.from);
  const shares: Share[] = [];
  for (const part of parts) {
    const before = shares.at(-1);
    if (before?.owner === part.owner && before.from + before.size === part.from) {
      const free = before.free === undefined || part.free === undefined ? undefined : before.free + part.free;
      shares[shares.length - 1] = { ...before, size: before.size + part.size, free };
    } else shares.push(part);
  }
  return shares;
}
