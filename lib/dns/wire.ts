// The wire format of names on channel "nameserver" (weave: nameserver/entry.go). Gob names are Go's.
import { GobReader } from "../gob/decoder.ts";
import { GobEncoder } from "../gob/encoder.ts";
import { int, slice, string, struct, uint, uint64 } from "../gob/type.ts";
import { nameFromNumber, nameToNumber } from "../mesh/name.ts";
import { compareEntries, type Entry } from "./entry.ts";

export const CHANNEL = "nameserver";

const EntryType = struct("Entry", {
  ContainerID: string,
  Origin: uint64,
  Addr: uint(32),
  Hostname: string,
  Version: int(53),
  Tombstone: int(53),
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
      Version: entry.version,
      Tombstone: entry.tombstone,
    })),
  });
}

/** Throws GobError or PeerNameError. */
export function decodeNames(bytes: Uint8Array): NamesMessage {
  const { Timestamp, Entries } = new GobReader(bytes).read(GossipType);
  return {
    timestamp: Timestamp,
    entries: Entries.map((entry) => ({
      hostname: entry.Hostname,
      origin: nameFromNumber(entry.Origin),
      containerId: entry.ContainerID,
      address: entry.Addr,
      version: entry.Version,
      tombstone: entry.Tombstone,
    })),
  };
}
