// The allocator of one peer: hands out addresses from the part of the range it owns, asks other peers for more, and
// keeps the ring in step with theirs by gossip (weave: ipam/allocator.go). Pure: clock, chance, gossip and disk are
// passed in; what has to wait for other peers is a promise.
import {
  type AddressRange,
  type Cidr,
  cidrRange,
  formatCidr,
  formatIPv4,
  formatRange,
  hostRange,
  type IPv4,
  rangeSize,
  rangesOverlap,
} from "../address/ipv4.ts";
import { type Clock, every, type Timer } from "../clock/clock.ts";
import type { Random } from "../clock/random.ts";
import type { Log } from "../log/log.ts";
import type { GossipChannel, GossipData, Gossiper } from "../mesh/gossip.ts";
import { encodeTagged } from "../mesh/message.ts";
import { type PeerName, UNKNOWN_PEER } from "../mesh/name.ts";
import { Claim } from "./claim.ts";
import { Consensus } from "./consensus.ts";
import { IpamError } from "./errors.ts";
import { Nicknames } from "./nicknames.ts";
import { OwnedAddresses } from "./owned.ts";
import { DONE, Pending } from "./pending.ts";
import { Ring, RingError } from "./ring.ts";
import type { AllocatorStore } from "./saved.ts";
import { Space } from "./space.ts";
import { decodeRange, decodeState, encodeRangeMessage, encodeState, MESSAGE } from "./wire.ts";

const TICK_MS = 5_000;

export interface AllocatorConfig {
  readonly ourName: PeerName;
  readonly ourUid: bigint;
  readonly ourNickName: string;
  /** The whole range that peers share. */
  readonly universe: Cidr;
  /** Peers to divide the range among, without asking anybody. */
  readonly seed: readonly PeerName[];
  /** Never takes part in the first division; waits for others. */
  readonly observer: boolean;
  /** How many peers have to agree on the first division; asked when it begins. */
  readonly quorum: () => number;
  readonly isKnownPeer: (name: PeerName) => boolean;
}

export interface AllocatorDependencies {
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly store: AllocatorStore;
}

export class Allocator implements Gossiper {
  readonly ring: Ring;
  readonly space = new Space();
  readonly owned: OwnedAddresses;
  readonly nicknames = new Nicknames();
  readonly pending = new Pending();
  consensus: Consensus | undefined;
  awaitingConsensus = false;
  readonly #log: Log;
  #channel: GossipChannel | undefined;
  #ticker: Timer | undefined;
  #shuttingDown = false;

  constructor(
    readonly config: AllocatorConfig,
    private readonly dependencies: AllocatorDependencies,
  ) {
    const { start, end } = cidrRange(config.universe);
    this.ring = new Ring(start, end, config.ourName);
    this.owned = new OwnedAddresses(dependencies.store);
    this.nicknames.learn([[config.ourName, config.ourNickName]]);
    this.#log = dependencies.log;
    if (!config.observer) this.consensus = new Consensus({ name: config.ourName, uid: config.ourUid });
  }

