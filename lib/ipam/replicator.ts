// Replication of the ring: all peers come to the same one by gossip (weave: ipam/allocator.go). Pure: clock, chance,
// gossip and disk are passed in.

import type { AddressRange, IPv4 } from "../address/ipv4.ts";
import type { Sliced, Work } from "../clock/slices.ts";
import type { Gate } from "../mesh/gate.ts";
import type { GossipChannel, GossipData, Gossiper } from "../mesh/gossip.ts";
import type { Features } from "../mesh/handshake.ts";
import { type PeerName, UNKNOWN_PEER } from "../mesh/name.ts";
import type { Limit } from "../sys/limit.ts";
import { announce, judge } from "./announcement.ts";
import { RingBootstrap } from "./bootstrap.ts";
import type { AllocatorConfig, AllocatorDependencies } from "./config.ts";
import { Donor } from "./donor.ts";
import { IpamError } from "./errors.ts";
import { Handover } from "./handover.ts";
import { RingMessenger } from "./messenger.ts";
import { Nicknames } from "./nicknames.ts";
import { PersistentRing } from "./persistentring.ts";
import { RingReconciler } from "./reconciler.ts";
import { MAX_ENTRIES } from "./ring/entry.ts";
import { type Change, MAX_SEEDS } from "./ring/merge.ts";
import type { RingView } from "./ring/ring.ts";
import type { SavedRing } from "./saved.ts";
import type { Space } from "./space.ts";
import { SpaceRequests } from "./spacerequests.ts";
import { TakeOvers } from "./takeover.ts";
import { decodeRange, type IpamState, MESSAGE, readState } from "./wire.ts";

/** Nicknames that are learned in one step. */
const NICKNAME_STEP = 1_024;

/** What the allocator is told. */
export interface ReplicatorListener {
  /** Our ring has given in to another: none of our addresses is known to be ours. */
  replaced(): void;
  /** The ring has changed: what waits may be possible now. */
  changed(): void;
  /** A peer denies addresses of a range. */
  denied(range: AddressRange, by: PeerName): void;
}

export class RingReplicator implements Gossiper, Gate {
  readonly nicknames: Nicknames;
  readonly bootstrap: RingBootstrap;
  /** When owners of space became unreachable while we ran, in ms of the clock. */
  readonly unreachable = new Map<PeerName, number>();
  /** Neighbours that have sent their state. */
  readonly heard = new Set<PeerName>();
  readonly #persistent: PersistentRing;
  readonly #messenger: RingMessenger;
  readonly #requests: SpaceRequests;
  readonly #donor: Donor;
  readonly #reconciler: RingReconciler;
  readonly #takeOvers: TakeOvers;
  readonly #handover: Handover;
  #leaving = false;

