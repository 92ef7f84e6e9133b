// The first division of the range: when to propose one, whom to tell of it, and what is remembered (weave:
// ipam/allocator.go). What peers agree on, and how, is consensus.ts.
import type { Timer } from "../clock/clock.ts";
import type { PeerName } from "../mesh/name.ts";
import { reasonOf } from "../sys/reason.ts";
import type { AllocatorConfig, AllocatorDependencies } from "./allocator.ts";
import { Consensus, type ConsensusState } from "./consensus.ts";

/**
 * Who begins a first round does it within so many milliseconds for each peer of a quorum, at random: of hundreds that
 * start at once a few begin, and the others hear of it before they do too.
 */
const FIRST_ROUND_MS = 2;

/** How long (and up to twice as long) a round may take before a new one is begun: by its proposer, by another. */
const OWN_ROUND_MS = 2_500;
const OTHERS_ROUND_MS = 10_000;

/** Votes are counted together that come within a millisecond for each participant, at most within this. */
const MAX_THINKING_MS = 100;

/** Interval at which named peers are looked for that have not been heard. */
const LOOK_MS = 250;

/** How a participant speaks, and what comes of it. */
export interface DivisionHost {
  /** Sends all that we have to a peer; false when there is no way to it. */
  send(to: PeerName): boolean;
  /** Sends it to everybody. */
  broadcast(): void;
  /** The range is to be divided among these. */
  agreed(peers: readonly PeerName[]): void;
}

export class Division {
  /** We as a participant; undefined for observers, and once the range is divided. */
  consensus: Consensus | undefined;
  /** We need the range to be divided. */
  awaited = false;
  #thinking: Timer | undefined;
  #round: Timer | undefined;

  constructor(
    private readonly config: AllocatorConfig,
    private readonly dependencies: AllocatorDependencies,
    private readonly host: DivisionHost,
  ) {
    if (!config.observer) this.consensus = this.#participant();
  }

  /** The one we were, where we had promised or accepted anything. */
  #participant(): Consensus {
    const { ourName, ourUid } = this.config;
    const vote = this.dependencies.store.loadVote();
    return vote?.id.name === ourName
      ? new Consensus(vote.id, vote.claims)
      : new Consensus({ name: ourName, uid: ourUid });
  }

  /** Named peers that may know a ring and have not been heard: until then we neither propose nor vote. */
  get unheard(): readonly string[] {
    return this.config.unheard?.() ?? [];
  }

  /** What we know of everybody's votes; undefined where we do not vote. */
  get votes(): ConsensusState | undefined {
    return this.unheard.length > 0 ? undefined : this.consensus?.state;
  }

  /** Begins to agree with others, unless that has begun. */
  begin(): void {
    if (this.awaited) return;
    this.awaited = true;
    if (!this.consensus) return this.host.broadcast();
    const missing = this.unheard;
    if (missing.length > 0) {
      this.dependencies.log.info("waiting for peers before dividing the range", { peers: missing });
    }
    this.#beginWhenHeard();
  }

  #beginWhenHeard(): void {
    if (!this.awaited || !this.consensus) return;
    if (this.unheard.length > 0) {
      this.#round = this.dependencies.clock.after(LOOK_MS, () => this.#beginWhenHeard());
      return;
    }
    const { ourName, isKnownPeer } = this.config;
    this.consensus.quorum = this.config.quorum();
    this.dependencies.log.info("assuming a quorum", { quorum: this.consensus.quorum });
    // Where somebody else has begun, two at it would only be in each other's way.
    const { proposer, quorum } = this.consensus;
    if (proposer !== undefined && proposer !== ourName && isKnownPeer(proposer)) this.#proposeLater();
    else if (quorum > 1) this.#proposeBetween(0, FIRST_ROUND_MS * quorum);
    else this.#propose();
    this.#conclude();
  }

  /** Takes in what a peer knows of everybody's votes. */
  update(state: ConsensusState): void {
    if (this.unheard.length > 0) return;
    if (this.consensus?.update(state)) this.#thinkSoon();
  }

  /** While we wait for others: shows the proposer that we do; who has missed the outcome gets it in return. */
  remind(): void {
    if (!this.awaited || this.unheard.length > 0) return;
    const { proposer } = this.consensus ?? {};
    if (!this.consensus) this.host.broadcast();
    else if (proposer !== undefined && proposer !== this.config.ourName) this.host.send(proposer);
  }

  /** The range is divided. */
  end(): void {
    this.awaited = false;
    this.#round?.cancel();
    this.consensus = undefined;
  }

  stop(): void {
    this.#round?.cancel();
    this.#thinking?.cancel();
  }

  /**
   * Begins a new round unless this one leads to something in time; sooner when it is our own, and nobody goes before
   * us. Not all at the same time: the first to do it makes the others wait.
   */
  #proposeLater(): void {
    const { proposer, rivals = [] } = this.consensus ?? {};
    const ours = proposer === this.config.ourName && !rivals.some(this.config.isKnownPeer);
    const round = ours ? OWN_ROUND_MS : OTHERS_ROUND_MS;
    this.#proposeBetween(round, 2 * round);
  }

  #proposeBetween(ms: number, endMs: number): void {
    const { clock, random } = this.dependencies;
    this.#round?.cancel();
    this.#round = clock.after(ms + (endMs - ms) * random.float(), () => {
      if (this.awaited) this.#propose();
    });
  }

  #propose(): void {
    this.consensus?.propose();
    this.#tellVote();
  }

  /**
   * Saves what we have promised, which is to bind us after a restart too, and lets the proposer know, who counts; or
   * everybody, where we are the one, or cannot reach him. If all told all, hundreds that start at once would drown in
   * it.
   */
  #tellVote(): void {
    if (!this.consensus) return;
    const { proposer } = this.consensus;
    if (this.awaited) this.#proposeLater();
    try {
      this.dependencies.store.saveVote(this.consensus.own);
      if (proposer === undefined || proposer === this.config.ourName || !this.host.send(proposer))
        this.host.broadcast();
    } catch (error) {
      this.dependencies.log.error(reasonOf(error));
    }
  }

  /** Draws conclusions from what has come in; from what comes at about the same time, together. */
  #thinkSoon(): void {
    const participants = this.consensus?.state.size ?? 0;
    this.#thinking ??= this.dependencies.clock.after(Math.min(participants, MAX_THINKING_MS), () => {
      this.#thinking = undefined;
      if (this.consensus?.think()) this.#tellVote();
      this.#conclude();
    });
  }

  #conclude(): void {
    const agreed = this.consensus?.agreed();
    if (agreed) this.host.agreed(agreed);
  }
}
