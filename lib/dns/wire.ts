// The wire format of names on channel "nameserver" (weave: nameserver/entry.go). Gob names are Go's.
import { atOnce, type Work } from "../clock/slices.ts";
import { GobReader } from "../gob/decoder.ts";
import { GobEncoder } from "../gob/encoder.ts";
import { type GobValue, int, int64, slice, string, struct, uint, uint64 } from "../gob/type.ts";
import { nameFromNumber, nameToNumber } from "../mesh/name.ts";
import { compareEntries, type Entry } from "./entry.ts";

export const CHANNEL = "nameserver";

const EntryType = struct("Entry", {
  ContainerID: string,
  Origin: uint64,
  Addr: uint(32),
  Hostname: string,
  // What no honest peer says is passed on by honest ones: it must not end their connections.
  Version: int64,
  Tombstone: int64,
});
const GossipType = struct("GossipData", { Timestamp: int(53), Entries: slice(EntryType, "Entries") });

export interface NamesMessage {
  /** Seconds since the epoch at the sender. */
  readonly timestamp: number;
  readonly entries: readonly Entry[];
}

/** Entries are sent in order; none twice. */
export function encodeNames(message: NamesMessage, encoder = new GobEncoder()): Uint8Array {
  return encoder.encode(GossipType, {
    Timestamp: message.timestamp,
    Entries: message.entries.toSorted(compareEntries).map((entry) => ({
      ContainerID: entry.containerId,
      Origin: nameToNumber(entry.origin),
      Addr: entry.address,
      Hostname: entry.hostname,
      Version: BigInt(entry.version),
      Tombstone: BigInt(entry.tombstone),
    })),
  });
}

/**
 * Decode names in steps, and pass them to `take` in parts: a message of 10 MB holds more names than fit in memory. Versions and
 * tombstones may be any 64-bit numbers; those that are not safe integers are rounded. Return the timestamp. Throws GobError or
 * PeerNameError, possibly after calls of `take`.
 */
export function* readNames(bytes: Uint8Array, take: (part: NamesMessage) => void): Work<number> {
  const { Timestamp } = yield* new GobReader(bytes).readParts(
    GossipType,
    "Entries",
    ({ Timestamp: timestamp }, part) => take({ timestamp, entries: part.map(entryOf) }),
  );
  return Timestamp;
}

/** Decodes names at once; throws GobError or PeerNameError. */
export function decodeNames(bytes: Uint8Array): NamesMessage {
  const all: Entry[] = [];
  const timestamp = atOnce(
    readNames(bytes, ({ entries }) => {
      all.push(...entries);
    }),
  );
  return { timestamp, entries: all };
}

function entryOf(entry: GobValue<typeof EntryType>): Entry {
  return {
    hostname: entry.Hostname,
    origin: nameFromNumber(entry.Origin),
    containerId: entry.ContainerID,
    address: entry.Addr,
    version: Number(entry.Version),
    tombstone: Number(entry.Tombstone),
  };
}
