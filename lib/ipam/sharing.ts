// How peers share the range: one ring that all of them come to agree on by gossip, space that one grants another, and
// the first division (weave: ipam/allocator.go). Pure: clock, chance, gossip and disk are passed in.
import { type AddressRange, cidrRange, formatRange, type IPv4, rangeSize } from "../address/ipv4.ts";
import type { Timer } from "../clock/clock.ts";
import type { Log } from "../log/log.ts";
import type { GossipChannel, GossipData, Gossiper } from "../mesh/gossip.ts";
import { encodeTagged } from "../mesh/message.ts";
import { type PeerName, UNKNOWN_PEER } from "../mesh/name.ts";
import { reasonOf } from "../sys/reason.ts";
import type { AllocatorConfig, AllocatorDependencies } from "./allocator.ts";
import { Consensus } from "./consensus.ts";
import { IpamError } from "./errors.ts";
import { Nicknames } from "./nicknames.ts";
import { type Change, Ring, RingError, type RingState } from "./ring.ts";
import type { Space } from "./space.ts";
import { decodeRange, decodeState, encodeRangeMessage, encodeState, MESSAGE } from "./wire.ts";

/** Long enough for news to reach every peer that can be reached. */
const SETTLE_MS = 2_000;

/**
 * Who begins a first round does it within so many milliseconds for each peer of a quorum, at random: of hundreds that
 * start at once a few begin, and the others hear of it before they do too.
 */
const FIRST_ROUND_MS = 2;

/** How long (and up to twice as long) a round may take before a new one is begun: by its proposer, by another. */
const OWN_ROUND_MS = 2_500;
const OTHERS_ROUND_MS = 10_000;

/** Who has been asked for space answers within this, or not at all. */
const ANSWER_MS = 1_000;
/** Who gets space is told at once; the others within this. */
const TELLING_MS = 1_000;
/** Votes are counted together that come within a millisecond for each participant, at most within this. */
const MAX_THINKING_MS = 100;

/** What the allocator is told. */
export interface SharingListener {
  /** The ring has changed: something that waited may be possible now. */
  changed(): void;
  /** A peer will not give up addresses of a range. */
  denied(range: AddressRange, by: PeerName): void;
}

export class Sharing implements Gossiper {
  readonly ring: Ring;
  readonly nicknames = new Nicknames();
  /** Since when owners of space cannot be reached, in milliseconds since the epoch; of those that went while we ran. */
  readonly unreachable = new Map<PeerName, number>();
  consensus: Consensus | undefined;
  awaitingConsensus = false;
  readonly #log: Log;
  #channel: GossipChannel | undefined;
  #unsaved = false;
  /** When space was asked for that has not been answered yet, by range. */
  readonly #asked = new Map<string, number>();
  #thinking: Timer | undefined;
  #telling: Timer | undefined;
  #round: Timer | undefined;
  #contested: AddressRange[] = [];

  constructor(
    private readonly config: AllocatorConfig,
    private readonly dependencies: AllocatorDependencies,
    private readonly space: Space,
    private readonly listener: SharingListener,
  ) {
    const { start, end } = cidrRange(config.universe);
    this.ring = new Ring(start, end, config.ourName);
    this.nicknames.learn([[config.ourName, config.ourNickName]]);
    this.#log = dependencies.log;
    if (!config.observer) this.consensus = this.#participant();
  }

