// Gossip of what peers carry, on a channel that Weave Net 2.x does not have: records that only their own peer changes, merged
// by version. A message is a format byte and records of 20 bytes, numbers big-endian:
//
//   0  name of the peer   6  version (u32)   10  MTU (u16)   12  flags   13  0   14  name of the neighbour that limits it
//
// Versions are serial numbers (RFC 1982): there is no greatest, which an impostor could take.
import { viewOf } from "../../bytes/view.ts";
import type { GossipData } from "../../mesh/gossip.ts";
import { nameFromBytes, nameToBytes, type PeerName } from "../../mesh/name.ts";

const FORMAT = 1;
const RECORD = 20;
const FIXED = 1;
/** Records in one message. */
const MAX_RECORDS = 3_000;

/** What a peer accepts, and carries on all its paths. */
export interface MtuRecord {
  readonly version: number;
  /** Bytes of a frame's payload. */
  readonly mtu: number;
  /** It was chosen by --mtu, not measured. */
  readonly fixed: boolean;
  /** The neighbour on the path that carries least; the peer itself where none does. */
  readonly by: PeerName;
}

export type MtuRecords = ReadonlyMap<PeerName, MtuRecord>;

/** Return the records of a message; none of an unknown format. Throws for a damaged one. */
export function decodeRecords(message: Uint8Array): Map<PeerName, MtuRecord> {
  const records = new Map<PeerName, MtuRecord>();
  if (message[0] !== FORMAT) return records;
  const count = (message.length - 1) / RECORD;
  if (!Number.isInteger(count) || count > MAX_RECORDS)
    throw new Error(`a message on MTUs has ${message.length} bytes`);
  const view = viewOf(message);
  for (let at = 1; at < message.length; at += RECORD) {
    records.set(nameFromBytes(message.subarray(at, at + 6)), {
      version: view.getUint32(at + 6, false),
      mtu: view.getUint16(at + 10, false),
      fixed: (view.getUint8(at + 12) & FIXED) !== 0,
      by: nameFromBytes(message.subarray(at + 14, at + 20)),
    });
  }
  return records;
}

/** Return the message of at most MAX_RECORDS records. */
export function encodeRecords(records: Iterable<readonly [PeerName, MtuRecord]>): Uint8Array {
  const list = [...records];
  const message = new Uint8Array(1 + RECORD * list.length);
  const view = viewOf(message);
  message[0] = FORMAT;
  list.forEach(([name, { version, mtu, fixed, by }], i) => {
    const at = 1 + RECORD * i;
    message.set(nameToBytes(name), at);
    view.setUint32(at + 6, version, false);
    view.setUint16(at + 10, mtu, false);
    view.setUint8(at + 12, fixed ? FIXED : 0);
    message.set(nameToBytes(by), at + 14);
  });
  return message;
}

/** Return the version after another. */
export const nextVersion = (version: number) => (version + 1) >>> 0;

/** Return the newer record; of two of the same version the smaller, so that all peers keep the same. */
export function newerRecord(a: MtuRecord, b: MtuRecord): MtuRecord {
  const ahead = (a.version - b.version) | 0;
  // RFC 1982 leaves open which of two is newer that are half of all numbers apart.
  if (ahead === -(2 ** 31)) return a.version > b.version ? a : b;
  if (ahead !== 0) return ahead > 0 ? a : b;
  if (a.mtu !== b.mtu) return a.mtu < b.mtu ? a : b;
  return a.by <= b.by ? a : b;
}

/** Records on their way. */
export class MtuGossip implements GossipData {
  readonly bytes = 0;

  constructor(private readonly records: MtuRecords) {}

  join(others: readonly GossipData[]): GossipData {
    const joined = new Map(this.records);
    for (const other of others) {
      if (!(other instanceof MtuGossip)) continue;
      for (const [name, record] of other.records) {
        const known = joined.get(name);
        joined.set(name, known ? newerRecord(known, record) : record);
      }
    }
    return new MtuGossip(joined);
  }

  *encode(): Iterable<Uint8Array> {
    const list = [...this.records];
    for (let i = 0; i < list.length; i += MAX_RECORDS) yield encodeRecords(list.slice(i, i + MAX_RECORDS));
  }
}
