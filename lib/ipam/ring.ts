// Who owns which part of the address range: a ring of tokens, each the start of a range that reaches to the next
// token, with a version that only the owner raises. Two rings merge into the same one in any order (weave:
// ipam/ring). Pure; what breaks the rules throws RingError and changes nothing.
import { type AddressRange, formatIPv4, type IPv4, rangeContains, rangesOverlap } from "../address/ipv4.ts";
import { type PeerName, UNKNOWN_PEER } from "../mesh/name.ts";

/** The start of a range, who owns it, and how many addresses in it are free, as the owner last said. */
export interface Entry {
  readonly token: IPv4;
  readonly peer: PeerName;
  readonly version: number;
  readonly free: number;
}

/** A ring as it travels and rests: bounds, entries in order of tokens, and the peers it was first made for. */
export interface RingState {
  readonly start: IPv4;
  readonly end: number;
  readonly entries: readonly Entry[];
  readonly seeds: readonly PeerName[];
}

/** Given away for good: whatever the old owner says later, this is newer. */
const TRANSFER_VERSIONS = 100;
/** Versions are 32 bits on the wire. A liar may have raised one this far; then it stays there. */
const MAX_VERSION = 2 ** 32 - 1;
/** Entries of a ring: less than 1 MB on the wire, where a message may have 10 MB. */
export const MAX_ENTRIES = 32_768;
/** Peers that a ring may have been divided among at first. */
const MAX_SEEDS = 4_096;

export type RingErrorCode = "different-seeds" | "different-range" | "invalid";

/** A ring that cannot be merged into ours; `code` says which way. */
export class RingError extends Error {
  override readonly name = "RingError";
  constructor(
    readonly code: RingErrorCode,
    message: string,
  ) {
    super(message);
  }
}

/** A token by which another ring gives a range of ours, with addresses in use, to a peer. It stays ours. */
export interface Dispute {
  readonly token: IPv4;
  /** As the other ring has it. */
  readonly peer: PeerName;
  readonly version: number;
  readonly ranges: readonly AddressRange[];
}

/** What a merge has changed, and what it was refused. */
export interface Merged {
  readonly change: Change;
  readonly disputes: readonly Dispute[];
}

/** Of a ring by a merge: nothing, only versions and numbers of free addresses, or who owns what. */
export type Change = "nothing" | "counts" | "owners";

/** Tells whether any address in these ranges (of ours) is in use. */
type HasAllocations = (ranges: AddressRange[]) => boolean;

export class Ring {
  #entries: Entry[] = [];
  #seeds: PeerName[] = [];

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

  /** Takes up a ring that was saved; throws RingError when it is none. */
  restore(state: RingState): void {
    // Earlier versions saved what a liar had cut to pieces: neighbours of one owner are one range.
    const entries = state.entries.length > MAX_ENTRIES ? joined(state.entries) : state.entries;
    this.#check(entries);
    this.#entries = [...entries];
    this.#seeds = [...state.seeds];
  }

  contains(address: IPv4): boolean {
    return rangeContains(this, address);
  }

  /** The peer that owns an address; UNKNOWN_PEER while the ring is empty. */
  owner(address: IPv4): PeerName {
    if (this.empty) return UNKNOWN_PEER;
    return this.#at(this.#after(address) - 1).peer;
  }

