// One name of one address, as its peer registered it (weave: nameserver/entry.go). The peer it comes from alone changes
// it, and raises its version when it does; so any two states of an entry merge to the same one in any order.
import type { IPv4 } from "../address/ipv4.ts";
import type { PeerName } from "../mesh/name.ts";

/** Time to remember that a name was deleted, in seconds: until no peer can pass it on as living any more. */
export const TOMBSTONE_S = 30 * 60;
/** Names, deleted ones included, of one peer. Those beyond are not taken in. */
export const MAX_ENTRIES_PER_PEER = 16_384;
/** Characters of a container's id. */
export const MAX_CONTAINER_ID = 1_024;

export interface Entry {
  /** Fully qualified, with the dot at its end, as it was given; compared without regard to case. */
  readonly hostname: string;
  readonly origin: PeerName;
  /** Whose name it is: a container's id, "weave:extern" or "weave:expose". */
  readonly containerId: string;
  readonly address: IPv4;
  readonly version: number;
  /** Seconds since the epoch when it was deleted; 0 while it lives. */
  readonly tombstone: number;
}

/** What makes an entry the same one. */
export type EntryId = Pick<Entry, "hostname" | "origin" | "containerId" | "address">;

/** Return the key of an entry. */
export function entryKey({ hostname, origin, containerId, address }: EntryId): string {
  return `${hostname} ${origin} ${address} ${containerId}`;
}

/** The newer of two states of one entry; `ours` where neither is. */
export function newer(ours: Entry, theirs: Entry): Entry {
  if (theirs.version !== ours.version) return theirs.version > ours.version ? theirs : ours;
  return theirs.tombstone > ours.tombstone ? theirs : ours;
}

/** The greatest version: nothing supersedes it but a tombstone, and others forget that. */
export const MAX_VERSION = Number.MAX_SAFE_INTEGER;

/** The version after another. */
export function nextVersion(version: number): number {
  return Math.min(version + 1, MAX_VERSION);
}

/** The entry, deleted at `now` (seconds). */
export function tombstoned(entry: Entry, now: number): Entry {
  return { ...entry, version: nextVersion(entry.version), tombstone: now };
}

/** Return true for a name that was deleted so long ago that it is forgotten; `now` in seconds. */
export const isExpired = ({ tombstone }: Entry, now: number) =>
  tombstone > 0 && now - tombstone > TOMBSTONE_S;

const order = <T>(a: T, b: T) => (a < b ? -1 : a > b ? 1 : 0);

/** The order in which entries travel: by hostname (with regard to case), origin, container and address. */
export function compareEntries(a: Entry, b: Entry): number {
  return (
    order(a.hostname, b.hostname) ||
    order(a.origin, b.origin) ||
    order(a.containerId, b.containerId) ||
    a.address - b.address
  );
}

/** The order in which entries are shown: the same, but without regard to case first. */
export function compareByName(a: Entry, b: Entry): number {
  return order(a.hostname.toLowerCase(), b.hostname.toLowerCase()) || compareEntries(a, b);
}
