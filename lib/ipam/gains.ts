// Ranges that others say are ours now. Unless their owner said so, it may not know: a liar can give one peer's range to
// another. So they are not handed out until the owner has confirmed, or cannot be asked.
import { type AddressRange, formatRange } from "../address/ipv4.ts";
import type { PeerName } from "../mesh/name.ts";

/** Time for an owner that cannot be reached to object through others. */
const GONE_MS = 2_000;
/** An owner that can be reached, but does not answer, is waited for no longer than this. */
const SILENT_MS = 120_000;
/** Ranges of one owner that wait, at most; more are put into one that spans them. */
const MAX_RANGES = 64;

interface Gain {
  readonly range: AddressRange;
  readonly from: PeerName;
  readonly since: number;
}

export class Gains {
  #waiting: Gain[] = [];

  /** Notes ranges that were `from`'s and are said to be ours. */
  add(ranges: readonly AddressRange[], from: PeerName, since: number): void {
    const all = this.#waiting.filter((gain) => gain.from === from).map(({ range }) => range);
    all.push(...ranges);
    this.#waiting = this.#waiting.filter((gain) => gain.from !== from);
    for (const range of all.length > MAX_RANGES ? [spanOf(all)] : all)
      this.#waiting.push({ range, from, since });
  }

  /** Owners that have to confirm. */
  get owners(): PeerName[] {
    return [...new Set(this.#waiting.map(({ from }) => from))];
  }

  /** A former owner has sent its ring, by which nothing of ours is its own. True where that frees a range. */
  confirmed(from: PeerName): boolean {
    return this.#keep((gain) => gain.from !== from);
  }

  /** Believes what nobody can object to any more. True where that frees a range. */
  expire(now: number, isReachable: (peer: PeerName) => boolean): boolean {
    return this.#keep(({ from, since }) => now - since < (isReachable(from) ? SILENT_MS : GONE_MS));
  }

  get contested(): AddressRange[] {
    return this.#waiting.map(({ range }) => range);
  }

  /** What waits, in words. */
  problems(annotate: (name: PeerName) => string): string[] {
    return this.owners.map((owner) => {
      const ranges = this.#waiting
        .filter(({ from }) => from === owner)
        .map(({ range }) => formatRange(range));
      return `${ranges.slice(0, 8).join(", ")} of ${annotate(owner)} was donated to us by another peer; not used until ${annotate(owner)} confirms`;
    });
  }

  #keep(wanted: (gain: Gain) => boolean): boolean {
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

/** The parts of `owned` that others had before, by who that was. */
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

/** The parts of `ranges` that lie in none of `others`. */
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
