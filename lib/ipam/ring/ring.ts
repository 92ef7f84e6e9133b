// Who owns which part of the address range: a ring of tokens (weave: ipam/ring/ring.go). Pure; what breaks the rules
// throws RingError and changes nothing.

import {
  type AddressRange,
  formatIPv4,
  type IPv4,
  rangeContains,
  rangesOverlap,
} from "../../address/ipv4.ts";
import { firstIndex } from "../../address/sorted.ts";
import { atOnce, type Work } from "../../clock/slices.ts";
import { type PeerName, UNKNOWN_PEER } from "../../mesh/name.ts";
import {
  capFree,
  checkEntries,
  distance,
  type Entry,
  joinAdjacent,
  MAX_ENTRIES,
  RingError,
  type RingState,
  raised,
  rangesBetween,
  STEP,
  TRANSFER_VERSIONS,
} from "./entry.ts";
import { contradicts, type Dispute, type HasAllocations, type Merged, mergeRings } from "./merge.ts";

/** A range of the ring and its owner. */
export interface RingRange {
  readonly entry: Entry;
  readonly range: AddressRange;
}

/** The result of a merge. */
export interface RingDraft extends Merged {
  /** Entries of the ring when the merge began. */
  readonly before: readonly Entry[];
  readonly entries: readonly Entry[];
  readonly seeds: readonly PeerName[];
  /** Our ranges after the merge. */
  readonly owned: readonly AddressRange[];
  /** All owners after the merge. */
  readonly owners: ReadonlySet<PeerName>;
}

/** A ring that can only be read. */
export type RingView = Omit<
  Ring,
  "restore" | "claimForPeers" | "grant" | "adopt" | "merge" | "reassert" | "transfer" | "reportFree"
>;

function* ownersOf(entries: readonly Entry[]): Work<ReadonlySet<PeerName>> {
  const names = new Set<PeerName>();
  let at = 0;
  for (const { peer } of entries) {
    names.add(peer);
    if (++at % STEP === 0) yield;
  }
  return names;
}

export class Ring implements RingState {
  #entries: readonly Entry[] = [];
  #seeds: readonly PeerName[] = [];
  /** The peers of these entries; a change replaces the entries. */
  #owners: { readonly of: readonly Entry[]; readonly names: ReadonlySet<PeerName> } | undefined;
  /** What is ours by these entries. */
  #owned: { readonly of: readonly Entry[]; readonly ranges: readonly AddressRange[] } | undefined;

  constructor(
    readonly start: IPv4,
    readonly end: number,
    readonly peer: PeerName,
  ) {}

  get entries(): readonly Entry[] {
    return this.#entries;
  }

  get seeds(): readonly PeerName[] {
    return this.#seeds;
  }

  get empty(): boolean {
    return this.#entries.length === 0;
  }

