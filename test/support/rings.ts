// Merge of rings at once, without a router.
import { atOnce } from "../../lib/clock/slices.ts";
import type { RingState } from "../../lib/ipam/ring/entry.ts";
import type { HasAllocations, Merged } from "../../lib/ipam/ring/merge.ts";
import type { Ring } from "../../lib/ipam/ring/ring.ts";

/** Merge another ring into `ring`: see mergeRings(). Throws RingError, with nothing changed. */
export function mergeInto(ring: Ring, other: RingState, hasAllocations: HasAllocations): Merged {
  const draft = atOnce(ring.merging(other, hasAllocations));
  ring.adopt(draft);
  return { change: draft.change, disputes: draft.disputes };
}
