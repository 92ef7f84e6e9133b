// Two rings for one range, of peers that were not connected when they made them: which one gives in, if any.
import { rangeSize } from "../../address/ipv4.ts";
import type { PeerName } from "../../mesh/name.ts";
import type { SentRing } from "./entry.ts";

export interface OwnRing {
  readonly peer: PeerName;
  /** We made it for ourselves, and no other peer has it: it can give in. */
  readonly unshared: boolean;
  /** Addresses in it are in use. */
  readonly used: boolean;
}

/**
 * Return which ring survives; both peers come to the same. Undefined where neither can give in: both are shared, or
 * both are in use.
 */
export function survivingRing(ours: OwnRing, theirs: SentRing): "ours" | "theirs" | undefined {
  const theirsUnshared =
    theirs.seeds.length === 1 &&
    theirs.seeds[0] === theirs.peer &&
    theirs.entries.every(({ peer }) => peer === theirs.peer);
  if (!ours.unshared) return theirsUnshared ? "ours" : undefined;
  if (!theirsUnshared) return "theirs";
  const theirsUsed = theirs.entries.reduce((sum, { free }) => sum + free, 0) < rangeSize(theirs);
  if (ours.used !== theirsUsed) return ours.used ? "ours" : "theirs";
  if (ours.used) return undefined;
  return ours.peer < theirs.peer ? "ours" : "theirs";
}