  constructor(
    private readonly config: AllocatorConfig,
    private readonly dependencies: AllocatorDependencies,
    space: Space,
    private readonly listener: ReplicatorListener,
  ) {
    const nicknames = new Nicknames(config.nicknameOf);
    this.nicknames = nicknames;
    const changed = () => this.#changed();
    nicknames.learn([[config.ourName, config.ourNickName]]);
    const persistent = new PersistentRing(config, dependencies, space);
    const messenger = new RingMessenger(dependencies, () => this.#state());
    this.#persistent = persistent;
    this.#messenger = messenger;
    this.bootstrap = new RingBootstrap(config, dependencies, messenger, (peers) => this.#create(peers));
    this.#requests = new SpaceRequests(dependencies, messenger, persistent.ring);
    this.#donor = new Donor(dependencies, persistent, space, messenger);
    this.#reconciler = new RingReconciler(config, dependencies, persistent, space, messenger, nicknames, {
      replaced: () => listener.replaced(),
      changed,
    });
    this.#takeOvers = new TakeOvers(config, dependencies, persistent, messenger, nicknames, changed);
    this.#handover = new Handover({
      ring: persistent.ring,
      clock: dependencies.clock,
      candidates: () => this.#heirs(),
      exchange: (peer) => messenger.exchange(peer),
      transfer: (heir) => this.#transfer(heir),
    });
  }

  get ring(): RingView {
    return this.#persistent.ring;
  }

  /** Speak on `channel` from now on; divide the range among the seed where there is no ring yet. */
  start(channel: GossipChannel): void {
    this.#messenger.open(channel);
    if (this.ring.empty && this.config.seed.length > 0) this.#create(this.config.seed);
  }

  /** Load a saved ring. */
  restore(saved: SavedRing): void {
    this.#persistent.load(saved);
  }

  /** Stop all timers, and save what has not been saved yet. */
  stop(): void {
    this.bootstrap.stop();
    this.#messenger.stop();
    this.#takeOvers.stop();
    this.#persistent.stop();
  }

  /** To be called every few seconds. */
  tick(): void {
    this.bootstrap.remind();
    this.#reconciler.tick();
    if (!this.#leaving) this.#takeOvers.heal();
    this.reportFree();
  }

  /** Ranges that are ours and not to be handed out yet. */
  get contested(): readonly AddressRange[] {
    return [...this.#takeOvers.contested, ...this.#reconciler.contested];
  }

  /** See RingReconciler.problems(). */
  problems(): string[] {
    return this.#reconciler.problems();
  }

  /** What is limited, and what was settled lately, for the status. */
  notes(): string[] {
    const limits = this.#donor.quota.limits(this.dependencies.clock, this.nicknames.annotate);
    return [...this.#reconciler.settled(), ...limits];
  }

  /** What peers can make grow here, and how far. */
  limits(): Limit[] {
    const { entries, seeds } = this.ring;
    return [
      { name: "ring-entries", value: entries.length, max: MAX_ENTRIES },
      { name: "ring-seeds", value: seeds.length, max: MAX_SEEDS },
      ...this.bootstrap.limits,
      this.nicknames.limit,
      this.#donor.quota.limit,
      this.#requests.limit,
      ...this.#reconciler.limits,
    ];
  }

  features(): Record<string, string> {
    return announce(this.#announcement);
  }

  judge(features: Features) {
    return judge(this.#announcement, features, this.nicknames.annotate, this.dependencies.store.path);
  }

  /** Ask a peer for its ring that does not announce it in the handshake, as those of the original. */
  connected(peer: PeerName): void {
    if (!this.ring.empty) this.#messenger.ask(peer);
  }

  /** A ring that only we know can still give in, so it is not announced. */
  get #announcement() {
    return { range: this.ring, seeds: this.#persistent.unshared ? [] : this.ring.seeds };
  }

  /** Begin to agree with other peers on the first ring, unless there is one. */
  establish(): void {
    if (this.ring.empty) this.bootstrap.begin();
  }

  /** Ask another peer for space in a range. */
  askForSpace(range: AddressRange): void {
    this.#requests.ask(range);
  }

  /** Ask the owner of an address to donate it; false where no route leads to that peer. */
  askForAddress(owner: PeerName, address: IPv4): boolean {
    return this.#messenger.requestSpace(owner, { start: address, end: address + 1 });
  }

  /** Record how much of our space is free. */
  reportFree(): void {
    this.#persistent.reportFree();
  }

  /** See TakeOvers.takeOver(). */
  takeOver(nameOrNickname: string, force?: boolean): Promise<number> {
    return this.#takeOvers.takeOver(nameOrNickname, force);
  }

  /** Hand all our space to another peer; resolves with it. Rejects with IpamError, with nothing changed unless `leaving`. */
  async leave(): Promise<PeerName | undefined> {
    const heir = await this.#handover.run();
    if (heir)
      this.dependencies.log.info("handed all addresses to a peer", { peer: this.nicknames.annotate(heir) });
    return heir;
  }

  /** Our space is another peer's, because we leave. */
  get leaving(): boolean {
    return this.#leaving;
  }

  #transfer(heir: PeerName): void {
    this.#leaving = true;
    this.#takeOvers.stop();
    this.#persistent.handOver(heir);
    this.#messenger.broadcast();
  }

  /** Reachable peers: owners of space first, then those known to run an allocator. */
  #heirs(): PeerName[] {
    const owners = this.ring.peerNames();
    const rank = (name: PeerName) => (owners.has(name) ? 0 : this.nicknames.get(name) !== undefined ? 1 : 2);
    const { reachablePeers, isAmbiguous } = this.config;
    return reachablePeers()
      .filter((name) => !isAmbiguous?.(name))
      .sort((a, b) => rank(a) - rank(b));
  }

  /** Peers became unreachable; while one owns space, users may want to name it. */
  peersGone(peers: readonly { readonly name: PeerName; readonly nickName: string }[]): void {
    const owners = this.ring.peerNames();
    const now = this.dependencies.clock.now();
    for (const { name, nickName } of peers) {
      this.heard.delete(name);
      if (owners.has(name)) {
        this.nicknames.learn([[name, nickName]]);
        this.unreachable.set(name, now);
      } else this.nicknames.forget(name);
    }
  }

  onUnicast(source: PeerName, message: Uint8Array): Sliced<void> {
    const [kind] = message;
    const body = message.subarray(1);
    if (kind !== MESSAGE.spaceRequest) this.#requests.answered();
    switch (kind) {
      case MESSAGE.spaceRequest: {
        const range = decodeRange(body);
        if (!this.ring.empty) this.#donor.donate(range, source, this.contested);
        return;
      }
      case MESSAGE.spaceRequestDenied:
        return this.listener.denied(decodeRange(body), source);
      case MESSAGE.ringUpdate:
        return this.#onRingUpdate(source, body);
      default:
        throw new IpamError(`unknown IPAM message ${kind} from ${source}`);
    }
  }

  *#onRingUpdate(source: PeerName, state: Uint8Array): Work {
    yield* this.#update(source, state, source, true);
  }

  *onBroadcast(source: PeerName, message: Uint8Array): Work<GossipData> {
    yield* this.#update(source, message, source);
    return this.gossip();
  }

  /** Changes of owners are passed on: not every peer was reached by their broadcast. */
  *onGossip(message: Uint8Array, from: PeerName): Work<GossipData | undefined> {
    this.heard.add(from);
    const change = yield* this.#update(UNKNOWN_PEER, message, from);
    return change === "owners" ? this.gossip() : undefined;
  }

  gossip(): GossipData {
    return this.#messenger.gossip();
  }

  /** `speaker` sent this state; `sender` is the peer to answer, if any. */
  *#update(sender: PeerName, message: Uint8Array, speaker: PeerName, byUnicast = false): Work<Change> {
    // No other work sees half a message: nothing changes while it is decoded, and our ring changes in one step.
    const state = yield* readState(message);
    yield* this.#learnNicknames(state.nicknames);
    if (state.ring) {
      const change = yield* this.#reconciler.merge(state.ring, speaker);
      yield;
      if (speaker === state.ring.peer) this.#handover.heard(speaker, state.ring);
      if (sender !== UNKNOWN_PEER && this.ring.contradicts(state.ring)) this.#messenger.correct(sender);
      return change;
    }
    if (!this.ring.empty) {
      // A unicast without a ring is a question, perhaps of a peer that has another ring; others wait for this one.
      if (!byUnicast) this.#persistent.share();
      if (sender !== UNKNOWN_PEER) this.#messenger.send(sender);
    } else if (state.consensus) {
      this.bootstrap.update(state.consensus);
    } else if (this.bootstrap.isElector && sender !== UNKNOWN_PEER) {
      // An observer waits for an elector to begin.
      this.establish();
    }
    return "nothing";
  }

  *#learnNicknames(told: ReadonlyMap<PeerName, string>): Work {
    const names = [...told];
    for (let at = 0; at < names.length; at += NICKNAME_STEP) {
      this.nicknames.learn(names.slice(at, at + NICKNAME_STEP), (name) => this.#wantsNickname(name));
      yield;
    }
  }

  #wantsNickname(name: PeerName): boolean {
    return name === this.config.ourName || this.ring.peerNames().has(name) || this.config.isKnownPeer(name);
  }

  #create(peers: readonly PeerName[]): void {
    const unshared = this.config.seed.length === 0 && peers.every((peer) => peer === this.config.ourName);
    this.#persistent.create([...new Set(peers)].sort(), unshared);
    this.#persistent.updateSpace();
    this.#changed();
    this.#messenger.broadcast();
  }

  #changed(): void {
    if (!this.ring.empty) this.bootstrap.end();
    this.listener.changed();
  }

  #state(): Omit<IpamState, "now"> {
    const { ring, nicknames, bootstrap, config } = this;
    return {
      nicknames: nicknames.all,
      consensus: ring.empty ? bootstrap.votes : undefined,
      ring: ring.empty ? undefined : { ...ring.state(), peer: config.ourName },
    };
  }
}