  state(): RingState {
    return { start: this.start, end: this.end, entries: this.#entries, seeds: this.#seeds };
  }

  /** Load a saved ring; throws RingError for an invalid one. */
  restore(state: RingState): void {
    // Earlier versions saved rings that a liar had cut to pieces.
    const entries = state.entries.length > MAX_ENTRIES ? joinAdjacent(state.entries) : state.entries;
    this.#set(entries);
    this.#seeds = [...state.seeds];
  }

  contains(address: IPv4): boolean {
    return rangeContains(this, address);
  }

  /** Return the owner of an address; UNKNOWN_PEER while the ring is empty. */
  owner(address: IPv4): PeerName {
    if (this.empty) return UNKNOWN_PEER;
    return this.#at(this.#after(address) - 1).peer;
  }

  peerNames(): ReadonlySet<PeerName> {
    if (this.#owners?.of !== this.#entries)
      this.#owners = { of: this.#entries, names: atOnce(ownersOf(this.#entries)) };
    return this.#owners.names;
  }

  /** Return the ranges that a peer owns (we, unless given), sorted; none crosses the end of the ring. */
  ownedRanges(peer: PeerName = this.peer): readonly AddressRange[] {
    const entries = this.#entries;
    if (peer !== this.peer) return atOnce(this.#rangesOwnedBy(peer, entries));
    if (this.#owned?.of !== entries)
      this.#owned = { of: entries, ranges: atOnce(this.#rangesOwnedBy(peer, entries)) };
    return this.#owned.ranges;
  }

  *#rangesOwnedBy(peer: PeerName, entries: readonly Entry[]): Work<AddressRange[]> {
    const ranges: AddressRange[] = [];
    for (let i = 0; i < entries.length; i++) {
      if (i % STEP === STEP - 1) yield;
      if (entries[i]?.peer === peer) ranges.push(...this.#rangesOf(i, entries));
    }
    return ranges.sort((a, b) => a.start - b.start);
  }

  /** Return how many addresses of a range are ours. */
  ownedIn(range: AddressRange): number {
    const parts = this.ownedRanges().map(
      ({ start, end }) => Math.min(end, range.end) - Math.max(start, range.start),
    );
    return parts.reduce((sum, size) => sum + Math.max(0, size), 0);
  }

  /** Return all ranges with their entries; those of earlier `entries`, where given. */
  ranges(entries = this.#entries): RingRange[] {
    const ranges: RingRange[] = [];
    entries.forEach((entry, i) => {
      for (const range of this.#rangesOf(i, entries)) ranges.push({ entry, range });
    });
    return ranges;
  }

  /** Divide an empty ring among peers, by halving. `peers` are sorted by name, none twice. */
  claimForPeers(peers: readonly PeerName[]): void {
    const entries: Entry[] = [];
    const divide = (from: number, to: number, among: readonly PeerName[]) => {
      const share = to - from;
      const [only] = among;
      if (share === 0 || only === undefined) return;
      if (share === 1 || among.length === 1) {
        entries.push({ token: from, peer: only, version: 0, free: share });
        return;
      }
      const middle = from + Math.floor(share / 2);
      const half = Math.floor(among.length / 2);
      divide(from, middle, among.slice(0, half));
      divide(middle + (share % 2), to, among.slice(half));
    };
    divide(this.start, this.end, peers);
    this.#entries = entries;
    this.#seeds = [...peers];
  }

  /** Grant the range [start, end), which has to be ours, to a peer. */
  grant(start: IPv4, end: number, peer: PeerName): void {
    const entries = [...this.#entries];
    let at = this.#after(start) - 1;
    const before = entries[at];
    if (!before) throw new RingError("invalid", `no range of ours holds ${formatIPv4(start)}`);
    const next = this.#at(at + 1).token;
    const free = Math.min(distance(this, start, next), end - start);
    if (before.token === start) {
      entries[at] = { token: start, peer, version: raised(before.version), free };
    } else {
      const left = distance(this, before.token, start);
      entries[at] = { ...before, version: raised(before.version), free: left };
      entries.splice(++at, 0, { token: start, peer, version: 0, free });
    }
    for (at++; ; at++) {
      const entry = entries[at];
      if (!entry || entry.token >= end) break;
      const left = Math.min(entry.free, end - entry.token);
      entries[at] = { token: entry.token, peer, version: raised(entry.version), free: left };
    }
    // The end of the ring is its start; no token ever lies on it.
    const token = end === this.end ? this.start : end;
    if (!entries.some((entry) => entry.token === token)) {
      const following = (entries[at] ?? entries[0])?.token ?? token;
      const rest = { token, peer: this.peer, version: 0, free: distance(this, token, following) };
      entries.splice(token === this.start ? 0 : at, 0, rest);
    }
    this.#set(entries);
  }

  /** Return the result of merging another ring into this one, in steps: see mergeRings(). Throws RingError. */
  *merging(other: RingState, hasAllocations: HasAllocations): Work<RingDraft> {
    const ours = { ...this.state(), peer: this.peer };
    const seeds = ours.seeds.length > 0 ? ours.seeds : [...other.seeds];
    const merged = yield* mergeRings(ours, other, hasAllocations);
    const owned = yield* this.#rangesOwnedBy(this.peer, merged.entries);
    return { ...merged, before: ours.entries, seeds, owned, owners: yield* ownersOf(merged.entries) };
  }

  /** Replace this ring by the result of a merge. Return false if it has changed since the merge began. */
  adopt({ before, entries, seeds, owned, owners }: RingDraft): boolean {
    if (before !== this.#entries) return false;
    this.#entries = entries;
    this.#seeds = seeds;
    this.#owned = { of: entries, ranges: owned };
    this.#owners = { of: entries, names: owners };
    return true;
  }

  /**
   * Raise the versions of disputed tokens above those in the other ring, by as much as a transfer does: the other owner
   * may have raised its own meanwhile.
   */
  reassert(disputes: readonly Dispute[]): void {
    const entries = new Map(this.#entries.map((entry) => [entry.token, entry]));
    for (const { token, version } of disputes) {
      const entry = entries.get(token) ?? { token, peer: this.peer, version: 0, free: 0 };
      if (entry.peer !== this.peer) continue;
      entries.set(token, { ...entry, version: raised(Math.max(entry.version, version), TRANSFER_VERSIONS) });
    }
    const sorted = [...entries.values()].sort((a, b) => a.token - b.token);
    this.#set(capFree(sorted, this));
  }

  /** See contradicts() in merge.ts. */
  contradicts(other: RingState, owner?: PeerName): boolean {
    return contradicts(this, other, owner);
  }

  /** Transfer everything that one peer owns to another; return the ranges. */
  transfer(from: PeerName, to: PeerName): readonly AddressRange[] {
    const ranges = this.ownedRanges(from);
    this.#entries = this.#entries.map((entry) =>
      entry.peer === from ? { ...entry, peer: to, version: raised(entry.version, TRANSFER_VERSIONS) } : entry,
    );
    return ranges;
  }

  /** Record how many addresses are free in each range of ours; return whether any number changed. */
  reportFree(count: (range: AddressRange) => number): boolean {
    let updated: Entry[] | undefined;
    for (const [i, entry] of this.#entries.entries()) {
      if (entry.peer !== this.peer) continue;
      const free = this.#rangesOf(i).reduce((sum, range) => sum + count(range), 0);
      if (free === entry.free) continue;
      updated ??= [...this.#entries];
      updated[i] = { ...entry, free, version: raised(entry.version) };
    }
    if (updated) this.#entries = updated;
    return updated !== undefined;
  }

  /** Return peers with free space in [start, end) in random order, weighted by how much they have. */
  donors(start: IPv4, end: number, random: () => number): PeerName[] {
    const space = new Map<PeerName, number>();
    this.#entries.forEach((entry, i) => {
      const overlaps = this.#rangesOf(i).some((range) => rangesOverlap(range, { start, end }));
      if (!overlaps || entry.free === 0 || entry.peer === this.peer) return;
      space.set(entry.peer, (space.get(entry.peer) ?? 0) + entry.free);
    });
    return Array.from(space, ([peer, free]) => ({ peer, weight: free * random() }))
      .sort((a, b) => b.weight - a.weight)
      .map(({ peer }) => peer);
  }

  #set(entries: readonly Entry[]): void {
    checkEntries(entries, this);
    this.#entries = [...entries];
  }

  /** Index of the first entry whose token is greater than `address`. */
  #after(address: IPv4): number {
    return firstIndex(this.#entries.length, (at) => (this.#entries[at]?.token ?? 0) > address);
  }

  /** The entry at an index, which may be one round off. */
  #at(index: number, entries = this.#entries): Entry {
    const { length } = entries;
    const entry = entries[(index + length) % length];
    if (!entry) throw new RingError("invalid", "the ring is empty");
    return entry;
  }

  #rangesOf(index: number, entries = this.#entries): AddressRange[] {
    return rangesBetween(this, this.#at(index, entries).token, this.#at(index + 1, entries).token);
  }
}
