// How peers share the range: one ring that all of them come to agree on by gossip, space that one grants another, and
// the first division (weave: ipam/allocator.go). Pure: clock, chance, gossip and disk are passed in.
import { type AddressRange, cidrRange, formatRange, type IPv4, rangeSize } from "../address/ipv4.ts";
import { sleep, type Timer } from "../clock/clock.ts";
import type { Sliced, Work } from "../clock/slices.ts";
import type { Fields } from "../log/fields.ts";
import type { Log } from "../log/log.ts";
import type { Gate } from "../mesh/gate.ts";
import type { GossipChannel, GossipData, Gossiper } from "../mesh/gossip.ts";
import type { Features } from "../mesh/handshake.ts";
import { encodeTagged } from "../mesh/message.ts";
import { type PeerName, UNKNOWN_PEER } from "../mesh/name.ts";
import { reasonOf } from "../sys/reason.ts";
import type { AllocatorConfig, AllocatorDependencies } from "./allocator.ts";
import { announce, differentRange, differentSeeds, judge } from "./announcement.ts";
import { type SentRing, winner } from "./clash.ts";
import { Disputes } from "./disputes.ts";
import { Division } from "./division.ts";
import { IpamError, UnknownPeerError } from "./errors.ts";
import { Gains, gainedFrom, without } from "./gains.ts";
import { Grants } from "./grants.ts";
import { HandOver } from "./handover.ts";
import { Nicknames } from "./nicknames.ts";
import { type Change, type Merged, Ring, RingError } from "./ring.ts";
import type { SavedRing } from "./saved.ts";
import type { Space } from "./space.ts";
import { decodeRange, encodeRangeMessage, encodeState, MESSAGE, readState } from "./wire.ts";

/** Long enough for news to reach every peer that can be reached. */
const SETTLE_MS = 2_000;

/** Who has been asked for space answers within this, or not at all. */
const ANSWER_MS = 1_000;
/** Who gets space is told at once; the others within this. */
const TELLING_MS = 1_000;
/** A ring with an owner that is nobody is healed after this, and up to as long again: by one peer, not by all. */
const HEAL_MS = 10_000;
/** A peer whose ring has to give in to ours does so within this. */
const GIVE_IN_MS = 5_000;
/** Peers whose rings are waited for. */
const MAX_GIVING_IN = 64;
/** A peer whose ring contradicts ours is sent ours at most this often. */
const CORRECT_MS = 1_000;
const MAX_CORRECTED = 1_024;

/** What the allocator is told. */
export interface SharingListener {
  /** Our ring has given in to another: none of our addresses is known to be ours. */
  replaced(): void;
  /** The ring has changed: something that waited may be possible now. */
  changed(): void;
  /** A peer will not give up addresses of a range. */
  denied(range: AddressRange, by: PeerName): void;
}

