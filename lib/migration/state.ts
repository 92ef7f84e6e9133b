// What the original has kept of a host: a file of bolt, its values in gob (weave: db/boltdb.go, ipam/allocator.go).
import { GobReader } from "../gob/decoder.ts";
import { bool, int, map, slice, string, struct, uint, uint64 } from "../gob/type.ts";
import type { Holder, SavedRing } from "../ipam/saved.ts";
import { RingType, ringFromWire } from "../ipam/wire.ts";
import { nameFromNumber, type PeerName } from "../mesh/name.ts";
import { boltBucket } from "./bolt.ts";

/** The state of a host, as far as we take it over. */
export interface OriginalState {
  readonly peer: PeerName | undefined;
  readonly ring: SavedRing | undefined;
  /** Who holds which addresses. */
  readonly holders: ReadonlyMap<string, Holder>;
  /** Peers that it was told to connect to. */
  readonly targets: readonly string[];
  /** It was in the list of a Kubernetes cluster's peers. */
  readonly listed: boolean;
}

const Cidr = struct("CIDR", { Addr: uint(32), PrefixLen: int(32) });
const OwnedType = map(
  string,
  struct("ownedData", { IsContainer: bool, Cidrs: slice(Cidr, "[]address.CIDR") }),
);

/** Reads its file; throws BoltError, GobError or PeerNameError for what is none, or damaged. */
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