  /** We as a participant of the first division: the one we were, where we had promised or accepted anything. */
  #participant(): Consensus {
    const { ourName, ourUid } = this.config;
    const vote = this.dependencies.store.loadVote();
    return vote?.id.name === ourName
      ? new Consensus(vote.id, vote.claims)
      : new Consensus({ name: ourName, uid: ourUid });
  }

  /** Speaks on `channel` from now on; divides the range among the seed, where there is one and no ring yet. */
  start(channel: GossipChannel): void {
    this.#channel = channel;
    if (this.ring.empty && this.config.seed.length > 0) this.#createRing(this.config.seed);
  }

  /** Takes up a ring that was saved. */
  restore(saved: RingState): void {
    this.ring.restore(saved);
    this.space.update(this.ring.ownedRanges());
  }

  /** Ranges just taken over, which another peer may have taken over at the same time: not to be handed out yet. */
  get contested(): readonly AddressRange[] {
    return this.#contested;
  }

  /** To be called every few seconds: goes on with what has got stuck. */
  tick(): void {
    if (this.awaitingConsensus) this.#remind();
    this.reportFree();
    if (this.#unsaved) this.#saveWhenPossible();
  }

  /** Ends it, with what has not been saved yet saved. */
  stop(): void {
    for (const timer of [this.#round, this.#thinking, this.#telling]) timer?.cancel();
    if (this.#unsaved) this.#saveWhenPossible();
  }

  /** Begins to agree with others on the first division, unless there is one or that has begun. */
  establish(): void {
    if (!this.ring.empty || this.awaitingConsensus) return;
    this.awaitingConsensus = true;
    if (!this.consensus) return this.#broadcast();
    this.consensus.quorum = this.config.quorum();
    this.#info(`Assuming quorum size of ${this.consensus.quorum}`);
    // Where somebody else has begun, two at it would only be in each other's way.
    const { proposer } = this.consensus;
    const begun =
      proposer !== undefined && proposer !== this.config.ourName && this.config.isKnownPeer(proposer);
    if (begun) this.#proposeLater();
    else if (this.consensus.quorum > 1) this.#proposeBetween(0, FIRST_ROUND_MS * this.consensus.quorum);
    else this.#propose();
    this.#createAgreedRing();
  }

  /**
   * Asks the peers that may have some for space in a range, the first that can be reached; one at a time, however many
   * requests wait for it.
   */
  askForSpace(range: AddressRange): void {
    const { clock, random } = this.dependencies;
    const asked = this.#asked.get(formatRange(range));
    if (asked !== undefined && clock.now() - asked < ANSWER_MS) return;
    for (const donor of this.ring.donors(range.start, range.end, () => random.float())) {
      if (!this.#request(donor, range)) continue;
      this.#asked.set(formatRange(range), clock.now());
      return;
    }
  }

  /** Asks the owner of an address to give it up; false when there is no way to that peer. */
  askForAddress(owner: PeerName, address: IPv4): boolean {
    return this.#request(owner, { start: address, end: address + 1 });
  }

  /** Hands all our space to another peer. */
  leave(): void {
    const { isKnownPeer, ourName } = this.config;
    const others = [...this.nicknames.all.keys()].filter((name) => name !== ourName);
    // A reachable peer with space of its own before one without, then any.
    const heir =
      this.ring.heir(isKnownPeer) ?? others.find(isKnownPeer) ?? this.ring.heir(() => true) ?? others[0];
    this.ring.transfer(ourName, heir ?? UNKNOWN_PEER);
    this.space.clear();
    if (!heir) return;
    this.#saveWhenPossible();
    this.#broadcast();
  }

  /**
   * Takes over the space of a peer that is gone for good; resolves with the number of addresses that are ours by it,
   * once everybody has had time to hear of it: where several peers do it at once, one gets each. Rejects with
   * StoreError.
   */
  async takeOver(nameOrNickName: string): Promise<number> {
    const name = this.nicknames.find(nameOrNickName);
    if (!name || name === this.config.ourName) {
      this.#log.warning(
        `[allocator] attempt to take over range from ${name ? "ourself" : `unknown peer '${nameOrNickName}'`}`,
      );
      return 0;
    }
    let ranges: AddressRange[] = [];
    this.#durably(() => {
      ranges = this.ring.transfer(name, this.config.ourName);
    });
    if (ranges.length === 0) return 0;
    this.#contested.push(...ranges);
    this.#adopt();
    this.#broadcast();
    await new Promise<void>((resolve) => this.dependencies.clock.after(SETTLE_MS, resolve));
    this.#contested = this.#contested.filter((range) => !ranges.includes(range));
    this.listener.changed();
    return ranges.reduce((sum, range) => sum + this.ring.ownedIn(range), 0);
  }

  /** A peer can no longer be reached; while it owns space, people may want to name it. */
  peerGone({ name, nickName }: { readonly name: PeerName; readonly nickName: string }): void {
    if (this.ring.peerNames().has(name)) {
      this.nicknames.learn([[name, nickName]]);
      this.unreachable.set(name, this.dependencies.clock.now());
    } else this.nicknames.prune((known) => known !== name);
  }

  /** Tells the ring how much is free in what is ours. */
  reportFree(): void {
    if (this.ring.empty) return;
    if (this.ring.reportFree((range) => this.space.freeCount(range))) this.#unsaved = true;
  }

  /** The error for an address that another peer will not give up. */
  ownedElsewhere(address: string, owner: PeerName, reason = ""): IpamError {
    const nickname = this.nicknames.get(owner);
    const who = nickname === undefined ? owner : `${owner} (${nickname})`;
    return new IpamError(`address ${address} is owned by other peer ${who}${reason}`);
  }

  onUnicast(source: PeerName, message: Uint8Array): void {
    const body = message.subarray(1);
    if (message[0] !== MESSAGE.spaceRequest) this.#asked.clear();
    switch (message[0]) {
      case MESSAGE.spaceRequest: {
        const range = decodeRange(body);
        if (!this.ring.empty) this.#donate(range, source);
        return;
      }
      case MESSAGE.spaceRequestDenied:
        return this.listener.denied(decodeRange(body), source);
      case MESSAGE.ringUpdate:
        this.#update(source, body);
        return;
      default:
        throw new IpamError(`unknown IPAM message ${message[0]} from ${source}`);
    }
  }

  onBroadcast(source: PeerName, message: Uint8Array): GossipData {
    this.#update(source, message);
    return this.gossip();
  }

  /** Who owns what goes on to others: not everybody was there when it was broadcast. */
  onGossip(message: Uint8Array): GossipData | undefined {
    return this.#update(UNKNOWN_PEER, message) === "owners" ? this.gossip() : undefined;
  }

  gossip(): GossipData {
    const data: GossipData = { merge: () => data, encode: () => [this.#encode()] };
    return data;
  }

  /** While we wait for others: shows the proposer that we do; who has missed the outcome gets it in return. */
  #remind(): void {
    const { proposer } = this.consensus ?? {};
    if (!this.consensus) this.#broadcast();
    else if (proposer !== undefined && proposer !== this.config.ourName) this.#sendRing(proposer);
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
      if (this.awaitingConsensus) this.#propose();
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
    if (this.awaitingConsensus) this.#proposeLater();
    try {
      this.dependencies.store.saveVote(this.consensus.own);
      if (proposer === undefined || proposer === this.config.ourName || !this.#sendRing(proposer))
        this.#broadcast();
    } catch (error) {
      this.#log.error(`[allocator] ${reasonOf(error)}`);
    }
  }

  /** Draws conclusions from what has come in; from what comes at about the same time, together. */
  #thinkSoon(): void {
    const participants = this.consensus?.state.size ?? 0;
    this.#thinking ??= this.dependencies.clock.after(Math.min(participants, MAX_THINKING_MS), () => {
      this.#thinking = undefined;
      if (this.consensus?.think()) this.#tellVote();
      this.#createAgreedRing();
    });
  }

  /** Who owns what now; where there are several changes one after the other, once. */
  #broadcastSoon(): void {
    this.#telling ??= this.dependencies.clock.after(TELLING_MS * this.dependencies.random.float(), () => {
      this.#telling = undefined;
      this.#broadcast();
    });
  }

  #createAgreedRing(): void {
    const agreed = this.consensus?.agreed();
    if (agreed) this.#createRing(agreed);
  }

  #createRing(peers: readonly PeerName[]): void {
    this.ring.claimForPeers([...new Set(peers)].sort());
    this.#saveWhenPossible();
    this.#adopt();
    this.#broadcast();
  }

  /** Goes by a ring that has become another one. */
  #adopt(): void {
    this.awaitingConsensus = false;
    this.#round?.cancel();
    if (!this.ring.empty) this.consensus = undefined;
    this.space.update(this.ring.ownedRanges());
    this.listener.changed();
  }

  #request(peer: PeerName, range: AddressRange): boolean {
    return this.#channel?.unicast(peer, encodeRangeMessage(MESSAGE.spaceRequest, range)) ?? false;
  }

  #donate(range: AddressRange, to: PeerName): void {
    const chunk = this.space.donate(range, this.#contested);
    if (chunk && this.#grant(chunk, to)) {
      this.#debug(`Giving range ${formatRange(chunk)} (${rangeSize(chunk)}) to ${to}`);
      this.#broadcastSoon();
    } else {
      this.#channel?.unicast(to, encodeRangeMessage(MESSAGE.spaceRequestDenied, range));
    }
    this.#sendRing(to);
  }

  /** What is given away has to stay so, whatever happens to us; where that cannot be saved, it stays ours. */
  #grant(chunk: AddressRange, to: PeerName): boolean {
    try {
      this.#durably(() => this.ring.grant(chunk.start, chunk.end, to));
      return true;
    } catch (error) {
      this.#log.error(`[allocator] cannot give ${formatRange(chunk)} to ${to}: ${reasonOf(error)}`);
      this.space.update(this.ring.ownedRanges());
      return false;
    }
  }

  /** Sends all we have to one peer; false when there is no way to it. */
  #sendRing(to: PeerName): boolean {
    return this.#channel?.unicast(to, encodeTagged(MESSAGE.ringUpdate, this.#encode())) ?? false;
  }

  #update(sender: PeerName, message: Uint8Array): Change {
    const state = decodeState(message);
    this.nicknames.learn(state.nicknames);
    if (state.ring) {
      const change = this.#merge(state.ring);
      if (sender !== UNKNOWN_PEER && this.ring.contradicts(state.ring)) this.#sendRing(sender);
      return change;
    }
    if (!this.ring.empty) {
      // The sender is behind: tell it.
      if (sender !== UNKNOWN_PEER) this.#sendRing(sender);
    } else if (state.consensus) {
      if (!this.consensus?.update(state.consensus)) return "nothing";
      this.#thinkSoon();
    } else if (this.consensus && sender !== UNKNOWN_PEER) {
      // An observer waits for somebody to begin.
      this.establish();
    }
    return "nothing";
  }

  #merge(other: RingState): Change {
    const change = this.#mergeRing(other);
    if (change === "counts") this.#unsaved = true;
    if (change === "owners") {
      const owners = this.ring.peerNames();
      this.nicknames.prune((name) => owners.has(name) || this.config.isKnownPeer(name));
      this.#saveWhenPossible();
    }
    if (change !== "nothing") this.#adopt();
    return change;
  }

  #mergeRing(other: RingState): Change {
    const inUse = (ranges: AddressRange[]) =>
      ranges.some((range) => this.space.freeCount(range) !== rangeSize(range));
    try {
      return this.ring.merge(other, inUse);
    } catch (error) {
      throw error instanceof RingError ? this.#explain(error, other) : error;
    }
  }

  #explain(error: RingError, other: RingState): Error {
    const { path } = this.dependencies.store;
    const remedy = `run 'weave reset' on the peer that is to give in (ours is kept in ${path}), and launch it again`;
    if (error.code === "different-seeds") {
      const [received, ours] = [other.seeds, this.ring.seeds].map((names) =>
        names.map((name) => this.nicknames.annotate(name)).join(" "),
      );
      return new IpamError(
        `IP allocation was seeded by different peers (received: [${received}], ours: [${ours}]); ${remedy}`,
      );
    }
    if (error.code === "different-range") {
      return new IpamError(
        `Incompatible IP allocation ranges (received: ${formatRange(other)}, ours: ${formatRange(this.ring)}); ` +
          "launch all peers with the same --ipalloc-range",
      );
    }
    return new IpamError(`${error.message}; ${remedy}`);
  }

  /** Changes the ring and saves it, or neither; throws StoreError. */
  #durably(change: () => void): void {
    const before = this.ring.state();
    change();
    try {
      this.#save();
    } catch (error) {
      this.ring.restore(before);
      throw error;
    }
  }

  /** What others have told us can be had from them again: where it cannot be saved now, it will be later. */
  #saveWhenPossible(): void {
    try {
      this.#save();
    } catch (error) {
      if (!this.#unsaved) this.#log.error(`[allocator] ${reasonOf(error)}`);
      this.#unsaved = true;
    }
  }

  #save(): void {
    this.dependencies.store.saveRing({ ...this.ring.state(), peer: this.config.ourName });
    this.#unsaved = false;
  }

  #encode(): Uint8Array {
    return encodeState({
      now: BigInt(Math.floor(this.dependencies.clock.now() / 1000)),
      nicknames: this.nicknames.all,
      consensus: this.ring.empty ? this.consensus?.state : undefined,
      ring: this.ring.empty ? undefined : { ...this.ring.state(), peer: this.config.ourName },
    });
  }

  #broadcast(): void {
    this.#channel?.broadcast(this.gossip());
  }

  #info(text: string): void {
    this.#log.info(`[allocator ${this.config.ourName}] ${text}`);
  }

  #debug(text: string): void {
    this.#log.debug(`[allocator ${this.config.ourName}] ${text}`);
  }
}