  /** Takes up what was saved, or begins anew, and speaks on `channel` from now on. */
  start(channel: GossipChannel): void {
    this.#channel = channel;
    const { seed } = this.config;
    if (this.#load()) {
      this.#info(`Initialising with persisted data${seed.length > 0 ? ", ignoring supplied IPAM seed" : ""}`);
    } else if (seed.length > 0) {
      this.#info("Initialising with supplied IPAM seed");
      this.#createRing(seed);
    } else {
      this.#info(
        this.config.observer
          ? "Initialising as observer - awaiting IPAM data from another peer"
          : "Initialising via deferred consensus",
      );
    }
    this.#ticker = every(this.dependencies.clock, TICK_MS, () => this.#tick());
  }

  stop(): void {
    this.#ticker?.cancel();
    this.pending.cancelAll();
  }

  /** Resolves once the range has been divided, which this asks for where it has not. */
  prime(signal?: AbortSignal): Promise<void> {
    return this.pending.run("prime", "", "Prime request", signal, () => {
      if (!this.ring.empty) return DONE;
      this.establishRing();
      return undefined;
    });
  }

  /**
   * An address for `id` in a subnet: the one it has, else a free one of ours, else one that another peer can spare;
   * waits while there is none. Rejects with IpamError where the subnet lies outside the range.
   */
  allocate(id: string, subnet: Cidr, isContainer = false, signal?: AbortSignal): Promise<IPv4> {
    this.#refuseWhenShuttingDown();
    const text = `${id} ${formatCidr(subnet)}`;
    return this.pending.run("allocate", id, text, signal, () => {
      const [held] = this.owned.within(id, cidrRange(subnet));
      if (held) return { value: held.address };
      if (!rangesOverlap(cidrRange(this.config.universe), cidrRange(subnet))) {
        throw new IpamError(`range ${formatCidr(subnet)} out of bounds: ${formatCidr(this.config.universe)}`);
      }
      this.establishRing();
      const hosts = hostRange(subnet);
      const address = this.space.allocate(hosts);
      if (address !== undefined) {
        this.owned.add(id, { address, prefix: subnet.prefix }, isContainer);
        this.#debug(`Allocated ${formatIPv4(address)} for ${id} in ${formatCidr(subnet)}`);
        this.#reportFree();
        return { value: address };
      }
      this.#askForSpace(hosts);
      return undefined;
    });
  }

  /** Takes a certain address into use for `id`; waits where another peer has to give it up first. */
  claim(
    id: string,
    cidr: Cidr,
    isContainer = false,
    noErrorOnUnknown = false,
    signal?: AbortSignal,
  ): Promise<void> {
    this.#refuseWhenShuttingDown();
    const claim = new Claim(this, id, cidr, isContainer, noErrorOnUnknown);
    return this.pending.run("claim", id, formatCidr(cidr), signal, () => claim.attempt(), cidr);
  }

  lookup(id: string, range: AddressRange): Cidr[] {
    return this.owned.within(id, range);
  }

  /** Gives back one address of `id`; throws IpamError when it does not hold it. */
  free(id: string, address: IPv4): void {
    if (!this.owned.remove(id, address)) {
      throw new IpamError(`Free: address ${formatIPv4(address)} not found for ${id}`);
    }
    this.space.release(address);
    this.#reportFree();
  }

  /** Gives back all addresses of `id`, and stops waiting for any; throws IpamError when there are none. */
  delete(id: string): void {
    const waited = this.pending.cancel(id);
    const cidrs = this.owned.removeAll(id);
    if (cidrs.length === 0 && !waited) throw new IpamError(`Delete: no addresses for ${id}`);
    for (const { address } of cidrs) this.space.release(address);
    this.#reportFree();
  }

  /** Hands all our space to another peer and allocates nothing any more. */
  shutdown(): void {
    this.#shuttingDown = true;
    this.pending.cancelAll();
    const heir = this.#heir();
    this.ring.transfer(this.config.ourName, heir ?? UNKNOWN_PEER);
    this.space.clear();
    if (heir) {
      this.#saveRing();
      this.#broadcast();
    }
  }

  /** Takes over the space of a peer that is gone for good; returns how many addresses that were. */
  takeOver(nameOrNickName: string): number {
    const name = this.nicknames.find(nameOrNickName);
    if (!name || name === this.config.ourName) {
      this.#log.warning(
        `[allocator] attempt to take over range from ${name ? "ourself" : `unknown peer '${nameOrNickName}'`}`,
      );
      return 0;
    }
    const ranges = this.ring.transfer(name, this.config.ourName);
    if (ranges.length === 0) return 0;
    const before = this.space.freeCount();
    this.ringUpdated();
    this.#broadcast();
    return this.space.freeCount() - before;
  }

  peerGone(name: PeerName): void {
    if (!this.ring.peerNames().has(name)) this.nicknames.prune((known) => known !== name);
  }

  onUnicast(source: PeerName, message: Uint8Array): void {
    const body = message.subarray(1);
    switch (message[0]) {
      case MESSAGE.spaceRequest: {
        const range = decodeRange(body);
        if (!this.ring.empty) this.#donate(range, source);
        return;
      }
      case MESSAGE.spaceRequestDenied: {
        const range = decodeRange(body);
        return this.pending.denied(range, (cidr) => this.ownedElsewhere(cidr, source));
      }
      case MESSAGE.ringUpdate:
        return this.#update(source, body);
      default:
        throw new IpamError(`unknown IPAM message ${message[0]} from ${source}`);
    }
  }

  onBroadcast(source: PeerName, message: Uint8Array): GossipData {
    this.#update(source, message);
    return this.gossip();
  }

  onGossip(message: Uint8Array): undefined {
    this.#update(UNKNOWN_PEER, message);
  }

  gossip(): GossipData {
    const data: GossipData = { merge: () => data, encode: () => [this.#encode()] };
    return data;
  }

  /** Begins to agree with others on the first division, unless there is one or that has begun. */
  establishRing(): void {
    if (!this.ring.empty || this.awaitingConsensus) return;
    this.awaitingConsensus = true;
    if (!this.consensus) return;
    this.consensus.quorum = this.config.quorum();
    this.#info(`Assuming quorum size of ${this.consensus.quorum}`);
    this.#propose();
    this.#createAgreedRing();
  }

  /** Asks the owner of an address to give it up; false when there is no way to that peer. */
  requestAddress(owner: PeerName, address: IPv4): boolean {
    return this.#request(owner, { start: address, end: address + 1 });
  }

  /** The error for an address that another peer will not give up. */
  ownedElsewhere(cidr: Cidr, owner: PeerName, reason = ""): IpamError {
    const nickname = this.nicknames.get(owner);
    const who = nickname === undefined ? owner : `${owner} (${nickname})`;
    return new IpamError(`address ${formatCidr(cidr)} is owned by other peer ${who}${reason}`);
  }

  /** To be called when the ring has changed: saves it and goes on with what was waiting. */
  ringUpdated(): void {
    this.awaitingConsensus = false;
    if (!this.ring.empty) this.consensus = undefined;
    this.#saveRing();
    this.space.update(this.ring.ownedRanges());
    this.pending.retry();
  }

  #refuseWhenShuttingDown(): void {
    if (this.#shuttingDown)
      throw new IpamError("this peer is leaving the network and allocates no addresses");
  }

  #load(): boolean {
    const { store } = this.dependencies;
    const saved = store.loadRing();
    const { start, end, peer } = this.ring;
    const text = saved && formatRange(saved);
    if (!saved || saved.entries.length === 0) {
      this.owned.forgetAll();
      return false;
    }
    if (saved.peer !== peer || saved.start !== start || saved.end !== end) {
      const other =
        saved.peer === peer
          ? `IPAM range ${text}; our range is ${formatCidr(this.config.universe)}`
          : `peername ${saved.peer}`;
      this.#info(`Deleting persisted data for ${other}`);
      this.owned.forgetAll();
      return false;
    }
    this.ring.restore(saved);
    this.owned.load();
    this.space.update(this.ring.ownedRanges());
    for (const [, { cidrs }] of this.owned.entries())
      for (const { address } of cidrs) this.space.claim(address);
    return true;
  }

  #tick(): void {
    if (this.awaitingConsensus) this.#propose();
    else if (this.pending.size > 0) this.pending.retry();
    this.#reportFree();
  }

  #propose(): void {
    this.consensus?.propose();
    this.#broadcast();
  }

  #createAgreedRing(): void {
    const agreed = this.consensus?.agreed();
    if (agreed) this.#createRing(agreed);
  }

  #createRing(peers: readonly PeerName[]): void {
    this.ring.claimForPeers([...new Set(peers)].sort());
    this.ringUpdated();
    this.#broadcast();
  }

  #askForSpace(range: AddressRange): void {
    const { random } = this.dependencies;
    for (const donor of this.ring.donors(range.start, range.end, () => random.float())) {
      if (this.#request(donor, range)) return;
    }
  }

  #request(peer: PeerName, range: AddressRange): boolean {
    return this.#channel?.unicast(peer, encodeRangeMessage(MESSAGE.spaceRequest, range)) ?? false;
  }

  #donate(range: AddressRange, to: PeerName): void {
    const chunk = this.space.donate(range);
    if (chunk) {
      this.#debug(`Giving range ${formatRange(chunk)} (${rangeSize(chunk)}) to ${to}`);
      this.ring.grant(chunk.start, chunk.end, to);
      this.#saveRing();
      this.#broadcast();
    } else {
      this.#channel?.unicast(to, encodeRangeMessage(MESSAGE.spaceRequestDenied, range));
    }
    this.#sendRing(to);
  }

  #sendRing(to: PeerName): void {
    this.#channel?.unicast(to, encodeTagged(MESSAGE.ringUpdate, this.#encode()));
  }

  #update(sender: PeerName, message: Uint8Array): void {
    const state = decodeState(message);
    this.nicknames.learn(state.nicknames);
    if (state.ring) {
      this.#merge(state.ring);
    } else if (!this.ring.empty) {
      // The sender is behind: tell it.
      if (sender !== UNKNOWN_PEER) this.#sendRing(sender);
    } else if (state.consensus) {
      if (!this.consensus?.update(state.consensus)) return;
      if (this.consensus.think()) this.#broadcast();
      this.#createAgreedRing();
    } else if (this.consensus && sender !== UNKNOWN_PEER) {
      // An observer waits for somebody to begin.
      this.establishRing();
    }
  }

  #merge(other: NonNullable<ReturnType<typeof decodeState>["ring"]>): void {
    const inUse = (ranges: AddressRange[]) =>
      ranges.some((range) => this.space.freeCount(range) !== rangeSize(range));
    try {
      if (!this.ring.merge(other, inUse)) return;
    } catch (error) {
      throw error instanceof RingError ? this.#explain(error, other) : error;
    }
    const owners = this.ring.peerNames();
    this.nicknames.prune((name) => owners.has(name) || this.config.isKnownPeer(name));
    this.ringUpdated();
  }

  #explain(error: RingError, other: { start: number; end: number; seeds: readonly PeerName[] }): Error {
    const remedy = "run 'weave reset' on the peer that is to give in, and launch it again";
    if (error.code === "different-seeds") {
      const [received, ours] = [other.seeds, this.ring.seeds].map((names) =>
        names.map((name) => this.nicknames.annotate(name)).join(" "),
      );
      return new IpamError(
        `IP allocation was seeded by different peers (received: [${received}], ours: [${ours}]); ${remedy}`,
      );
    }
    if (error.code === "different-range") {
      const received = formatRange(other);
      return new IpamError(
        `Incompatible IP allocation ranges (received: ${received}, ours: ${formatRange(this.ring)}); ` +
          "launch all peers with the same --ipalloc-range",
      );
    }
    return error;
  }

  /** Who gets our space when we leave: a reachable peer with space of its own before one without, then any. */
  #heir(): PeerName | undefined {
    const { isKnownPeer, ourName } = this.config;
    const others = [...this.nicknames.all.keys()].filter((name) => name !== ourName);
    return this.ring.heir(isKnownPeer) ?? others.find(isKnownPeer) ?? this.ring.heir(() => true) ?? others[0];
  }

  #reportFree(): void {
    if (this.ring.empty) return;
    if (this.ring.reportFree((range) => this.space.freeCount(range))) this.#saveRing();
  }

  #saveRing(): void {
    this.dependencies.store.saveRing({ ...this.ring.state(), peer: this.config.ourName });
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
