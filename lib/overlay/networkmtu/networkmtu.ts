// The MTU of the network: the most that the paths of all peers carry, as their gossip says, and 1376 bytes as long as a peer
// is in the mesh that does not take part, such as one of Weave Net 2.x. It falls at once, and rises once it could be larger
// for a while. A peer first accepts what it announces, so that peers need not rise together. Pure: takes a clock.
import type { Clock, Timer } from "../../clock/clock.ts";
import { Soon } from "../../clock/soon.ts";
import type { GossipChannel, GossipData, Gossiper } from "../../mesh/gossip.ts";
import type { PeerName } from "../../mesh/name.ts";
import type { Limit } from "../../sys/limit.ts";
import { DEFAULT_MTU } from "../encapsulation.ts";
import { Participants } from "./participants.ts";
import { PeerRecords } from "./records.ts";
import { MtuSteps } from "./steps.ts";
import {
  encodeRecords,
  MtuGossip,
  type MtuRecord,
  type MtuRecords,
  newerRecord,
  nextVersion,
} from "./wire.ts";

/** A new router that has measured nothing announces its MTU this long after it has met others. */
export const MEASURE_MS = 3_000;
/** Delay of evaluating new records, and of passing on those that neighbours unicast: routers that start together send many. */
export const BATCH_MS = 200;
/** Delay of a record that supersedes one of an earlier run of ours, or of an impostor. */
export const CORRECT_MS = 100;

export interface NetworkMtuParams {
  readonly clock: Clock;
  readonly self: PeerName;
  /** --mtu; undefined for auto. */
  readonly fixed: number | undefined;
  /** The MTU of the network so far; undefined for a new router. */
  readonly agreed: number | undefined;
  /** Return the other peers in the mesh. */
  peers(): Iterable<PeerName>;
  /** Return whether a neighbour takes part; undefined for peers that are no neighbours. */
  takesPart(peer: PeerName): boolean | undefined;
  /** Make links accept packets of that size; it is announced once this resolves. */
  accept(mtu: number): Promise<void>;
  /** Called when the MTU of the network changes. */
  changed(mtu: number): void;
}

/** What sets the MTU of the network. */
export interface MtuLimit {
  /** The peer that limits it. */
  readonly peer: PeerName;
  /** The neighbour at the other end of its path. */
  readonly to?: PeerName | undefined;
  readonly why: "path" | "option" | "no part";
  /** Bytes; more than the MTU of the network until that rises. */
  readonly mtu: number;
}

/** A host and its --mtu, in bytes. */
interface FixedMtu {
  readonly peer: PeerName;
  readonly mtu: number;
}

/** Hosts with different --mtu: what containers of the first send and is too large for the second is lost there. */
export interface MtuConflict {
  readonly larger: FixedMtu;
  readonly smaller: FixedMtu;
}

export class NetworkMtu implements Gossiper {
  #own: MtuRecord;
  readonly #records: PeerRecords;
  readonly #participants: Participants;
  readonly #steps: MtuSteps;
  #channel: GossipChannel | undefined;
  /** The least that our own paths carry, and the neighbour on that path. */
  #measured: { readonly mtu: number; readonly by: PeerName } | undefined;
  #limit: MtuLimit;
  #accepting = false;
  #timer: Timer | undefined;
  #published = false;
  /** Neighbours that have our record of us. */
  readonly #told = new Set<PeerName>();
  readonly #correcting: Soon;
  /** New records to pass on to neighbours. */
  readonly #toPassOn = new Map<PeerName, MtuRecord>();
  readonly #passing: Soon;
  readonly #evaluating: Soon;
  #stopped = false;

