// Ranges that are ours by the word of another peer than their owner: a liar can give one peer's range to another. They
// are not handed out until the owner has confirmed, or cannot be asked.
import { type AddressRange, formatRange } from "../address/ipv4.ts";
import type { Work } from "../clock/slices.ts";
import type { PeerName } from "../mesh/name.ts";
import type { Limit } from "../sys/limit.ts";
import { RangeSet } from "./rangeset.ts";
import { MAX_ENTRIES, STEP } from "./ring/entry.ts";

/** Time for an owner that is not connected to object through others. */
const GONE_MS = 2_000;
/** Timeout for a connected owner that does not answer. */
const SILENT_MS = 120_000;
/** Ranges of one owner; more are joined into one that spans them. */
const MAX_RANGES = 64;
/** Owners that are waited for by name: a liar can give us the ranges of thousands with each message. */
const MAX_OWNERS = 1_024;
/** Ranges of further owners that are collected before they are joined: more than a ring has. */
const MAX_COLLECTED = 2 * MAX_ENTRIES;
/** Owners that the status names. */
const MAX_SHOWN = 16;

interface Unconfirmed {
  readonly ranges: readonly AddressRange[];
  readonly since: number;
}

export class UnconfirmedRanges {
  /** By the owner that has to confirm. */
  readonly #waiting = new Map<PeerName, Unconfirmed>();
  /** Ranges of further owners, which wait as long as for a silent one, and when the last one was added. */
  #further: AddressRange[] = [];
  #furtherSince = 0;

  get limit(): Limit {
    return { name: "unconfirmed-owners", value: this.#waiting.size, max: MAX_OWNERS };
  }

  /** Add ranges that were `from`'s and are said to be ours. */
  add(ranges: readonly AddressRange[], from: PeerName, since: number): void {
    if (this.#waiting.size >= MAX_OWNERS && !this.#waiting.has(from)) return this.#addFurther(ranges, since);
    const all = [...(this.#waiting.get(from)?.ranges ?? []), ...ranges];
    this.#waiting.set(from, { ranges: all.length > MAX_RANGES ? [spanOf(all)] : all, since });
  }

  #addFurther(ranges: readonly AddressRange[], since: number): void {
    for (const range of ranges) this.#further.push(range);
    this.#furtherSince = since;
    if (this.#further.length > MAX_COLLECTED) this.#further = RangeSet.of(this.#further).ranges;
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
    if (this.#further.length > 0 && now - this.#furtherSince >= SILENT_MS) {
      this.#further = [];
      expired = true;
    }
    return expired;
  }

  get ranges(): AddressRange[] {
    const named = [...this.#waiting.values()].flatMap(({ ranges }) => ranges);
    return [...named, ...RangeSet.of(this.#further).ranges];
  }

  /** For the status. */
  problems(annotate: (name: PeerName) => string): string[] {
    const problems: string[] = [];
    for (const [owner, { ranges }] of this.#waiting) {
      if (problems.length === MAX_SHOWN) {
        const more = this.#further.length > 0 ? "many" : this.#waiting.size - MAX_SHOWN;
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
  start: ranges.reduce((least, { start }) => Math.min(least, start), Number.POSITIVE_INFINITY),
  end: ranges.reduce((most, { end }) => Math.max(most, end), 0),
});

/** A range and who owned it. */
export interface OwnedRange {
  readonly peer: PeerName;
  readonly range: AddressRange;
}

/** Return the parts of `owned` that other peers had before, by peer, in steps. */
export function* gainedFrom(
  before: readonly OwnedRange[],
  owned: readonly AddressRange[],
  us: PeerName,
): Work<Map<PeerName, AddressRange[]>> {
  const old = [...before].sort((a, b) => a.range.start - b.range.start);
  const gained = new Map<PeerName, AddressRange[]>();
  let at = 0;
  let looked = 0;
  for (const { start, end } of owned) {
    if (++looked % STEP === 0) yield;
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