  peerNames(): Set<PeerName> {
    return new Set(this.#entries.map((entry) => entry.peer));
  }

  /** The ranges a peer owns (we, unless told otherwise), in order; none reaches over the end of the ring. */
  ownedRanges(peer: PeerName = this.peer): AddressRange[] {
    const ranges = this.#entries.flatMap((entry, i) => (entry.peer === peer ? this.#reach(i) : []));
    return ranges.sort((a, b) => a.start - b.start);
  }

  /** How many addresses of a range are ours. */
  ownedIn(range: AddressRange): number {
    const parts = this.ownedRanges().map(
      ({ start, end }) => Math.min(end, range.end) - Math.max(start, range.start),
    );
    return parts.reduce((sum, size) => sum + Math.max(0, size), 0);
  }

  /** All ranges and their owners, as the status shows them. */
  ranges(): { readonly entry: Entry; readonly range: AddressRange }[] {
    return this.#entries.flatMap((entry, i) => this.#reach(i).map((range) => ({ entry, range })));
  }

  /** Divides an empty ring among peers, in aligned halves of halves. `peers` in order of names, none twice. */
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

  /** Gives the range [start, end), which has to be ours, to a peer. */
  grant(start: IPv4, end: number, peer: PeerName): void {
    const entries = [...this.#entries];
    let at = this.#after(start) - 1;
    const before = entries[at];
    if (!before) throw new RingError("invalid", `no range of ours holds ${formatIPv4(start)}`);
    const next = this.#at(at + 1).token;
    const free = Math.min(this.#distance(start, next), end - start);
    if (before.token === start) {
      entries[at] = { token: start, peer, version: raised(before.version), free };
    } else {
      entries[at] = { ...before, version: raised(before.version), free: this.#distance(before.token, start) };
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
      const rest = { token, peer: this.peer, version: 0, free: this.#distance(token, following) };
      entries.splice(token === this.start ? 0 : at, 0, rest);
    }
    this.#check(entries);
    this.#entries = entries;
  }

  /**
   * Merges a ring that a peer sent. Ranges of ours with addresses in use stay ours, whatever it says, and are returned
   * as disputes. Throws RingError, with nothing changed, for a ring that cannot be merged.
   */
  merge(other: RingState, hasAllocations: HasAllocations): Merged {
    this.#check(other.entries, other);
    if (other.seeds.length > MAX_SEEDS) {
      throw new RingError("invalid", `A ring of ${other.seeds.length} seeds; ${MAX_SEEDS} are the most`);
    }
    const seeded = other.seeds.length > 0 && this.#seeds.length > 0;
    if (seeded && other.seeds.join() !== this.#seeds.join()) {
      throw new RingError("different-seeds", "Received ring was seeded differently from ours");
    }
    if (other.start !== this.start || other.end !== this.end) {
      throw new RingError("different-range", "Received range differs from ours");
    }
    const { entries, updated, disputes } = this.#merged(other.entries, hasAllocations);
    const fitted = this.#fitted(entries);
    this.#check(fitted);
    const moved = !sameOwners(this.#entries, fitted);
    this.#entries = fitted;
    if (this.#seeds.length === 0) this.#seeds = [...other.seeds];
    return { change: moved ? "owners" : updated ? "counts" : "nothing", disputes };
  }

  /** A range that was split has less room for free addresses than its owner has reported. */
  #fitted(entries: readonly Entry[]): Entry[] {
    return entries.map((entry, i) => {
      const room = this.#distance(entry.token, (entries[i + 1] ?? entries[0] ?? entry).token);
      return entry.free > room ? { ...entry, free: room } : entry;
    });
  }

  /**
   * Makes our word on disputed tokens newer than the other's, as far as versions reach, and than what its owner by that
   * word has counted on meanwhile.
   */
  assert(disputes: readonly Dispute[]): void {
    const entries = new Map(this.#entries.map((entry) => [entry.token, entry]));
    for (const { token, version } of disputes) {
      const entry = entries.get(token) ?? { token, peer: this.peer, version: 0, free: 0 };
      if (entry.peer !== this.peer) continue;
      entries.set(token, { ...entry, version: raised(Math.max(entry.version, version), TRANSFER_VERSIONS) });
    }
    const sorted = this.#fitted([...entries.values()].sort((a, b) => a.token - b.token));
    this.#check(sorted);
    this.#entries = sorted;
  }

  /** True where a ring takes a range of ours for another's (of `by`, where given): whoever sent it has not heard. */
  contradicts(other: RingState, by?: PeerName): boolean {
    let at = 0;
    let owner = other.entries.at(-1)?.peer;
    return this.#entries.some(({ token, peer }) => {
      for (let next = other.entries[at]; next && next.token <= token; next = other.entries[++at])
        owner = next.peer;
      return peer === this.peer && owner !== this.peer && (by === undefined || owner === by);
    });
  }

  #merged(
    theirs: readonly Entry[],
    hasAllocations: HasAllocations,
  ): { entries: Entry[]; updated: boolean; disputes: Dispute[] } {
    const ours = this.#entries;
    const entries: Entry[] = [];
    const disputes: Dispute[] = [];
    const dispute = ({ token, peer, version }: Entry, ranges: readonly AddressRange[]) =>
      disputes.push({ token, peer, version, ranges });
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
    let i = 0;
    let j = 0;
    for (;;) {
      const mine = ours[i];
      const their = theirs[j];
      if (mine && (!their || mine.token < their.token)) {
        keep(mine);
        i++;
      } else if (their && (!mine || mine.token > their.token)) {
        j++;
        if (previousOwner === this.peer && their.peer !== this.peer) {
          // Behind our last token the range goes on to the first. (The original refuses that one, used or not.)
          const reach = this.#between(their.token, (mine ?? ours[0] ?? their).token);
          if (hasAllocations(reach)) {
            dispute(their, reach);
            continue;
          }
        }
        accept(their);
      } else if (mine && their) {
        const reach = this.#between(mine.token, this.#at(i + 1).token);
        const isDisputed = () => {
          const inUse = hasAllocations(reach);
          if (inUse) dispute(their, reach);
          return inUse;
        };
        const chosen = this.#choose(mine, their, isDisputed);
        if (chosen === their && their !== mine) accept(their);
        else keep(chosen);
        i++;
        j++;
      } else {
        return { entries, updated, disputes };
      }
    }
  }

  /** Which of two entries for the same token to go on with: `their`, or ours (perhaps with its version raised). */
  #choose(mine: Entry, their: Entry, isDisputed: () => boolean): Entry {
    if (mine.version > their.version) return mine;
    if (mine.peer === this.peer && their.peer !== this.peer && isDisputed()) return mine;
    if (mine.version === their.version) {
      if (mine.peer === their.peer) return mine;
      // As long as nobody uses them: the one with more free addresses, as the original has it; and where these are as
      // many, the one with the greater name, so that all come to the same.
      if (mine.free !== their.free) return mine.free > their.free ? mine : their;
      return mine.peer > their.peer ? mine : their;
    }
    // Only we raise the versions of what is ours, unless it was taken from us.
    if (mine.peer === this.peer && their.peer === this.peer)
      return { ...mine, version: raised(their.version) };
    return their;
  }

  /** Makes everything of one peer another's; returns the ranges that changed hands. */
  transfer(from: PeerName, to: PeerName): AddressRange[] {
    const ranges = this.ownedRanges(from);
    this.#entries = this.#entries.map((entry) =>
      entry.peer === from ? { ...entry, peer: to, version: raised(entry.version, TRANSFER_VERSIONS) } : entry,
    );
    return ranges;
  }

  /** Notes how many addresses are free in each range of ours; true when anything changed. */
  reportFree(count: (range: AddressRange) => number): boolean {
    let updated = false;
    this.#entries = this.#entries.map((entry, i) => {
      if (entry.peer !== this.peer) return entry;
      const free = this.#reach(i).reduce((sum, range) => sum + count(range), 0);
      if (free === entry.free) return entry;
      updated = true;
      return { ...entry, free, version: raised(entry.version) };
    });
    return updated;
  }

