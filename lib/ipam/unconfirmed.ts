// Ranges that are ours by the word of another peer than their owner: a liar can give one peer's range to another. They
// are not handed out until the owner has confirmed, or cannot be asked.
import { type AddressRange, formatRange } from "../address/ipv4.ts";
import type { PeerName } from "../mesh/name.ts";

/** Time for an owner that is not connected to object through others. */
const GONE_MS = 2_000;
/** Timeout for a connected owner that does not answer. */
const SILENT_MS = 120_000;
/** Ranges of one owner; more are joined into one that spans them. */
const MAX_RANGES = 64;

interface Unconfirmed {
  readonly range: AddressRange;
  readonly from: PeerName;
  readonly since: number;
}

export class UnconfirmedRanges {
  #waiting: Unconfirmed[] = [];

  /** Add ranges that were `from`'s and are said to be ours. */
  add(ranges: readonly AddressRange[], from: PeerName, since: number): void {
    const all = this.#waiting.filter((range) => range.from === from).map(({ range }) => range);
    all.push(...ranges);
    this.#waiting = this.#waiting.filter((range) => range.from !== from);
    for (const range of all.length > MAX_RANGES ? [spanOf(all)] : all)
      this.#waiting.push({ range, from, since });
  }

  /** Owners that have to confirm. */
  get owners(): PeerName[] {
    return [...new Set(this.#waiting.map(({ from }) => from))];
  }

  /** A former owner sent a ring that claims nothing of ours. Returns whether that frees a range. */
  confirmed(from: PeerName): boolean {
    return this.#keep((range) => range.from !== from);
  }

  /** Accept ranges whose owner did not object in time. Returns whether there were any. */
  expire(now: number, isReachable: (peer: PeerName) => boolean): boolean {
    return this.#keep(({ from, since }) => now - since < (isReachable(from) ? SILENT_MS : GONE_MS));
  }

  get ranges(): AddressRange[] {
    return this.#waiting.map(({ range }) => range);
  }

  /** For the status. */
  problems(annotate: (name: PeerName) => string): string[] {
    return this.owners.map((owner) => {
      const ranges = this.#waiting
        .filter(({ from }) => from === owner)
        .map(({ range }) => formatRange(range));
      return `${ranges.slice(0, 8).join(", ")} of ${annotate(owner)} was donated to us by another peer; not used until ${annotate(owner)} confirms`;
    });
  }

  #keep(wanted: (range: Unconfirmed) => boolean): boolean {
    const before = this.#waiting.length;
    this.#waiting = this.#waiting.filter(wanted);
    return this.#waiting.length < before;
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

/** Return the parts of `ranges` that lie in none of `others`. */
export function without(ranges: readonly AddressRange[], others: readonly AddressRange[]): AddressRange[] {
  return others.reduce<AddressRange[]>(
    (left, other) =>
      left.flatMap(({ start, end }) =>
        [
          { start, end: Math.min(end, other.start) },
          { start: Math.max(start, other.end), end },
        ].filter((part) => part.start < part.end),
      ),
    [...ranges],
  );
}
