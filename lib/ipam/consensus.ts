// Consensus of peers that start together on the first ring: Paxos by gossip (weave: ipam/paxos). Every peer gossips all
// promises and acceptances that it knows; one that sees a quorum knows the outcome. A participant is bound by what it has
// promised and accepted, so a restarted one has to be given its claims, under the same id.

import type { PeerName } from "../mesh/name.ts";
import type { Limit } from "../sys/limit.ts";

/** A participant: a peer, from one start to the next. */
export interface NodeId {
  readonly name: PeerName;
  readonly uid: bigint;
}

/** A round and its proposer. Round 0 is none. */
export interface ProposalId {
  readonly round: number;
  readonly proposer: NodeId;
}

interface AcceptedValue {
  /** The peers to divide the range among. */
  readonly value: readonly PeerName[];
  readonly origin: ProposalId;
}

export interface Claims {
  readonly promise: ProposalId;
  readonly accepted: ProposalId;
  readonly acceptedValue: AcceptedValue;
}

/** The claims of each participant, by nodeKey(). */
export type ConsensusState = ReadonlyMap<string, { readonly id: NodeId; readonly claims: Claims }>;

/** Rounds are saved and sent in 32 bits; in the last one a liar can only delay the others. */
const MAX_ROUND = 2 ** 32 - 1;
/** Participants; more than peers that start together. */
const MAX_PARTICIPANTS = 4_096;

const NOBODY: NodeId = { name: "00:00:00:00:00:00" as PeerName, uid: 0n };
export const NO_PROPOSAL: ProposalId = { round: 0, proposer: NOBODY };
const NO_CLAIMS: Claims = {
  promise: NO_PROPOSAL,
  accepted: NO_PROPOSAL,
  acceptedValue: { value: [], origin: NO_PROPOSAL },
};

/** Return the key of a participant. */
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

/** The view of one participant. */
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

  /** The proposer of the round that we have promised; undefined before any. */
  get proposer(): PeerName | undefined {
    const { promise } = this.#own();
    return promise.round > 0 ? promise.proposer.name : undefined;
  }

  /** Other proposers with greater names: of several proposers one alone should go on. */
  get rivals(): PeerName[] {
    return [...this.#known.values()]
      .filter(({ id, claims }) => id.name > this.id.name && claims.promise.proposer.name === id.name)
      .map(({ id }) => id.name);
  }

  /** Our own promise and acceptance. */
  get own(): { readonly id: NodeId; readonly claims: Claims } {
    return { id: this.id, claims: this.#own() };
  }

  get limit(): Limit {
    return { name: "participants", value: this.#known.size, max: MAX_PARTICIPANTS };
  }

  get state(): ConsensusState {
    return this.#known;
  }

  /** Merge the view of a peer; return whether any of it was new. */
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

  /** Begin a new round. */
  propose(): void {
    let round = 0;
    for (const { claims } of this.#known.values()) {
      round = Math.max(round, claims.promise.round, claims.accepted.round);
    }
    this.#set({ ...this.#own(), promise: { round: Math.min(round + 1, MAX_ROUND), proposer: this.id } });
    // There is no other peer to wait for.
    if (this.quorum === 1) this.think();
  }

  /** Promise and accept by what is known; return whether our own claims changed, so that peers have to get them. */
  think(): boolean {
    let ours = this.#own();
    for (const { claims } of this.#known.values()) {
      if (precedes(ours.promise, claims.promise)) ours = { ...ours, promise: claims.promise };
    }
    // After a restart, our last proposal is known before the quorum.
    if (this.quorum > 0 && nodeKey(ours.promise.proposer) === this.#key) ours = this.#concludeProposal(ours);
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

  /** With a quorum of promises for our proposal, accept the value accepted last, else all known participants. */
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

  /** Return the value that a quorum has accepted; undefined where there is none. */
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
