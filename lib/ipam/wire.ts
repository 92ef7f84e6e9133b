// Wire format of IPAM: the state gossiped on channel "IPallocation", and the messages by which peers ask for space (weave:
// ipam/allocator.go). Gob names are those of the Go types.
import type { AddressRange } from "../address/ipv4.ts";
import { atOnce, mapInSteps, type Work } from "../clock/slices.ts";
import { GobReader } from "../gob/decoder.ts";
import { GobEncoder } from "../gob/encoder.ts";
import { type GobValue, int64, map, pointer, slice, string, struct, uint, uint64 } from "../gob/type.ts";
import { encodeTagged } from "../mesh/message.ts";
import { nameFromNumber, nameToNumber, type PeerName } from "../mesh/name.ts";
import { type Claims, type ConsensusState, type NodeId, nodeKey, type ProposalId } from "./consensus.ts";
import { IpamError } from "./errors.ts";
import { type Entry, MAX_ENTRIES, type SentRing } from "./ring/entry.ts";
import { MAX_SEEDS } from "./ring/merge.ts";

export const CHANNEL = "IPallocation";

/** First byte of a unicast message. */
export const MESSAGE = { spaceRequest: 0, ringUpdate: 1, spaceRequestDenied: 2 } as const;

/** Participants of the consensus, and peers in a division. */
const MAX_PARTICIPANTS = 4_096;

const address = uint(32);
const name = uint64;

// Go leaves out the names of types inside a slice or map that has a name of its own.
const EntryType = struct("", { Token: address, Peer: name, Version: uint(32), Free: uint(32) });
export const RingType = struct("Ring", {
  Start: address,
  End: address,
  Peer: name,
  Entries: slice(EntryType, "entries"),
  Seeds: slice(name, "[]mesh.PeerName", MAX_SEEDS),
});
const NodeIdType = struct("", { Name: name, UID: uint64 });
const ProposalIdType = struct("ProposalID", { Round: uint(53), Proposer: NodeIdType });
const AcceptedValueType = struct("AcceptedValue", {
  Value: slice(name, "Value", MAX_PARTICIPANTS),
  Origin: ProposalIdType,
});
const NodeClaimsType = struct("", {
  Promise: ProposalIdType,
  Accepted: ProposalIdType,
  AcceptedVal: AcceptedValueType,
});
const StateType = struct("gossipState", {
  Now: int64,
  Nicknames: map(name, string, "map[mesh.PeerName]string"),
  Paxos: pointer(map(NodeIdType, NodeClaimsType, "GossipState")),
  Ring: pointer(RingType),
});
const RangeType = struct("Range", { Start: address, End: address });

/** The last round: what we would not write, we do not read. */
const MAX_ROUND = 2 ** 32 - 1;
/** Entries of a ring, or nicknames, between two steps. */
const STEP = 256;
/** Nicknames that are read: twice as many as a ring has owners. Peers of the original pass on all that they were told. */
const MAX_NICKNAMES = 2 * MAX_ENTRIES;

/** What peers gossip. */
export interface IpamState {
  /** Seconds since the epoch at the sender. */
  readonly now: bigint;
  readonly nicknames: ReadonlyMap<PeerName, string>;
  /** Undefined from observers, and once there is a ring. */
  readonly consensus: ConsensusState | undefined;
  /** Undefined before there is one. */
  readonly ring: SentRing | undefined;
}

// The end of a range up to 255.255.255.255 is 0 in 32 bits.
const wrapEnd = (end: number) => end % 2 ** 32;
const unwrapEnd = (end: number) => end || 2 ** 32;

/** Encode a state at once. */
export function encodeState(state: IpamState, encoder?: GobEncoder): Uint8Array {
  return atOnce(writeState(state, encoder));
}

/** Encode a state in slices. */
export function* writeState(state: IpamState, encoder = new GobEncoder()): Work<Uint8Array> {
  const { ring, consensus } = state;
  const wire = {
    Now: state.now,
    Nicknames: new Map(Array.from(state.nicknames, ([peer, nickname]) => [nameToNumber(peer), nickname])),
    Paxos:
      consensus &&
      new Map(Array.from(consensus.values(), ({ id, claims }) => [idToWire(id), claimsToWire(claims)])),
    Ring: ring && {
      Start: ring.start,
      End: wrapEnd(ring.end),
      Peer: nameToNumber(ring.peer),
      Entries: yield* mapInSteps(ring.entries, STEP, ({ token, peer, version, free }) => ({
        Token: token,
        Peer: nameToNumber(peer),
        Version: version,
        Free: free,
      })),
      Seeds: ring.seeds.map(nameToNumber),
    },
  };
  return yield* encoder.encodeSliced(StateType, wire, STEP);
}