export class Sharing implements Gossiper, Gate {
  readonly ring: Ring;
  readonly nicknames = new Nicknames();
  /** Since when owners of space cannot be reached, in milliseconds since the epoch; of those that went while we ran. */
  readonly unreachable = new Map<PeerName, number>();
  readonly division: Division;
  /** Neighbours that have told us what they know of the ring. */
  readonly spoken = new Set<PeerName>();
  readonly #log: Log;
  readonly #handOver: HandOver;
  #leaving = false;
  #channel: GossipChannel | undefined;
  #unsaved = false;
  /** When space was asked for that has not been answered yet, by range. */
  readonly #asked = new Map<string, number>();
  #telling: Timer | undefined;
  #contested: AddressRange[] = [];
  readonly #disputes = new Disputes();
  readonly #gains = new Gains();
  readonly #grants = new Grants();
  /** We made the ring for ourselves, and no other peer has it. */
  #alone = false;
  /** Peers whose ring has to give in to ours, and since when. */
  readonly #givingIn = new Map<PeerName, number>();
  #healing: Timer | undefined;
  /** What was ours when another host was found to have our name. */
  #beforeNamesake: readonly AddressRange[] | undefined;
  /** Peers that were sent our ring because theirs contradicts it, and when. */
  readonly #corrected = new Map<PeerName, number>();

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
    this.division = new Division(config, dependencies, {
      send: (to) => this.#sendRing(to),
      broadcast: () => this.#broadcast(),
      agreed: (peers) => this.#createRing(peers),
    });
    this.#handOver = new HandOver({
      ring: this.ring,
      clock: dependencies.clock,
      candidates: () => this.#heirs(),
      exchange: (peer) => this.#exchange(peer),
      transfer: (heir) => this.#transfer(heir),
    });
  }

  /** Speaks on `channel` from now on; divides the range among the seed, where there is one and no ring yet. */
  start(channel: GossipChannel): void {
    this.#channel = channel;
    if (this.ring.empty && this.config.seed.length > 0) this.#createRing(this.config.seed);
  }

  /** Takes up a ring that was saved. */
  restore(saved: SavedRing): void {
    this.ring.restore(saved);
    this.#alone = saved.alone ?? false;
    this.#own();
  }

  /**
   * Ranges not to be handed out yet: another peer may have taken them over at the same time, may be handing them out,
   * or may not know that they are no longer its own.
   */
  get contested(): readonly AddressRange[] {
    return [...this.#contested, ...this.#gains.contested, ...this.#disputes.contested, ...this.#ofNamesake()];
  }

  /** Ranges that our name has got since another host was found to have it, too. */
  #ofNamesake(): AddressRange[] {
    if (!this.config.nameIsTaken?.()) {
      this.#beforeNamesake = undefined;
      return [];
    }
    this.#beforeNamesake ??= this.ring.ownedRanges();
    return without(this.ring.ownedRanges(), this.#beforeNamesake);
  }

  /** What is wrong between our ring and those of others, in words. */
  problems(): string[] {
    const annotate = (name: PeerName) => this.nicknames.annotate(name);
    return [
      ...this.#disputes.problems(this.dependencies.clock, annotate(this.config.ourName), annotate),
      ...this.#gains.problems(annotate),
    ];
  }

  /** What is held back, and what was settled of late, in words. */
  notes(): string[] {
    const { clock } = this.dependencies;
    const annotate = (name: PeerName) => this.nicknames.annotate(name);
    return [...this.#disputes.settled(clock, annotate), ...this.#grants.limits(clock, annotate)];
  }

  features(): Record<string, string> {
    return announce(this.#announcement);
  }

  judge(features: Features) {
    const { path } = this.dependencies.store;
    return judge(this.#announcement, features, (name) => this.nicknames.annotate(name), path);
  }

  /** A peer that does not tell its division in the handshake, as those of the original, is asked for its ring. */
  connected(peer: PeerName): void {
    if (!this.ring.empty) this.#ask(peer);
  }

  /** A ring that only we know may still give in, so it is not announced. */
  get #announcement() {
    return { range: this.ring, seeds: this.#alone ? [] : this.ring.seeds };
  }

  /** To be called every few seconds: goes on with what has got stuck. */
  tick(): void {
    this.division.remind();
    const now = this.dependencies.clock.now();
    this.#disputes.expire(now);
    for (const owner of this.#gains.owners) this.#exchange(owner);
    if (this.#gains.expire(now, this.config.isKnownPeer)) this.listener.changed();
    this.#heal();
    this.reportFree();
    if (this.#unsaved) this.#saveWhenPossible();
  }

  /** Ends it, with what has not been saved yet saved. */
  stop(): void {
    this.division.stop();
    this.#telling?.cancel();
    this.#healing?.cancel();
    if (this.#unsaved) this.#saveWhenPossible();
  }

  /** Begins to agree with others on the first division, unless there is one or that has begun. */
  establish(): void {
    if (this.ring.empty) this.division.begin();
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

  /**
   * Hands all our space to another peer; resolves once it has acknowledged. Rejects with IpamError, with nothing
   * changed unless `leaving` says so.
   */
  async leave(): Promise<void> {
    const heir = await this.#handOver.run();
    if (heir) this.#info("handed all addresses to a peer", { peer: this.nicknames.annotate(heir) });
  }

  /** Our space has been made another peer's, because we leave. */
  get leaving(): boolean {
    return this.#leaving;
  }

  #transfer(heir: PeerName): void {
    this.#leaving = true;
    this.ring.transfer(this.config.ourName, heir);
    this.space.clear();
    this.#saveWhenPossible();
    this.#broadcast();
  }

  /** Peers that can be reached: owners of space first, then those that are known to run an allocator. */
  #heirs(): PeerName[] {
    const owners = this.ring.peerNames();
    const rank = (name: PeerName) => (owners.has(name) ? 0 : this.nicknames.get(name) !== undefined ? 1 : 2);
    const { reachablePeers, isAmbiguous } = this.config;
    return reachablePeers()
      .filter((name) => !isAmbiguous?.(name))
      .sort((a, b) => rank(a) - rank(b));
  }

  /**
   * Takes over the space of a peer that is gone for good; resolves with the number of addresses that are ours by it,
   * once everybody has had time to hear of it: where several peers do it at once, one gets each. Rejects with
   * UnknownPeerError for who owns nothing, IpamError for ourselves and, unless forced, for a peer that can be reached
   * and goes on handing its addresses out; with StoreError.
   */
  async takeOver(nameOrNickname: string, force = false): Promise<number> {
    return this.#takeOver(this.#removable(nameOrNickname, force));
  }

  async #takeOver(name: PeerName): Promise<number> {
    let ranges: AddressRange[] = [];
    this.#durably(() => {
      ranges = this.ring.transfer(name, this.config.ourName);
    });
    if (ranges.length === 0) return 0;
    this.#contested.push(...ranges);
    this.#adopt();
    this.#broadcast();
    await sleep(this.dependencies.clock, SETTLE_MS);
    this.#contested = this.#contested.filter((range) => !ranges.includes(range));
    this.listener.changed();
    return ranges.reduce((sum, range) => sum + this.ring.ownedIn(range), 0);
  }

  /** Takes over what belongs to nobody: peers of earlier versions gave it away when they left. */
  #heal(): void {
    const isHurt = () => !this.#leaving && this.ring.peerNames().has(UNKNOWN_PEER);
    if (this.#healing || !isHurt()) return;
    const { clock, random } = this.dependencies;
    this.#healing = clock.after(HEAL_MS * (1 + random.float()), () => {
      this.#healing = undefined;
      if (!isHurt()) return;
      this.#info("claiming ranges of the ring that no peer owns");
      this.#takeOver(UNKNOWN_PEER).catch((error) => this.#log.error(reasonOf(error)));
    });
  }

  /** The peer whose space may be taken over. */
  #removable(nameOrNickname: string, force: boolean): PeerName {
    if (this.ring.empty) {
      throw new IpamError(`cannot remove peer ${nameOrNickname}: the peers have not divided the range yet`);
    }
    const owners = this.ring.peerNames();
    const found = this.nicknames.find(nameOrNickname);
    const candidates = found.length > 1 ? found.filter((name) => owners.has(name)) : found;
    const [name] = candidates;
    if (candidates.length > 1) {
      throw new IpamError(`"${nameOrNickname}" is the nickname of ${candidates.join(" and ")}: use the name`);
    }
    if (name === this.config.ourName) {
      throw new IpamError(`cannot remove peer ${nameOrNickname}: it is this host; use 'weave reset'`);
    }
    if (name === undefined || !owners.has(name)) {
      throw new UnknownPeerError(
        `no peer "${nameOrNickname}" owns addresses; 'weave status ipam' shows the owners`,
      );
    }
    if (this.config.isAmbiguous?.(name) && !force) {
      throw new IpamError(
        `peer ${this.nicknames.annotate(name)} is two hosts, and one of them may still use its addresses; give one ` +
          "another name first, or use --force if the containers of both are gone",
      );
    }
    if (this.config.isKnownPeer(name) && !force) {
      throw new IpamError(
        `peer ${this.nicknames.annotate(name)} is connected and still uses its addresses, which would be ` +
          "allocated twice; run 'weave reset' on that host, or use --force if its containers are gone",
      );
    }
    return name;
  }

  /** A peer can no longer be reached; while it owns space, people may want to name it. */
  peerGone({ name, nickName }: { readonly name: PeerName; readonly nickName: string }): void {
    this.spoken.delete(name);
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

  onUnicast(source: PeerName, message: Uint8Array): Sliced<void> {
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
        return this.#takeIn(source, body);
      default:
        throw new IpamError(`unknown IPAM message ${message[0]} from ${source}`);
    }
  }

  *#takeIn(source: PeerName, state: Uint8Array): Work {
    yield* this.#update(source, state, source, true);
  }

  *onBroadcast(source: PeerName, message: Uint8Array): Work<GossipData> {
    yield* this.#update(source, message, source);
    return this.gossip();
  }

  /** Who owns what goes on to others: not everybody was there when it was broadcast. */
  *onGossip(message: Uint8Array, from: PeerName): Work<GossipData | undefined> {
    this.spoken.add(from);
    const change = yield* this.#update(UNKNOWN_PEER, message, from);
    return change === "owners" ? this.gossip() : undefined;
  }

  gossip(): GossipData {
    const data: GossipData = { bytes: 0, join: () => data, encode: () => [this.#encode()] };
    return data;
  }

  /** Who owns what now; where there are several changes one after the other, once. */
  #broadcastSoon(): void {
    this.#telling ??= this.dependencies.clock.after(TELLING_MS * this.dependencies.random.float(), () => {
      this.#telling = undefined;
      this.#broadcast();
    });
  }

  #createRing(peers: readonly PeerName[]): void {
    this.#alone = this.config.seed.length === 0 && peers.every((peer) => peer === this.config.ourName);
    this.ring.claimForPeers([...new Set(peers)].sort());
    this.#saveWhenPossible();
    this.#adopt();
    this.#broadcast();
  }

  /** Goes by a ring that has become another one. */
  #adopt(): void {
    if (!this.ring.empty) this.division.end();
    this.#own();
    this.listener.changed();
  }

  /** Space is what the ring says is ours. */
  #own(): void {
    const ranges = this.ring.ownedRanges();
    this.space.update(ranges);
    this.dependencies.owns?.(ranges);
  }

  #request(peer: PeerName, range: AddressRange): boolean {
    return this.#channel?.unicast(peer, encodeRangeMessage(MESSAGE.spaceRequest, range)) ?? false;
  }

  #donate(range: AddressRange, to: PeerName): void {
    const now = this.dependencies.clock.now();
    const allowance = this.#grants.allowance(to, this.space.freeCount(), now);
    // Who waits asks again.
    if (allowance === 0) return;
    const chunk = this.space.donate(range, this.contested, allowance);
    if (chunk && this.#grant(chunk, to)) {
      this.#debug("donating a range", { range: formatRange(chunk), size: rangeSize(chunk), peer: to });
      this.#grants.granted(to, rangeSize(chunk), now);
      this.#broadcastSoon();
      this.#sendRing(to);
    } else {
      // The ring goes first: it may show that the peer has what it asks for.
      this.#sendRing(to);
      this.#channel?.unicast(to, encodeRangeMessage(MESSAGE.spaceRequestDenied, range));
    }
  }

  /** What is given away has to stay so, whatever happens to us; where that cannot be saved, it stays ours. */
  #grant(chunk: AddressRange, to: PeerName): boolean {
    try {
      this.#alone = false;
      this.#durably(() => this.ring.grant(chunk.start, chunk.end, to));
      this.#own();
      return true;
    } catch (error) {
      this.#log.error(`cannot donate range ${formatRange(chunk)} to peer ${to}: ${reasonOf(error)}`);
      this.#own();
      return false;
    }
  }

  /** Sends all we have to one peer; false when there is no way to it. */
  #sendRing(to: PeerName): boolean {
    return this.#channel?.unicast(to, encodeTagged(MESSAGE.ringUpdate, this.#encode())) ?? false;
  }

  /** Sends our ring to a peer and asks for its own. */
  #exchange(peer: PeerName): void {
    if (this.#sendRing(peer)) this.#ask(peer);
  }

  /** Asks a peer for its ring, by a state without one, as peers send it that wait for a ring. */
  #ask(peer: PeerName): void {
    const question = encodeState({
      now: this.#now(),
      nicknames: this.nicknames.all,
      consensus: undefined,
      ring: undefined,
    });
    this.#channel?.unicast(peer, encodeTagged(MESSAGE.ringUpdate, question));
  }

  /** `speaker` is whose words these are; `sender` who is to be answered, if anybody. */
  *#update(sender: PeerName, message: Uint8Array, speaker: PeerName, byUnicast = false): Work<Change> {
    // Only this takes long, and nothing has been done before it.
    const state = yield* readState(message);
    this.nicknames.learn(state.nicknames, (name) => this.#wantsName(name));
    if (state.ring) {
      const change = this.#merge(state.ring, speaker);
      this.#handOver.heard(state.ring.peer, state.ring);
      if (sender !== UNKNOWN_PEER && this.ring.contradicts(state.ring)) this.#correct(sender);
      return change;
    }
    if (!this.ring.empty) {
      // The sender is behind: tell it. By unicast it is a question, perhaps of a peer that has another ring.
      if (!byUnicast) this.#shared();
      if (sender !== UNKNOWN_PEER) this.#sendRing(sender);
    } else if (state.consensus) {
      this.division.update(state.consensus);
    } else if (this.division.consensus && sender !== UNKNOWN_PEER) {
      // An observer waits for somebody to begin.
      this.establish();
    }
    return "nothing";
  }

  /** Sends our ring to a peer that has not heard, or does not give in: two that both do not would never stop. */
  #correct(sender: PeerName): void {
    const now = this.dependencies.clock.now();
    for (const [peer, at] of this.#corrected) if (now - at >= CORRECT_MS) this.#corrected.delete(peer);
    if (this.#corrected.has(sender) || this.#corrected.size >= MAX_CORRECTED) return;
    this.#corrected.set(sender, now);
    this.#sendRing(sender);
  }

  #wantsName(name: PeerName): boolean {
    return name === this.config.ourName || this.ring.peerNames().has(name) || this.config.isKnownPeer(name);
  }

  /** Another peer has our ring, or is about to: it stands. */
  #shared(): void {
    if (!this.#alone) return;
    this.#alone = false;
    this.#saveWhenPossible();
  }

  #merge(other: SentRing, speaker: PeerName): Change {
    this.#ofNamesake();
    const before = this.ring.ranges().map(({ entry: { peer }, range }) => ({ peer, range }));
    const { change, disputes } = this.#mergeRing(other);
    const now = this.dependencies.clock.now();
    if (change === "counts") this.#unsaved = true;
    if (change === "owners") {
      const owners = this.ring.peerNames();
      this.nicknames.prune((name) => owners.has(name) || this.config.isKnownPeer(name));
      for (const [from, ranges] of gainedFrom(before, this.ring.ownedRanges(), this.config.ourName)) {
        if (from === other.peer || from === UNKNOWN_PEER) continue;
        this.#gains.add(ranges, from, now);
        this.#exchange(from);
      }
      this.#saveWhenPossible();
    }
    if (change !== "nothing") this.#adopt();
    const isWord = speaker === other.peer;
    const stillClaims = isWord && this.ring.contradicts(other, speaker);
    if (isWord && !stillClaims && this.#gains.confirmed(speaker)) this.listener.changed();
    const toAssert = this.#disputes.heard(speaker, disputes, stillClaims, now);
    if (toAssert.length > 0) this.#assert(toAssert);
    return change;
  }

  /** Makes our word on ranges in use newer than what others say, tells everybody, and asks who is said to own them. */
  #assert(disputes: Merged["disputes"]): void {
    this.ring.assert(disputes);
    this.reportFree();
    this.#saveWhenPossible();
    this.#own();
    for (const peer of new Set(disputes.map(({ peer }) => peer))) {
      const ranges = disputes.filter((dispute) => dispute.peer === peer).flatMap((dispute) => dispute.ranges);
      this.#log.warning("keeping ranges with addresses in use here, which the ring of a peer claims", {
        ranges: ranges.slice(0, 4).map(formatRange),
        peer: this.nicknames.annotate(peer),
      });
      this.#exchange(peer);
    }
    this.#broadcast();
  }

  #mergeRing(other: SentRing): Merged {
    const inUse = (ranges: AddressRange[]) =>
      ranges.some((range) => this.space.freeCount(range) !== rangeSize(range));
    try {
      const merged = this.ring.merge(other, inUse);
      if (other.peer !== this.config.ourName) this.#shared();
      return merged;
    } catch (error) {
      if (!(error instanceof RingError)) throw error;
      return this.#settle(error, other);
    }
  }

  /** One of two rings may give in; else throws why they cannot be merged. */
  #settle(error: RingError, other: SentRing): Merged {
    const unchanged: Merged = { change: "nothing", disputes: [] };
    if (error.code !== "different-seeds") throw this.#explain(error, other);
    const { ourName: peer } = this.config;
    const won = winner({ peer, alone: this.#alone, used: this.space.usedCount > 0 }, other);
    if (won === "theirs") {
      this.#info("replacing our ring, which no peer shares", { peer: this.nicknames.annotate(other.peer) });
      this.#replace(other);
      return { ...unchanged, change: "owners" };
    }
    const now = this.dependencies.clock.now();
    const since = this.#givingIn.get(other.peer);
    if (won !== "ours" || (since !== undefined && now - since > GIVE_IN_MS))
      throw this.#explain(error, other);
    if (since === undefined && this.#givingIn.size < MAX_GIVING_IN) this.#givingIn.set(other.peer, now);
    this.#sendRing(other.peer);
    return unchanged;
  }

  #replace(other: SentRing): void {
    this.#alone = false;
    this.ring.restore(other);
    this.space.clear();
    this.#own();
    this.dependencies.divisionChanged?.();
    this.listener.replaced();
  }

  #explain(error: RingError, other: SentRing): Error {
    const { path } = this.dependencies.store;
    if (error.code === "different-seeds") {
      const [received = [], ours = []] = [other.seeds, this.ring.seeds].map((names) =>
        names.map((name) => this.nicknames.annotate(name)),
      );
      return differentSeeds(received, ours, path);
    }
    if (error.code === "different-range") return differentRange(formatRange(other), formatRange(this.ring));
    return new IpamError(error.message);
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
      if (!this.#unsaved) this.#log.error(reasonOf(error));
      this.#unsaved = true;
    }
  }

  #save(): void {
    this.dependencies.store.saveRing({
      ...this.ring.state(),
      peer: this.config.ourName,
      alone: this.#alone,
    });
    this.#unsaved = false;
  }

  #encode(): Uint8Array {
    return encodeState({
      now: this.#now(),
      nicknames: this.nicknames.all,
      consensus: this.ring.empty ? this.division.votes : undefined,
      ring: this.ring.empty ? undefined : { ...this.ring.state(), peer: this.config.ourName },
    });
  }

  /** Seconds since the epoch. */
  #now(): bigint {
    return BigInt(Math.floor(this.dependencies.clock.wall() / 1000));
  }

  #broadcast(): void {
    this.#channel?.broadcast(this.gossip());
  }

  #info(text: string, fields?: Fields): void {
    this.#log.info(text, fields);
  }

  #debug(text: string, fields?: Fields): void {
    this.#log.debug(text, fields);
  }
}
