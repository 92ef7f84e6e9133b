// Decodes what peers announce once for all routers of a process: a thousand of them hear the same of a thousand, and share it.
// Streams of originals, of liars and malformed ones are decoded as ever.
import { concat } from "../../lib/bytes/concat.ts";
import { atOnce, type Work } from "../../lib/clock/slices.ts";
import { GobError, messageLength } from "../../lib/gob/cursor.ts";
import { UNKNOWN_PEER } from "../../lib/mesh/name.ts";
import type { Wanted } from "../../lib/mesh/peer.ts";
import {
  encodeTopology,
  Peer,
  type PeerSummary,
  type PeerUpdate,
  readTopology,
} from "../../lib/mesh/peer.ts";

const MAX_LENGTH = 10 * 1024 * 1024;
/** Distinct announcements that are kept. */
const MAX_KEPT = 100_000;

/** Return the end of the message at `at`; undefined where it is incomplete. Throws GobError. */
function endOf(bytes: Uint8Array, at: number): number | undefined {
  const length = at < bytes.length ? messageLength(bytes, at, MAX_LENGTH) : undefined;
  return length === undefined || at + length > bytes.length ? undefined : at + length;
}

/** What describes the types in our streams, in front of the first peer's summary, and of its connections. */
const [SUMMARY_TYPES, CONNECTIONS_TYPES] = (() => {
  const stream = encodeTopology([Peer.placeholder(UNKNOWN_PEER)]);
  const ends: number[] = [];
  for (let at = endOf(stream, 0); at !== undefined; at = endOf(stream, at)) ends.push(at);
  const [summaryTypes = 0, summary = 0, , types = 0] = ends;
  return [
    Buffer.from(stream.subarray(0, summaryTypes)),
    Buffer.from(stream.subarray(summary, types)),
  ] as const;
})();

const has = (bytes: Buffer, at: number, part: Buffer) =>
  at + part.length <= bytes.length && bytes.compare(part, 0, part.length, at, at + part.length) === 0;

interface Known {
  readonly summary: Buffer;
  readonly connections: Buffer;
  readonly update: PeerUpdate;
}

/** Return a reader of topology updates with a memory. */
export function sharedTopologyReader(): typeof readTopology {
  const known = new Map<number, Known>();

  /** Return what a peer announces; undefined where it is malformed. */
  function decode(summary: Buffer, connections: Buffer): PeerUpdate | undefined {
    const key = Bun.hash.xxHash32(summary);
    const found = known.get(key);
    if (found?.summary.equals(summary) && found.connections.equals(connections)) return found.update;
    const stream = concat([SUMMARY_TYPES, summary, CONNECTIONS_TYPES, connections]);
    try {
      const [update, ...more] = atOnce(readTopology(stream, () => "all"));
      if (!update || more.length > 0) return undefined;
      if (known.size >= MAX_KEPT) known.clear();
      known.set(key, { summary: Buffer.from(summary), connections: Buffer.from(connections), update });
      return update;
    } catch {
      return undefined;
    }
  }

  /** Return what the peers of a stream announce; undefined where it is none of ours, or malformed. */
  function* decodeAll(bytes: Buffer): Work<PeerUpdate[] | undefined> {
    if (!has(bytes, 0, SUMMARY_TYPES)) return undefined;
    const updates: PeerUpdate[] = [];
    for (let at = SUMMARY_TYPES.length; at < bytes.length; ) {
      const summaryEnd = endOf(bytes, at);
      if (summaryEnd === undefined) return undefined;
      if (updates.length === 0 && !has(bytes, summaryEnd, CONNECTIONS_TYPES)) return undefined;
      const from = summaryEnd + (updates.length === 0 ? CONNECTIONS_TYPES.length : 0);
      const end = endOf(bytes, from);
      const update = end !== undefined && decode(bytes.subarray(at, summaryEnd), bytes.subarray(from, end));
      if (!update) return undefined;
      updates.push(update);
      at = end;
      yield;
    }
    return updates.length > 0 ? updates : undefined;
  }

  return function* (bytes: Uint8Array, wanted: (summary: PeerSummary) => Wanted): Work<PeerUpdate[]> {
    let updates: PeerUpdate[] | undefined;
    try {
      updates = yield* decodeAll(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length));
    } catch (error) {
      if (!(error instanceof GobError)) throw error;
    }
    if (!updates) return yield* readTopology(bytes, wanted);
    return updates.flatMap((update) => {
      const want = wanted(update.summary);
      if (want === "nothing") return [];
      return want === "all" ? [update] : [{ summary: update.summary, connections: "not wanted" as const }];
    });
  };
}