/** Decode a state at once; throws GobError, PeerNameError or IpamError. */
export function decodeState(bytes: Uint8Array): IpamState {
  return atOnce(readState(bytes));
}

/** Decode a state in slices. Throws GobError, PeerNameError or IpamError. */
export function* readState(bytes: Uint8Array): Work<IpamState> {
  const wire = yield* new GobReader(bytes).readSliced(StateType);
  const { Paxos, Ring } = wire;
  if (Paxos && Paxos.size > MAX_PARTICIPANTS)
    throw new IpamError(`a consensus of ${Paxos.size} participants`);
  return {
    now: wire.Now,
    nicknames: yield* readNicknames(wire.Nicknames),
    consensus: Paxos && (yield* readConsensus(Paxos)),
    ring: Ring && (yield* readRing(Ring)),
  };
}

function* readNicknames(wire: ReadonlyMap<bigint, string>): Work<Map<PeerName, string>> {
  const nicknames = new Map<PeerName, string>();
  for (const [peer, nickname] of wire) {
    if (nicknames.size >= MAX_NICKNAMES) break;
    if (nicknames.size % STEP === STEP - 1) yield;
    nicknames.set(nameFromNumber(peer), nickname);
  }
  return nicknames;
}

function* readConsensus(
  wire: ReadonlyMap<GobValue<typeof NodeIdType>, GobValue<typeof NodeClaimsType>>,
): Work<ConsensusState> {
  const state = new Map<string, { id: NodeId; claims: Claims }>();
  for (const [wireId, claims] of wire) {
    const id = idFromWire(wireId);
    state.set(nodeKey(id), { id, claims: claimsFromWire(claims) });
    yield;
  }
  return state;
}

/** Convert a decoded ring. Throws PeerNameError. */
export function ringFromWire(ring: GobValue<typeof RingType>): SentRing {
  return atOnce(readRing(ring));
}

function* readRing(ring: GobValue<typeof RingType>): Work<SentRing> {
  const entries = yield* mapInSteps(ring.Entries, STEP, ({ Token, Peer, Version, Free }): Entry => {
    return { token: Token, peer: nameFromNumber(Peer), version: Version, free: Free };
  });
  return {
    start: ring.Start,
    end: unwrapEnd(ring.End),
    peer: nameFromNumber(ring.Peer),
    entries,
    seeds: ring.Seeds.map(nameFromNumber),
  };
}

/** Encode a space request or its denial. */
export function encodeRangeMessage(kind: number, range: AddressRange): Uint8Array {
  const body = new GobEncoder().encode(RangeType, { Start: range.start, End: wrapEnd(range.end) });
  return encodeTagged(kind, body);
}

/** Decode the body of a space request or its denial; throws GobError. */
export function decodeRange(bytes: Uint8Array): AddressRange {
  const { Start, End } = new GobReader(bytes).read(RangeType);
  return { start: Start, end: unwrapEnd(End) };
}

function idToWire({ name: peer, uid }: NodeId): GobValue<typeof NodeIdType> {
  return { Name: nameToNumber(peer), UID: uid };
}

function idFromWire({ Name, UID }: GobValue<typeof NodeIdType>): NodeId {
  return { name: nameFromNumber(Name), uid: UID };
}

function proposalToWire({ round, proposer }: ProposalId): GobValue<typeof ProposalIdType> {
  return { Round: round, Proposer: idToWire(proposer) };
}

function proposalFromWire({ Round, Proposer }: GobValue<typeof ProposalIdType>): ProposalId {
  if (Round > MAX_ROUND) throw new IpamError(`round ${Round} of a consensus`);
  return { round: Round, proposer: idFromWire(Proposer) };
}

function claimsToWire({ promise, accepted, acceptedValue }: Claims): GobValue<typeof NodeClaimsType> {
  return {
    Promise: proposalToWire(promise),
    Accepted: proposalToWire(accepted),
    AcceptedVal: {
      Value: acceptedValue.value.map(nameToNumber),
      Origin: proposalToWire(acceptedValue.origin),
    },
  };
}

function claimsFromWire({
  Promise: promise,
  Accepted,
  AcceptedVal,
}: GobValue<typeof NodeClaimsType>): Claims {
  return {
    promise: proposalFromWire(promise),
    accepted: proposalFromWire(Accepted),
    acceptedValue: {
      value: AcceptedVal.Value.map(nameFromNumber),
      origin: proposalFromWire(AcceptedVal.Origin),
    },
  };
}
