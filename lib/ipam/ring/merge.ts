// Merge of two rings: any order of merges leads to the same ring (weave: ipam/ring/ring.go, Merge). Pure.
import type { AddressRange, IPv4 } from "../../address/ipv4.ts";
import type { Work } from "../../clock/slices.ts";
import type { PeerName } from "../../mesh/name.ts";
import {
  capInSteps,
  checkInSteps,
  type Entry,
  RingError,
  type RingState,
  raised,
  rangesBetween,
  STEP,
} from "./entry.ts";

/** Peers that a ring may first have been divided among. */
export const MAX_SEEDS = 4_096;

/** A token by which another ring gives a range of ours, with addresses in use, to a peer. The range stays ours. */
export interface Dispute {
  readonly token: IPv4;
  /** The owner and the version in the other ring. */
  readonly peer: PeerName;
  readonly version: number;
  readonly ranges: readonly AddressRange[];
}

/** What a merge changed: nothing, only versions and numbers of free addresses, or owners. */
export type Change = "nothing" | "counts" | "owners";

/** The outcome of a merge. */
export interface Merged {
  readonly change: Change;
  readonly disputes: readonly Dispute[];
}

/** Return whether any address in these ranges, which are ours, is in use. */
export type HasAllocations = (ranges: readonly AddressRange[]) => boolean;

/** Our own ring. */
export type LocalRing = RingState & { readonly peer: PeerName };

/**
 * Merge a ring that a peer has sent into ours, in steps. Ranges of ours with addresses in use stay ours, whatever it says, and
 * are returned as disputes. Throws RingError for a ring that cannot be merged.
 */
export function* mergeRings(
  ours: LocalRing,
  theirs: RingState,
  hasAllocations: HasAllocations,
): Work<Merged & { readonly entries: readonly Entry[] }> {
  yield* checkInSteps(theirs.entries, theirs);
  if (theirs.seeds.length > MAX_SEEDS) {
    throw new RingError("invalid", `A ring of ${theirs.seeds.length} seeds; ${MAX_SEEDS} are the most`);
  }
  const seeded = theirs.seeds.length > 0 && ours.seeds.length > 0;
  if (seeded && !sameSeeds(ours.seeds, theirs.seeds)) {
    throw new RingError("different-seeds", "Received ring was seeded differently from ours");
  }
  if (theirs.start !== ours.start || theirs.end !== ours.end) {
    throw new RingError("different-range", "Received range differs from ours");
  }
  const { entries, updated, disputes } = yield* mergeEntries(ours, theirs.entries, hasAllocations);
  const capped = yield* capInSteps(entries, ours);
  yield* checkInSteps(capped, ours);
  const change = !sameOwners(ours.entries, capped) ? "owners" : updated ? "counts" : "nothing";
  return { entries: capped, change, disputes };
}

/** Return whether a ring gives a range of ours to another peer (to `owner`, where given): its sender is behind. */
export function contradicts(ours: LocalRing, theirs: RingState, owner?: PeerName): boolean {
  let at = 0;
  let theirOwner = theirs.entries.at(-1)?.peer;
  return ours.entries.some(({ token, peer }) => {
    for (let next = theirs.entries[at]; next && next.token <= token; next = theirs.entries[++at])
      theirOwner = next.peer;
    return peer === ours.peer && theirOwner !== ours.peer && (owner === undefined || theirOwner === owner);
  });
}

function* mergeEntries(
  ours: LocalRing,
  theirs: readonly Entry[],
  hasAllocations: HasAllocations,
): Work<{ entries: Entry[]; updated: boolean; disputes: Dispute[] }> {
  const entries: Entry[] = [];
  const disputes: Dispute[] = [];
  let updated = false;
  let previousOwner: PeerName | undefined;
  const keep = (entry: Entry) => {
    entries.push(entry);
    previousOwner = entry.peer;
  };
  const accept = (entry: Entry) => {
    entries.push(entry);
    updated = true;
    previousOwner = undefined;
  };
  /** `next` is the entry behind it in our ring. */
  const isInUse = ({ token, peer, version }: Entry, next: Entry) => {
    const ranges = rangesBetween(ours, token, next.token);
    const inUse = hasAllocations(ranges);
    if (inUse) disputes.push({ token, peer, version, ranges });
    return inUse;
  };
  let i = 0;
  let j = 0;
  for (let steps = 1; ; steps++) {
    if (steps % STEP === 0) yield;
    const mine = ours.entries[i];
    const their = theirs[j];
    if (mine && (!their || mine.token < their.token)) {
      keep(mine);
      i++;
    } else if (their && (!mine || mine.token > their.token)) {
      j++;
      const splitsOurs = previousOwner === ours.peer && their.peer !== ours.peer;
      // Behind our last token the range goes on to the first. (The original refuses that one, used or not.)
      if (!(splitsOurs && isInUse(their, mine ?? ours.entries[0] ?? their))) accept(their);
    } else if (mine && their) {
      const next = ours.entries[i + 1] ?? ours.entries[0] ?? mine;
      const chosen = choose(ours.peer, mine, their, () => isInUse(their, next));
      if (chosen === their && their !== mine) accept(their);
      else keep(chosen);
      i++;
      j++;
    } else {
      return { entries, updated, disputes };
    }
  }
}

/** Return the entry of a token to go on with: `their`, or ours, perhaps with its version raised. */
function choose(us: PeerName, mine: Entry, their: Entry, isInUse: () => boolean): Entry {
  if (mine.version > their.version) return mine;
  if (mine.peer === us && their.peer !== us && isInUse()) return mine;
  if (mine.version === their.version) {
    // We said it, and were cut off before it was saved: what we say now has to be newer.
    if (mine.peer === us && their.peer === us && mine.free !== their.free)
      return { ...mine, version: raised(their.version) };
    if (mine.peer === their.peer) return mine;
    // Nobody uses the range: more free addresses win, as in the original; then the greater name, so that all peers
    // choose the same.
    if (mine.free !== their.free) return mine.free > their.free ? mine : their;
    return mine.peer > their.peer ? mine : their;
  }
  // Nobody but us raises the version of what is ours, unless it was taken from us.
  if (mine.peer === us && their.peer === us) return { ...mine, version: raised(their.version) };
  return their;
}

function sameSeeds(a: readonly PeerName[], b: readonly PeerName[]): boolean {
  return a.length === b.length && a.every((seed, i) => seed === b[i]);
}

function sameOwners(a: readonly Entry[], b: readonly Entry[]): boolean {
  return (
    a.length === b.length && a.every((entry, i) => entry.token === b[i]?.token && entry.peer === b[i]?.peer)
  );
}
