// Ranges that are ours by the word of another peer than their owner: a liar can give one peer's range to another. They
// are not handed out until the owner has confirmed, or cannot be asked.
import { type AddressRange, formatRange } from "../address/ipv4.ts";
import type { PeerName } from "../mesh/name.ts";
import { RangeSet } from "./rangeset.ts";

/** Time for an owner that is not connected to object through others. */
const GONE_MS = 2_000;
/** Timeout for a connected owner that does not answer. */
const SILENT_MS = 120_000;
/** Ranges of one owner; more are joined into one that spans them. */
const MAX_RANGES = 64;
/** Owners that the status names. */
const MAX_SHOWN = 16;

interface Unconfirmed {
  readonly ranges: readonly AddressRange[];
  readonly since: number;
}

export class UnconfirmedRanges {
  /** By the owner that has to confirm. */
  readonly #waiting = new Map<PeerName, Unconfirmed>();

  /** Add ranges that were `from`'s and are said to be ours. */
  add(ranges: readonly AddressRange[], from: PeerName, since: number): void {
    const all = [...(this.#waiting.get(from)?.ranges ?? []), ...ranges];
    this.#waiting.set(from, { ranges: all.length > MAX_RANGES ? [spanOf(all)] : all, since });
  }

  /** Owners that have to confirm. */
  get owners(): PeerName[] {
    return [...this.#waiting.keys()];
  }

  /** A former owner sent a ring that claims nothing of ours. Returns whether that frees a range. */
  confirmed(from: PeerName): boolean {
    return this.#waiting.delete(from);
  }

  /** Accept ranges whose owner did not object in time. Returns whether there were any. */
  expire(now: number, isReachable: (peer: PeerName) => boolean): boolean {
    let expired = false;
    for (const [from, { since }] of this.#waiting)
      if (now - since >= (isReachable(from) ? SILENT_MS : GONE_MS)) expired = this.#waiting.delete(from);
    return expired;
  }

  get ranges(): AddressRange[] {
    return [...this.#waiting.values()].flatMap(({ ranges }) => ranges);
  }

  /** For the status. */
  problems(annotate: (name: PeerName) => string): string[] {
    const problems: string[] = [];
    for (const [owner, { ranges }] of this.#waiting) {
      if (problems.length === MAX_SHOWN) {
        const more = this.#waiting.size - MAX_SHOWN;
        return [
          ...problems,
          `ranges of ${more} more peers were donated to us by others; not used until they confirm`,
        ];
      }
      const shown = ranges.slice(0, 8).map(formatRange).join(", ");
      problems.push(
        `${shown} of ${annotate(owner)} was donated to us by another peer; not used until ${annotate(owner)} confirms`,
      );
    }
    return problems;
  }
}

const spanOf = (ranges: readonly AddressRange[]): AddressRange => ({
  start: Math.min(...ranges.map(({ start }) => start)),
  end: Math.max(...ranges.map(({ end }) => end)),
});

/** A range and who owned it. */
export interface OwnedRange {
  readonly peer: PeerName;
  readonly range: AddressRange;
}

/** Return the parts of `owned` that other peers had before, by peer. */
export function gainedFrom(
  before: readonly OwnedRange[],
  owned: readonly AddressRange[],
  us: PeerName,
): Map<PeerName, AddressRange[]> {
  const old = [...before].sort((a, b) => a.range.start - b.range.start);
  const gained = new Map<PeerName, AddressRange[]>();
  let at = 0;
  for (const { start, end } of owned) {
    while ((old[at]?.range.end ?? end) <= start) at++;
    for (let i = at; i < old.length; i++) {
      const { peer, range } = old[i] ?? { peer: us, range: { start: end, end } };
      if (range.start >= end) break;
      if (peer === us) continue;
      const part = { start: Math.max(start, range.start), end: Math.min(end, range.end) };
      const parts = gained.get(peer);
      if (parts) parts.push(part);
      else gained.set(peer, [part]);
    }
  }
  return gained;
}

/** Return the parts of `ranges` that lie in none of `others`. Peers can cut both to thousands of pieces. */
export const without = (ranges: readonly AddressRange[], others: readonly AddressRange[]): AddressRange[] =>
  RangeSet.of(ranges).except(RangeSet.of(others));
