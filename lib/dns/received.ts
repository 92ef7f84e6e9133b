// Validate names from a peer: refuse all while its clock differs too much, drop invalid entries, and correct those that contradict
// our own. Pure; times of entries are in seconds.
import type { PeerName } from "../mesh/name.ts";
import { type Entry, MAX_CONTAINER_ID, MAX_VERSION, nextVersion, TOMBSTONE_S, tombstoned } from "./entry.ts";
import { isFullyQualified } from "./name.ts";

/** Gossip older or newer than this is refused: its tombstones would be forgotten too soon or too late. */
const MAX_SKEW_S = TOMBSTONE_S / 2;
/** Peers repeat their names more often than this. */
const SKEW_SHOWN_MS = 5 * 60_000;

/** The last peer whose clock differs too much. */
export class ClockSkew {
  #last: { readonly text: string; readonly at: number } | undefined;

  /** Return why names that `from` sent at `timestamp` are refused; undefined where its clock is right. `at` is in ms. */
  refuses(from: PeerName, timestamp: number, now: number, at: number): string | undefined {
    const skew = Math.abs(timestamp - now);
    if (skew <= MAX_SKEW_S) return undefined;
    const differ = `the clocks of ${from} and this host differ by ${skew} s, more than ${MAX_SKEW_S} s`;
    const text = `ignoring names of peer ${from}: ${differ}; set the clocks of both hosts`;
    this.#last = { text, at };
    return text;
  }

  /** Return why the names of a peer are refused at the moment, for status. */
  note(at: number): string | undefined {
    return this.#last && at - this.#last.at < SKEW_SHOWN_MS ? this.#last.text : undefined;
  }
}

/** Return why an entry is invalid, as the end of "ignoring names …"; undefined for a valid one. */
export function unsoundness(
  { hostname, containerId, version, tombstone }: Entry,
  now: number,
): string | undefined {
  if (!isFullyQualified(hostname) || containerId.length > MAX_CONTAINER_ID)
    return "that are not domain names";
  // One deleted in the future would never be forgotten.
  const timed = tombstone >= 0 && tombstone <= now + MAX_SKEW_S;
  return timed && version >= 0 && version <= MAX_VERSION ? undefined : "with versions or times out of range";
}

/** Return the correction of a peer's entry for one of our names; undefined where `ours` agrees or supersedes it. */
export function correction(ours: Entry | undefined, theirs: Entry, now: number): Entry | undefined {
  if (!ours) return theirs.tombstone > 0 ? undefined : tombstoned(theirs, now);
  // Our clock was ahead at the deletion, and peers ignore tombstones from the future: send one with the current time.
  if (ours.tombstone > now + MAX_SKEW_S)
    return tombstoned({ ...ours, version: Math.max(ours.version, theirs.version) }, now);
  const contradicts =
    ours.version < theirs.version || (ours.version === theirs.version && ours.tombstone !== theirs.tombstone);
  return contradicts ? { ...ours, version: nextVersion(theirs.version) } : undefined;
}
