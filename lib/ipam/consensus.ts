// How peers that start together agree on who gets which part of the range: Paxos by gossip (weave: ipam/paxos).
// Everybody gossips everything known of everybody's promises and acceptances; whoever sees a quorum knows the outcome.
// A participant has to stand by its word: whoever restarts it gives it what it had claimed, under the same id.
import type { PeerName } from "../mesh/name.ts";

/** A participant: a peer in one of its lives. */
export interface NodeId {
  readonly name: PeerName;
  readonly uid: bigint;
}

/** A round and who proposed in it. Round 0 is none. */
export interface ProposalId {
  readonly round: number;
  readonly proposer: NodeId;
}

export interface AcceptedValue {
  /** The peers that the range is to be divided among. */
  readonly value: readonly PeerName[];
  readonly origin: ProposalId;
}

export interface Claims {
  readonly promise: ProposalId;
  readonly accepted: ProposalId;
  readonly acceptedValue: AcceptedValue;
}

/** What is known of each participant. */
export type ConsensusState = ReadonlyMap<string, { readonly id: NodeId; readonly claims: Claims }>;

/** Rounds are saved and sent in 32 bits; in the last one a liar can only hold the others up. */
const MAX_ROUND = 2 ** 32 - 1;
/** Participants that are known at most: more than peers that start together. */
const MAX_PARTICIPANTS = 4_096;

const NOBODY: NodeId = { name: "00:00:00:00:00:00" as PeerName, uid: 0n };
export const NO_PROPOSAL: ProposalId = { round: 0, proposer: NOBODY };
const NO_CLAIMS: Claims = {
  promise: NO_PROPOSAL,
  accepted: NO_PROPOSAL,
  acceptedValue: { value: [], origin: NO_PROPOSAL },
};

/** A key by which participants are told apart. */
export function nodeKey(id: NodeId): string {
  return `${id.name}/${id.uid}`;
}

function compare(a: ProposalId, b: ProposalId): number {
  if (a.round !== b.round) return a.round - b.round;
  if (a.proposer.name !== b.proposer.name) return a.proposer.name < b.proposer.name ? -1 : 1;
  const uids = a.proposer.uid - b.proposer.uid;
  return uids < 0n ? -1 : uids > 0n ? 1 : 0;
}

const same = (a: ProposalId, b: ProposalId) => compare(a, b) === 0;
const precedes = (a: ProposalId, b: ProposalId) => compare(a, b) < 0;

/** One participant's view. */
export class Consensus {
  readonly #known = new Map<string, { id: NodeId; claims: Claims }>();
  readonly #key: string;
  quorum = 0;

  constructor(
    private readonly id: NodeId,
    claims: Claims = NO_CLAIMS,
  ) {
    this.#key = nodeKey(id);
    if (claims !== NO_CLAIMS) this.#set(claims);
  }

  /** Who proposes in the round that we have promised to follow; undefined before any. */
  get proposer(): PeerName | undefined {
    const { promise } = this.#own();
    return promise.round > 0 ? promise.proposer.name : undefined;
  }

  /** Others who have proposed, with names that go before ours: where there are several, one alone should go on. */
  get rivals(): PeerName[] {
    return [...this.#known.values()]
      .filter(({ id, claims }) => id.name > this.id.name && claims.promise.proposer.name === id.name)
      .map(({ id }) => id.name);
  }

  /** What we have promised and accepted. */
  get own(): { readonly id: NodeId; readonly claims: Claims } {
    return { id: this.id, claims: this.#own() };
  }

  get state(): ConsensusState {
    return this.#known;
  }

  /** Merges what a peer knows; true when any of it was new. */
  update(from: ConsensusState): boolean {
    let changed = false;
    for (const [key, { id, claims: theirs }] of from) {
      const ours = this.#known.get(key)?.claims;
      if (!ours && this.#known.size >= MAX_PARTICIPANTS) continue;
      const claims: Claims = !ours
        ? theirs
        : {
            promise: precedes(ours.promise, theirs.promise) ? theirs.promise : ours.promise,
            ...(precedes(ours.accepted, theirs.accepted) ? acceptance(theirs) : acceptance(ours)),
          };
      if (!ours || !equal(ours, claims)) {
        changed = true;
        this.#known.set(key, { id, claims });
      }
    }
    return changed;
  }

  /** Begins a new round. */
  propose(): void {
    let round = 0;
    for (const { claims } of this.#known.values()) {
      round = Math.max(round, claims.promise.round, claims.accepted.round);
    }
    this.#set({ ...this.#own(), promise: { round: Math.min(round + 1, MAX_ROUND), proposer: this.id } });
    // Alone there is nobody to wait for.
    if (this.quorum === 1) this.think();
  }

  /** Draws conclusions from what is known; true when that changed our own claims, which others then should hear. */
  think(): boolean {
    let ours = this.#own();
    for (const { claims } of this.#known.values()) {
      if (precedes(ours.promise, claims.promise)) ours = { ...ours, promise: claims.promise };
    }
    if (nodeKey(ours.promise.proposer) === this.#key) ours = this.#concludeProposal(ours);
    for (const { claims } of this.#known.values()) {
      if (same(claims.accepted, ours.promise)) {
        ours = { ...ours, ...acceptance(claims) };
        break;
      }
    }
    if (equal(ours, this.#own())) return false;
    this.#set(ours);
    return true;
  }

  /** With a quorum of promises for our proposal, we accept: what was accepted before, else everybody known. */
  #concludeProposal(ours: Claims): Claims {
    let promised = 0;
    let latest = NO_CLAIMS;
    for (const { claims } of [...this.#known.values()]) {
      if (!same(claims.promise, ours.promise)) continue;
      promised++;
      if (precedes(latest.accepted, claims.accepted)) latest = claims;
    }
    if (promised < this.quorum) return ours;
    const fresh = { value: Array.from(this.#known.values(), ({ id }) => id.name), origin: ours.promise };
    const acceptedValue = latest.accepted.round > 0 ? latest.acceptedValue : fresh;
    return { ...ours, accepted: ours.promise, acceptedValue };
  }

  /** The value agreed on, once a quorum has accepted it. */
  agreed(): readonly PeerName[] | undefined {
    if (this.quorum === 0) return undefined;
    const counts = new Map<string, number>();
    for (const { claims } of this.#known.values()) {
      if (claims.accepted.round === 0) continue;
      const { origin, value } = claims.acceptedValue;
      const key = `${origin.round} ${nodeKey(origin.proposer)}`;
      const count = (counts.get(key) ?? 0) + 1;
      counts.set(key, count);
      if (count >= this.quorum) return value;
    }
    return undefined;
  }

  #own(): Claims {
    return this.#known.get(this.#key)?.claims ?? NO_CLAIMS;
  }

  #set(claims: Claims): void {
    this.#known.set(this.#key, { id: this.id, claims });
  }
}

function acceptance(claims: Claims): Pick<Claims, "accepted" | "acceptedValue"> {
  return { accepted: claims.accepted, acceptedValue: claims.acceptedValue };
}

function equal(a: Claims, b: Claims): boolean {
  return (
    same(a.promise, b.promise) &&
    same(a.accepted, b.accepted) &&
    same(a.acceptedValue.origin, b.acceptedValue.origin)
  );
}
