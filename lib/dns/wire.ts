// The wire format of names on channel "nameserver" (weave: nameserver/entry.go). Gob names are Go's.
import { atOnce, type Work } from "../clock/slices.ts";
import { GobReader } from "../gob/decoder.ts";
import { GobEncoder } from "../gob/encoder.ts";
import { int, int64, slice, string, struct, uint, uint64 } from "../gob/type.ts";
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

/** Entries between two steps. */
const STEP = 256;

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
 * Decodes names in steps. Versions and tombstones may be any 64-bit numbers, rounded where these are no safe integers.
 * Throws GobError or PeerNameError.
 */
export function* readNames(bytes: Uint8Array): Work<NamesMessage> {
  const { Timestamp, Entries } = yield* new GobReader(bytes).readSliced(GossipType);
  const entries: Entry[] = [];
  for (const entry of Entries) {
    if (entries.length % STEP === STEP - 1) yield;
    entries.push({
      hostname: entry.Hostname,
      origin: nameFromNumber(entry.Origin),
      containerId: entry.ContainerID,
      address: entry.Addr,
      version: Number(entry.Version),
      tombstone: Number(entry.Tombstone),
    });
  }
  return { timestamp: Timestamp, entries };
}

/** Decodes names at once; throws GobError or PeerNameError. */
export function decodeNames(bytes: Uint8Array): NamesMessage {
  return atOnce(readNames(bytes));
}