  constructor(private readonly params: NetworkMtuParams) {
    const { fixed, agreed, self, clock, takesPart } = params;
    this.#records = new PeerRecords({ self, takesPart, counts: (peer) => this.#participants.has(peer) });
    this.#participants = new Participants({
      takesPart,
      hasRecord: (peer) => this.#records.has(peer),
      forget: (peer) => this.#records.delete(peer),
    });
    this.#correcting = new Soon(clock, () => this.#publish());
    this.#passing = new Soon(clock, () => {
      this.#channel?.neighbours(new MtuGossip(new Map(this.#toPassOn)));
      this.#toPassOn.clear();
    });
    this.#evaluating = new Soon(clock, () => this.evaluate());
    this.#steps = new MtuSteps(fixed ?? agreed ?? DEFAULT_MTU);
    this.#own = { version: 1, mtu: this.mtu, fixed: fixed !== undefined, by: self };
    this.#limit = { peer: self, why: fixed === undefined ? "path" : "option", mtu: this.mtu };
  }

  start(channel: GossipChannel): void {
    this.#channel = channel;
    // A new router limits others only once it knows by how much.
    if ((this.params.fixed ?? this.params.agreed) !== undefined) this.#publish();
    this.evaluate();
  }

  stop(): void {
    this.#stopped = true;
    this.#timer?.cancel();
    for (const soon of [this.#correcting, this.#passing, this.#evaluating]) soon.stop();
  }

  /** MTU of the network, in bytes. */
  get mtu(): number {
    return this.#steps.current;
  }

  get isFixed(): boolean {
    return this.params.fixed !== undefined;
  }

  /** Number of peers that count, present or gone. */
  get size(): number {
    return this.#participants.size;
  }

  limits(): Limit[] {
    return this.#records.limits();
  }

  /** What sets the MTU. */
  get limit(): MtuLimit {
    return this.#limit;
  }

  /** The largest and the smallest --mtu of peers that count, this host among them; undefined where they do not differ. */
  get conflict(): MtuConflict | undefined {
    const { self } = this.params;
    let larger: FixedMtu | undefined;
    let smaller: FixedMtu | undefined;
    for (const [peer, { mtu, fixed }] of [[self, this.#own] as const, ...this.#records.all]) {
      if (!fixed || (peer !== self && !this.#participants.has(peer))) continue;
      if (mtu > (larger?.mtu ?? 0)) larger = { peer, mtu };
      if (mtu < (smaller?.mtu ?? Number.POSITIVE_INFINITY)) smaller = { peer, mtu };
    }
    return larger && smaller && larger.mtu > smaller.mtu ? { larger, smaller } : undefined;
  }

  /** Take the least that our paths carry, and the neighbour on that path; undefined where none has been measured. */
  measured(least: { readonly mtu: number; readonly by: PeerName } | undefined): void {
    const before = this.#measured;
    this.#measured = least;
    // Called at each change of a path; most changes leave the least as it was.
    const same = before?.mtu === least?.mtu && before?.by === least?.by;
    if (!same || (least && least.mtu !== this.#own.mtu)) this.evaluate();
  }

  /** To be called when the topology or anything else has changed. */
  evaluate(): void {
    if (this.#stopped) return;
    const now = this.params.clock.now();
    const present = new Set(this.params.peers());
    present.delete(this.params.self);
    const silentMs = this.#publishOnceMet(this.#participants.meet(present, now), now);
    const { without, waitMs, nextMs } = this.#participants.look(present, now);
    if (!this.isFixed) this.#follow(without !== undefined);
    this.#sendToNeighbours();
    const next = Math.min(nextMs, silentMs);
    if (this.isFixed) return this.#lookAgain(next);
    this.#limit = without === undefined ? this.#least() : { peer: without, why: "no part", mtu: DEFAULT_MTU };
    const before = this.mtu;
    const stepMs = this.#steps.follow(this.#limit.mtu, waitMs !== Number.POSITIVE_INFINITY, now);
    if (this.mtu !== before) this.params.changed(this.mtu);
    this.#lookAgain(Math.min(next, stepMs));
  }

  /** Publish our record where others have been met long ago; return in how many ms that is due, infinity where it is done. */
  #publishOnceMet(metAt: number | undefined, now: number): number {
    if (metAt === undefined || this.#published) return Number.POSITIVE_INFINITY;
    const ms = metAt + MEASURE_MS - now;
    if (ms > 0) return ms;
    this.#publish();
    return Number.POSITIVE_INFINITY;
  }

  #lookAgain(ms: number): void {
    this.#timer?.cancel();
    this.#timer = this.params.clock.after(ms, () => this.evaluate());
  }

  onUnicast(source: PeerName, message: Uint8Array): void {
    const changed = this.#merge(message, source);
    if (changed.size === 0) return;
    for (const [peer, record] of changed) this.#toPassOn.set(peer, record);
    this.#passing.within(BATCH_MS);
  }

  onBroadcast(source: PeerName, message: Uint8Array): GossipData | undefined {
    return toPassOn(this.#merge(message, source));
  }

  onGossip(message: Uint8Array, from: PeerName): GossipData | undefined {
    return toPassOn(this.#merge(message, from));
  }

  gossip(): GossipData {
    const records = new Map(this.#records.all);
    if (this.#published) records.set(this.params.self, this.#own);
    return new MtuGossip(records);
  }

  /** Return the least that peers and we carry. */
  #least(): MtuLimit {
    const { self } = this.params;
    let [least, record] = [self, this.#own];
    for (const [peer, other] of this.#records.all)
      if (this.#participants.has(peer) && other.mtu < record.mtu) [least, record] = [peer, other];
    const to = record.by === least ? undefined : record.by;
    return { peer: least, to, why: record.fixed ? "option" : "path", mtu: record.mtu };
  }

  /** Announce what we measure; more than before only once our links accept it, and never beside peers that take no part. */
  #follow(without: boolean): void {
    const measured = this.#measured;
    if (!measured) return;
    const { mtu, by } = measured;
    const unmeasured = this.#own.by === this.params.self;
    if (mtu < this.#own.mtu || (mtu === this.#own.mtu && unmeasured)) return this.#announce(mtu, by);
    if (mtu === this.#own.mtu || without || this.#accepting) return;
    this.#accepting = true;
    this.params.accept(mtu).then(
      () => {
        this.#accepting = false;
        const least = this.#measured;
        if (this.#stopped || !least) return;
        this.#announce(Math.min(mtu, least.mtu), least.by);
        this.evaluate();
      },
      // The next measurement tries again.
      () => {
        this.#accepting = false;
      },
    );
  }

  #announce(mtu: number, by: PeerName): void {
    this.#own = { version: nextVersion(this.#own.version), mtu, fixed: false, by };
    this.#publish();
  }

  #publish(): void {
    this.#published = true;
    this.#channel?.broadcast(new MtuGossip(new Map([[this.params.self, this.#own]])));
  }

  /** Announce our record again, a few times a second where an impostor goes on. */
  #correct(): void {
    if (this.#published) this.#correcting.within(CORRECT_MS);
  }

  /** Send our record to new neighbours, which believe nobody else about us. */
  #sendToNeighbours(): void {
    if (!this.#published) return;
    const { self, takesPart } = this.params;
    for (const peer of this.#told) if (takesPart(peer) === undefined) this.#told.delete(peer);
    for (const peer of this.#participants.all()) {
      if (this.#told.has(peer) || takesPart(peer) !== true) continue;
      if (this.#channel?.unicast(peer, encodeRecords([[self, this.#own]]))) this.#told.add(peer);
    }
  }

  /** Take records that `speaker` has sent; return the new ones. */
  #merge(message: Uint8Array, speaker: PeerName): MtuRecords {
    const { changed, ofSelf } = this.#records.merge(message, speaker, this.params.clock.now());
    // Of an earlier run of ours, or somebody else's invention.
    if (ofSelf && newerRecord(this.#own, ofSelf) !== this.#own) {
      this.#own = { ...this.#own, version: nextVersion(ofSelf.version) };
      this.#correct();
    }
    if ([...changed.values()].some(({ mtu }) => mtu < this.mtu)) this.evaluate();
    else if (changed.size > 0) this.#evaluating.within(BATCH_MS);
    return changed;
  }
}

const toPassOn = (changed: MtuRecords): GossipData | undefined =>
  changed.size === 0 ? undefined : new MtuGossip(changed);
