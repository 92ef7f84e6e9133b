// The entries of a ring of tokens: each token starts a range that reaches to the next one (weave: ipam/ring/entry.go).
import { type AddressRange, formatIPv4, type IPv4 } from "../../address/ipv4.ts";
import { atOnce, mapInSteps, type Work } from "../../clock/slices.ts";
import type { PeerName } from "../../mesh/name.ts";

/** The start of a range, its owner, and how many addresses in it are free, as the owner last reported. */
export interface Entry {
  readonly token: IPv4;
  readonly peer: PeerName;
  /** Raised by the owner alone, with every change. */
  readonly version: number;
  readonly free: number;
}

/** A ring as it is sent and saved: bounds, entries sorted by token, and the peers it was first divided among. */
export interface RingState {
  readonly start: IPv4;
  readonly end: number;
  readonly entries: readonly Entry[];
  readonly seeds: readonly PeerName[];
}

/** A ring that a peer has sent; `peer` is the sender. */
export type SentRing = RingState & { readonly peer: PeerName };

/** Versions by which a transfer raises an entry: newer than any change that the old owner may still send. */
export const TRANSFER_VERSIONS = 100;
/** Versions have 32 bits on the wire. One that a liar has raised this far stays there. */
const MAX_VERSION = 2 ** 32 - 1;
/** Entries of a ring: less than 1 MB on the wire, where a message may have 10 MB. */
export const MAX_ENTRIES = 32_768;

/** Entries per step of work; a step takes less than 1 ms. */
export const STEP = 1_024;

export type RingErrorCode = "different-seeds" | "different-range" | "invalid";

/** A ring that cannot be merged into ours; `code` says why. */
export class RingError extends Error {
  override readonly name = "RingError";
  constructor(
    readonly code: RingErrorCode,
    message: string,
  ) {
    super(message);
  }
}

/** Return a version raised by `by`, 2^32 - 1 at most. */
export function raised(version: number, by = 1): number {
  return Math.min(version + by, MAX_VERSION);
}

/** Return the addresses from one token to another around the ring. */
export function distance(ring: AddressRange, from: number, to: number): number {
  return to > from ? to - from : ring.end - from + (to - ring.start);
}

/** Return [from, to) around the ring, split in two where it passes the end. */
export function rangesBetween(ring: AddressRange, from: IPv4, to: IPv4): AddressRange[] {
  if (to > from) return [{ start: from, end: to }];
  const upper = { start: from, end: ring.end };
  return to === ring.start ? [upper] : [{ start: ring.start, end: to }, upper];
}

/** Throw RingError unless the entries are sorted, lie within the ring, and report no more free addresses than there are. */
export function checkEntries(entries: readonly Entry[], ring: AddressRange): void {
  atOnce(checkInSteps(entries, ring));
}

/** As `checkEntries`, in steps. */
export function* checkInSteps(entries: readonly Entry[], ring: AddressRange): Work {
  if (entries.length > MAX_ENTRIES) {
    throw new RingError("invalid", `A ring of ${entries.length} entries; ${MAX_ENTRIES} are the most`);
  }
  let at = 0;
  for (const entry of entries) {
    const next = entries[++at];
    if (at % STEP === 0) yield;
    if (next && next.token === entry.token) throw new RingError("invalid", "Token appears twice in ring");
    if (next && next.token < entry.token) throw new RingError("invalid", "Ring not sorted");
    if (entry.token < ring.start || entry.token >= ring.end) {
      throw new RingError("invalid", "Token is out of range");
    }
    const to = (next ?? entries[0] ?? entry).token;
    const size = distance(ring, entry.token, to);
    if (entry.free > size) {
      const range = `Entry ${formatIPv4(entry.token)}-${formatIPv4(to)}`;
      throw new RingError("invalid", `${range} reporting too much free space: ${entry.free} > ${size}`);
    }
  }
}

/** Cap the free addresses of each entry at the size of its range: a split leaves less room than the owner reported. */
export function capFree(entries: readonly Entry[], ring: AddressRange): Entry[] {
  return atOnce(capInSteps(entries, ring));
}

/** As `capFree`, in steps. */
export function capInSteps(entries: readonly Entry[], ring: AddressRange): Work<Entry[]> {
  let at = 0;
  return mapInSteps(entries, STEP, (entry) => {
    const room = distance(ring, entry.token, (entries[++at] ?? entries[0] ?? entry).token);
    return entry.free > room ? { ...entry, free: room } : entry;
  });
}

/** Join neighbouring entries of one owner. */
export function joinAdjacent(entries: readonly Entry[]): Entry[] {
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
