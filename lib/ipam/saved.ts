// What the allocator keeps on disk: the ring, its vote on the first one, holders and gateways.
import * as v from "valibot";
import { type AddressRange, type Cidr, cidrRange, type IPv4 } from "../address/ipv4.ts";
import type { Work } from "../clock/slices.ts";
import { type PeerName, parsePeerName } from "../mesh/name.ts";
import type { Store } from "../store/store.ts";
import type { Claims, NodeId } from "./consensus.ts";
import { packEntries, packInSteps, unpackEntries } from "./packed.ts";
import { checkInSteps, type Entry, type RingState } from "./ring/entry.ts";
import { Ring } from "./ring/ring.ts";

const Address = v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(2 ** 32));
const Count = v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(2 ** 32));
const Name = v.pipe(v.string(), v.transform(parsePeerName));
/** A version of an entry. Earlier releases counted beyond the 32 bits that it has on the wire. */
const Version = v.pipe(
  v.number(),
  v.integer(),
  v.minValue(0),
  v.transform((version) => Math.min(version, 2 ** 32 - 1)),
);

/** Throw RingError for a ring that cannot be loaded: a router would refuse it at every start. */
const checkLoadable = (ring: SavedRing) => new Ring(ring.start, ring.end, ring.peer).restore(ring);

const Entries = v.union([
  v.pipe(v.string(), v.transform(unpackEntries)),
  // Of earlier versions.
  v.array(v.object({ token: Address, peer: Name, version: Version, free: Count })),
]);

const RingSchema = v.pipe(
  v.object({
    peer: Name,
    start: Address,
    end: Address,
    entries: Entries,
    seeds: v.array(Name),
    alone: v.optional(v.boolean(), false),
  }),
  v.transform((ring) => {
    checkLoadable(ring);
    return ring;
  }),
);

/** A ring that was checked as it is, and packed: to read it again takes as long as to write it. */
const WrittenRing = v.custom<Omit<SavedRing, "entries"> & { readonly entries: string }>(
  (value) => typeof value === "object",
);

const Uid = v.pipe(
  v.string(),
  v.regex(/^\d{1,20}$/),
  v.transform((text) => BigInt(text)),
);
const NodeSchema = v.object({ name: Name, uid: Uid });
const ProposalSchema = v.object({ round: Count, proposer: NodeSchema });
const VoteSchema = v.object({
  id: NodeSchema,
  range: v.optional(v.object({ start: Address, end: Address })),
  claims: v.object({
    promise: ProposalSchema,
    accepted: ProposalSchema,
    acceptedValue: v.object({ value: v.array(Name), origin: ProposalSchema }),
  }),
});

const HolderSchema = v.object({
  isContainer: v.boolean(),
  cidrs: v.array(
    v.object({
      address: Address,
      prefix: v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(32)),
      attachment: v.optional(v.string()),
    }),
  ),
});

/**
 * An address of a holder. `attachment` is the interface that it is for, "NETWORK/INTERFACE" as CNI names them; undefined
 * for one attached by hand, or saved by an older version or the original.
 */
export interface Lease extends Cidr {
  readonly attachment?: string | undefined;
}

/** A holder of addresses: a container, or a name such as "weave:expose". */
export interface Holder {
  readonly isContainer: boolean;
  readonly cidrs: readonly Lease[];
}

/** What a peer has promised and accepted in the consensus on the first ring. */
interface Vote {
  readonly id: NodeId;
  readonly claims: Claims;
  /** The range that the ring is for; earlier versions did not save it. */
  readonly range?: AddressRange | undefined;
}

export type SavedRing = RingState & {
  readonly peer: RingState["seeds"][number];
  /** We made it for ourselves, and no other peer has it. */
  readonly alone?: boolean;
};

/** The disk of the allocator. Methods that save throw StoreError where they have not saved. */
export interface AllocatorStore {
  /** Of the file, for messages. */
  readonly path: string;
  loadRing(): SavedRing | undefined;
  /** Save a ring so that it survives a power cut; `soon`, as soon as the kernel writes it. */
  saveRing(ring: SavedRing, soon?: boolean): void;
  /** Prepare to save this ring, in steps. Throws RingError for one that cannot be loaded. */
  prepareRing?(ring: RingState): Work;
  loadVote(): Vote | undefined;
  saveVote(vote: Vote): void;
  loadHolders(): Map<string, Holder>;
  /** Save what one holder has; undefined for nothing any more. */
  saveHolder(id: string, owned: Holder | undefined): void;
  forgetHolders(): void;
  loadGateways(): readonly IPv4[];
  saveGateways(addresses: readonly IPv4[]): void;
}

const ROOM = "ipam";
const HOLDERS = "holders";
const RING = "ring";
const VOTE = "vote";
const GATEWAYS = "gateways";

// JSON has no 64-bit numbers.
const plain = (value: unknown) =>
  JSON.parse(JSON.stringify(value, (_, part) => (typeof part === "bigint" ? String(part) : part)));

export function allocatorStore(store: Store): AllocatorStore {
  const rings = store.rows(ROOM, RingSchema);
  const writtenRings = store.rows(ROOM, WrittenRing);
  const votes = store.rows(ROOM, VoteSchema);
  const holders = store.rows(HOLDERS, HolderSchema);
  const gateways = store.rows(ROOM, v.array(Address));
  /** Packed entries of the ring to save next. */
  let packed: { readonly of: readonly Entry[]; readonly text: string } | undefined;
  return {
    path: store.path,
    loadRing: () => rings.get(RING),
    // Peers act on what we say of our ranges: a power cut must not take it back.
    saveRing(ring, soon = false) {
      const { peer, start, end, entries, seeds, alone = false } = ring;
      if (packed?.of !== entries) checkLoadable(ring);
      const text = packed?.of === entries ? packed.text : packEntries(entries);
      packed = undefined;
      const write = () => writtenRings.set(RING, { peer, start, end, entries: text, seeds, alone });
      if (soon) write();
      else store.durably(write);
    },
    *prepareRing(ring) {
      const { entries } = ring;
      yield* checkInSteps(entries, ring);
      packed = { of: entries, text: yield* packInSteps(entries) };
    },
    loadVote: () => votes.get(VOTE),
    saveVote: (vote) => store.durably(() => votes.set(VOTE, plain(vote))),
    loadHolders: () => holders.all(),
    saveHolder(id, owned) {
      if (owned) holders.set(id, { isContainer: owned.isContainer, cidrs: [...owned.cidrs] });
      else holders.delete(id);
    },
    forgetHolders: () => holders.clear(),
    loadGateways: () => gateways.get(GATEWAYS) ?? [],
    saveGateways: (addresses) => gateways.set(GATEWAYS, [...addresses]),
  };
}

/** Return the ranges that a peer owned when it last saved its ring; none where that was of another peer or universe. */
export function savedRanges(store: Store, peer: PeerName, universe: Cidr): readonly AddressRange[] {
  const saved = allocatorStore(store).loadRing();
  const { start, end } = cidrRange(universe);
  if (saved?.peer !== peer || saved.start !== start || saved.end !== end) return [];
  const ring = new Ring(start, end, peer);
  ring.restore(saved);
  return ring.ownedRanges();
}

/** Delete the ring, the vote, holders and gateways. */
export function forgetAddresses(store: Store): void {
  for (const room of [ROOM, HOLDERS]) store.rows(room, v.unknown()).clear();
}