  /** Peers with free space in [start, end), the likelier in front the more they have. */
  donors(start: IPv4, end: number, random: () => number): PeerName[] {
    const space = new Map<PeerName, number>();
    this.#entries.forEach((entry, i) => {
      const overlaps = this.#reach(i).some((range) => rangesOverlap(range, { start, end }));
      if (!overlaps || entry.free === 0 || entry.peer === this.peer) return;
      space.set(entry.peer, (space.get(entry.peer) ?? 0) + entry.free);
    });
    return Array.from(space, ([peer, free]) => ({ peer, weight: free * random() }))
      .sort((a, b) => b.weight - a.weight)
      .map(({ peer }) => peer);
  }

  /** Index of the first entry whose token is greater than `address`. */
  #after(address: IPv4): number {
    let low = 0;
    let high = this.#entries.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((this.#entries[middle]?.token ?? 0) > address) high = middle;
      else low = middle + 1;
    }
    return low;
  }

  /** The entry at an index that may lie one round off. */
  #at(index: number): Entry {
    const { length } = this.#entries;
    const entry = this.#entries[(index + length) % length];
    if (!entry) throw new RingError("invalid", "the ring is empty");
    return entry;
  }

  #reach(index: number): AddressRange[] {
    return this.#between(this.#at(index).token, this.#at(index + 1).token);
  }

  /** [from, to) around the ring, cut in two where it passes the end. */
  #between(from: IPv4, to: IPv4): AddressRange[] {
    if (to > from) return [{ start: from, end: to }];
    const upper = { start: from, end: this.end };
    return to === this.start ? [upper] : [{ start: this.start, end: to }, upper];
  }

  #distance(from: number, to: number): number {
    return to > from ? to - from : this.end - from + (to - this.start);
  }

  #check(entries: readonly Entry[], bounds: { start: IPv4; end: number } = this): void {
    if (entries.length > MAX_ENTRIES) {
      throw new RingError("invalid", `A ring of ${entries.length} entries; ${MAX_ENTRIES} are the most`);
    }
    const size = bounds.end - bounds.start;
    entries.forEach((entry, i) => {
      const next = entries[i + 1];
      if (next && next.token === entry.token) throw new RingError("invalid", "Token appears twice in ring");
      if (next && next.token < entry.token) throw new RingError("invalid", "Ring not sorted");
      if (entry.token < bounds.start || entry.token >= bounds.end) {
        throw new RingError("invalid", "Token is out of range");
      }
      const to = (next ?? entries[0] ?? entry).token;
      const distance = to > entry.token ? to - entry.token : to - entry.token + size;
      if (entry.free > distance) {
        const at = `Entry ${formatIPv4(entry.token)}-${formatIPv4(to)}`;
        throw new RingError("invalid", `${at} reporting too much free space: ${entry.free} > ${distance}`);
      }
    });
  }
}

function sameOwners(a: readonly Entry[], b: readonly Entry[]): boolean {
  return (
    a.length === b.length && a.every((entry, i) => entry.token === b[i]?.token && entry.peer === b[i]?.peer)
  );
}

/** The entries without those that only go on with the range of the one before. */
function joined(entries: readonly Entry[]): Entry[] {
  const kept: Entry[] = [];
  for (const entry of entries) {
    const last = kept.at(-1);
    if (last?.peer !== entry.peer) {
      kept.push(entry);
      continue;
    }
    const version = Math.max(last.version, entry.version);
    kept[kept.length - 1] = { ...last, version, free: last.free + entry.free };
  }
  return kept;
}

function raised(version: number, by = 1): number {
  return Math.min(version + by, MAX_VERSION);
}
