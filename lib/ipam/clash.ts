// Two rings for one range, of peers that were not connected when they were made: which one gives in, if any.
import { rangeSize } from "../address/ipv4.ts";
import type { PeerName } from "../mesh/name.ts";
import type { RingState } from "./ring.ts";

export type SentRing = RingState & { readonly peer: PeerName };

/** A ring that only its maker knows may give in. */
export interface OwnRing {
  readonly peer: PeerName;
  /** We made it for ourselves, and no other peer has it. */
  readonly alone: boolean;
  /** Addresses in it are in use. */
  readonly used: boolean;
}

/**
 * "ours" or "theirs" where the other ring gives in; both peers come to the same. Undefined where neither can: both
 * were divided among others, or both are in use.
 */
export function winner(ours: OwnRing, theirs: SentRing): "ours" | "theirs" | undefined {
  const theirsAlone =
    theirs.seeds.length === 1 &&
    theirs.seeds[0] === theirs.peer &&
    theirs.entries.every(({ peer }) => peer === theirs.peer);
  if (!ours.alone) return theirsAlone ? "ours" : undefined;
  if (!theirsAlone) return "theirs";
  const theirsUsed = theirs.entries.reduce((sum, { free }) => sum + free, 0) < rangeSize(theirs);
  if (ours.used !== theirsUsed) return ours.used ? "ours" : "theirs";
  if (ours.used) return undefined;
  return ours.peer < theirs.peer ? "ours" : "theirs";
}
