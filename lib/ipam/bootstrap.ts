// The first ring: when to propose one, whom to send votes to, and what is saved (weave: ipam/allocator.go). The vote
// itself is consensus.ts.

import { type AddressRange, cidrRange, formatRange } from "../address/ipv4.ts";
import type { Timer } from "../clock/clock.ts";
import { Soon } from "../clock/soon.ts";
import type { PeerName } from "../mesh/name.ts";
import type { Limit } from "../sys/limit.ts";
import { reasonOf } from "../sys/reason.ts";
import type { AllocatorConfig, AllocatorDependencies } from "./config.ts";
import { Consensus, type ConsensusState } from "./consensus.ts";
import type { RingMessenger } from "./messenger.ts";

/**
 * The first round begins within so many milliseconds for each peer of a quorum, at random: of hundreds that start at
 * once a few begin, and the others hear of it first.
 */
const FIRST_ROUND_MS = 2;

/** Timeout of a round (up to twice as long), after which another begins: for its proposer, for other electors. */
const OWN_ROUND_MS = 2_500;
const OTHERS_ROUND_MS = 10_000;

/** Votes are counted once a millisecond for each participant has passed, and at most this. */
const MAX_COUNTING_MS = 100;

/** Interval at which to look whether named peers have been heard. */
const UNHEARD_INTERVAL_MS = 250;

export class RingBootstrap {
  /** We as a participant; undefined for observers, and once there is a ring. */
  #consensus: Consensus | undefined;
  #awaited = false;
  readonly #counting: Soon;
  #round: Timer | undefined;

  constructor(
    private readonly config: AllocatorConfig,
    private readonly dependencies: Pick<AllocatorDependencies, "clock" | "random" | "log" | "store">,
    private readonly messenger: Pick<RingMessenger, "vote" | "broadcast">,
    /** The peers have agreed to divide the range among these. */
    private readonly agreed: (peers: readonly PeerName[]) => void,
  ) {
    this.#counting = new Soon(dependencies.clock, () => {
      if (this.#consensus?.think()) this.#sendVote();
      this.#conclude();
    });
    if (!config.observer) this.#consensus = this.#participant();
  }

  /** Our participant: the one of our last life where it has promised or accepted anything for this range. */
  #participant(): Consensus {
    const { ourName, ourUid } = this.config;
    const vote = this.dependencies.store.loadVote();
    const { range = this.#range } = vote ?? {};
    const isOurs = vote?.id.name === ourName && formatRange(range) === formatRange(this.#range);
    return isOurs ? new Consensus(vote.id, vote.claims) : new Consensus({ name: ourName, uid: ourUid });
  }

  get #range(): AddressRange {
    return cidrRange(this.config.universe);
  }

  /** A request waits for the first ring. */
  get awaited(): boolean {
    return this.#awaited;
  }

  get isElector(): boolean {
    return this.#consensus !== undefined;
  }

  /** The participants that we know of, and the quorum; 0 where we do not vote. */
  get progress(): { readonly elector: boolean; readonly known: number; readonly quorum: number } {
    const { state, quorum = 0 } = this.#consensus ?? {};
    return { elector: this.isElector, known: state?.size ?? 0, quorum };
  }

  get limits(): Limit[] {
    return this.#consensus ? [this.#consensus.limit] : [];
  }

  /** Named peers that may know a ring and have not been heard: until then we neither propose nor vote. */
  get unheard(): readonly string[] {
    return this.config.unheard?.() ?? [];
  }

  /** What we know of all votes; undefined where we do not vote. */
  get votes(): ConsensusState | undefined {
    return this.unheard.length > 0 ? undefined : this.#consensus?.state;
  }

  /** Begin to agree with other peers, unless that has begun. */
  begin(): void {
    if (this.#awaited) return;
    this.#awaited = true;
    if (!this.#consensus) return this.messenger.broadcast();
    const missing = this.unheard;
    if (missing.length > 0) {
      this.dependencies.log.info("waiting for peers before dividing the range", { peers: missing });
    }
    this.#beginOnceHeard();
  }

  #beginOnceHeard(): void {
    if (!this.#awaited || !this.#consensus) return;
    if (this.unheard.length > 0) {
      this.#round = this.dependencies.clock.after(UNHEARD_INTERVAL_MS, () => this.#beginOnceHeard());
      return;
    }
    const { ourName, isKnownPeer } = this.config;
    const { proposer } = this.#consensus;
    const quorum = this.config.quorum();
    this.#consensus.quorum = quorum;
    this.dependencies.log.info("assuming a quorum", { quorum });
    // Two proposers would only delay each other.
    if (proposer !== undefined && proposer !== ourName && isKnownPeer(proposer)) this.#proposeLater();
    else if (quorum > 1) this.#proposeBetween(0, FIRST_ROUND_MS * quorum);
    else this.#propose();
    this.#conclude();
  }

  /** Merge what a peer knows of all votes. */
  update(state: ConsensusState): void {
    if (this.unheard.length > 0) return;
    if (this.#consensus?.update(state)) this.#countSoon();
  }

  /** While we wait: show the proposer that we do; one that has the outcome sends it in return. */
  remind(): void {
    if (!this.#awaited || this.unheard.length > 0) return;
    const { proposer } = this.#consensus ?? {};
    if (!this.#consensus) this.messenger.broadcast();
    else if (proposer !== undefined && proposer !== this.config.ourName) this.messenger.vote(proposer);
  }

  /** There is a ring. */
  end(): void {
    this.#awaited = false;
    this.#round?.cancel();
    this.#consensus = undefined;
  }

  stop(): void {
    this.#round?.cancel();
    this.#counting.stop();
  }

  /**
   * Propose unless this round ends in time; sooner where it is ours and no rival goes first. At random: the first to do
   * it makes the others wait.
   */
  #proposeLater(): void {
    const { proposer, rivals = [] } = this.#consensus ?? {};
    const ours = proposer === this.config.ourName && !rivals.some(this.config.isKnownPeer);
    const round = ours ? OWN_ROUND_MS : OTHERS_ROUND_MS;
    this.#proposeBetween(round, 2 * round);
  }

  #proposeBetween(ms: number, endMs: number): void {
    const { clock, random } = this.dependencies;
    this.#round?.cancel();
    this.#round = clock.after(ms + (endMs - ms) * random.float(), () => {
      if (this.#awaited) this.#propose();
    });
  }

  #propose(): void {
    this.#consensus?.propose();
    this.#sendVote();
  }

  /**
   * Save our vote, which has to bind us after a restart too, and send it to the proposer, which counts; broadcast it
   * where we are the proposer, or cannot reach it. If every peer broadcast, hundreds that start at once would drown.
   */
  #sendVote(): void {
    if (!this.#consensus) return;
    const { proposer } = this.#consensus;
    if (this.#awaited) this.#proposeLater();
    try {
      this.dependencies.store.saveVote({ ...this.#consensus.own, range: this.#range });
      if (proposer === undefined || proposer === this.config.ourName || !this.messenger.vote(proposer))
        this.messenger.broadcast();
    } catch (error) {
      this.dependencies.log.error(reasonOf(error));
    }
  }

  /** Count the votes that arrive at about the same time together. */
  #countSoon(): void {
    const participants = this.#consensus?.state.size ?? 0;
    this.#counting.within(Math.min(participants, MAX_COUNTING_MS));
  }

  #conclude(): void {
    const agreed = this.#consensus?.agreed();
    if (agreed) this.agreed(agreed);
  }
}
