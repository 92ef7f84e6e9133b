// The original's state file: a bolt database with gob values (weave: db/boltdb.go, ipam/allocator.go).
import { GobReader } from "../gob/decoder.ts";
import { bool, int, map, slice, string, struct, uint, uint64 } from "../gob/type.ts";
import type { Holder, SavedRing } from "../ipam/saved.ts";
import { RingType, ringFromWire } from "../ipam/wire.ts";
import { nameFromNumber, type PeerName } from "../mesh/name.ts";
import { boltBucket } from "./bolt.ts";

/** The part of its state that is taken over. */
export interface OriginalState {
  readonly peer: PeerName | undefined;
  readonly ring: SavedRing | undefined;
  /** Addresses by holder. */
  readonly holders: ReadonlyMap<string, Holder>;
  /** Peers given to it as targets. */
  readonly targets: readonly string[];
  /** It was in the list of a Kubernetes cluster's peers. */
  readonly listed: boolean;
}

const Cidr = struct("CIDR", { Addr: uint(32), PrefixLen: int(32) });
const OwnedType = map(
  string,
  struct("ownedData", { IsContainer: bool, Cidrs: slice(Cidr, "[]address.CIDR") }),
);

/** Decode the file. Throws BoltError, GobError or PeerNameError if it is damaged. */
export function readOriginalState(file: Uint8Array): OriginalState {
  const values = boltBucket(file, "top") ?? new Map<string, Uint8Array>();
  const read = <T>(key: string, decode: (reader: GobReader) => T): T | undefined => {
    const bytes = values.get(key);
    return bytes && decode(new GobReader(bytes));
  };
  const owned = read("ownedAddresses", (reader) => reader.read(OwnedType));
  return {
    peer: read("peername", (reader) => nameFromNumber(reader.read(uint64))),
    ring: read("ring", (reader) => ringFromWire(reader.read(RingType))),
    holders: new Map(
      Array.from(owned ?? [], ([id, { IsContainer, Cidrs }]) => [
        id,
        {
          isContainer: IsContainer,
          cidrs: Cidrs.map(({ Addr, PrefixLen }) => ({ address: Addr, prefix: PrefixLen })),
        },
      ]),
    ),
    targets: read("directPeers", (reader) => reader.read(slice(string, "[]string"))) ?? [],
    listed: values.has("flag:peer-reclaim"),
  };
}
