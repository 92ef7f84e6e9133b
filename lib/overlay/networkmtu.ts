// The MTU of the network: the most that the paths of all peers carry, as their gossip says, and 1376 bytes as long as a peer
// is in the mesh that does not take part, such as one of Weave Net 2.x. It falls at once, and rises once it could be larger
// for a while. A peer first accepts what it announces, so that peers need not rise together. Pure: takes a clock.
import type { Clock, Timer } from "../clock/clock.ts";
import { Soon } from "../clock/soon.ts";
import { MAX_PEERS } from "../mesh/bounds.ts";
import type { GossipChannel, GossipData, Gossiper } from "../mesh/gossip.ts";
import type { PeerName } from "../mesh/name.ts";
import type { Limit } from "../sys/limit.ts";
import { DEFAULT_MTU, LEAST_MTU } from "./encapsulation.ts";
import {
  decodeRecords,
  encodeRecords,
  MtuGossip,
  type MtuRecord,
  type MtuRecords,
  newerRecord,
  nextVersion,
} from "./mtu.ts";

/** The least that --mtu takes. */
const LEAST_FIXED = 576;
/** The MTU rises after this, and after twice the time for each fall that soon follows a rise. */
export const RISE_MS = 10_000;
export const MAX_RISE_MS = 10 * 60_000;
const STEADY_MS = 10 * 60_000;
/** Least interval of falls: all containers are told of each. */
export const FALL_MS = 500;
/** Time for the record of a peer that is new in the topology. */
export const RECORD_MS = 5_000;
/** A new router that has measured nothing announces its MTU this long after it has met others. */
export const MEASURE_MS = 3_000;
/** Delay of evaluating new records, and of passing on those that neighbours unicast: routers that start together send many. */
export const BATCH_MS = 200;
/** Delay of a record that supersedes one of an earlier run of ours, or of an impostor. */
export const CORRECT_MS = 100;
/** Records of peers that the topology does not have yet. */
export const MAX_STRANGERS = 256;
/** A peer counts for so long after it was last reachable: it may only be restarting, while its kernel forwards. */
export const GONE_MS = 70_000;

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

interface Known {
  readonly since: number;
  /** It has been found to take no part. */
  without?: boolean;
  /** Since when it is no longer in the mesh. */
  goneAt?: number | undefined;
  /** It has our record, as our neighbour. */
  hasOurs?: boolean;
}

export class NetworkMtu implements Gossiper {
  /** MTU of the network, in bytes. */
  mtu: number;
  #own: MtuRecord;
  readonly #records = new Map<PeerName, MtuRecord>();
  readonly #known = new Map<PeerName, Known>();
  #channel: GossipChannel | undefined;
  /** The least that our own paths carry, and the neighbour on that path. */
  #measured: { readonly mtu: number; readonly by: PeerName } | undefined;
  #limit: MtuLimit;
  #accepting = false;
  #timer: Timer | undefined;
  /** When the MTU may rise; undefined while it could not. */
  #risesAt: number | undefined;
  #riseMs = RISE_MS;
  /** When it rose; undefined once it has fallen since. */
  #rose: number | undefined;
  #fellAt = Number.NEGATIVE_INFINITY;
  #published = false;
  readonly #correcting: Soon;
  /** New records to pass on to neighbours. */
  readonly #toPassOn = new Map<PeerName, MtuRecord>();
  readonly #passing: Soon;
  readonly #evaluating: Soon;
  #strangersForgottenAt = Number.NEGATIVE_INFINITY;
  #stopped = false;

  constructor(private readonly params: NetworkMtuParams) {
    const { fixed, agreed, self, clock } = params;
    this.#correcting = new Soon(clock, () => this.#publish());
    this.#passing = new Soon(clock, () => {
      this.#channel?.neighbours(new MtuGossip(new Map(this.#toPassOn)));
      this.#toPassOn.clear();
    });
    this.#evaluating = new Soon(clock, () => this.evaluate());
    this.mtu = fixed ?? agreed ?? DEFAULT_MTU;
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

  get isFixed(): boolean {
    return this.params.fixed !== undefined;
  }

  /** Number of peers that count, present or gone. */
  get size(): number {
    return this.#known.size;
  }

  limits(): Limit[] {
    return [{ name: "mtu-records", value: this.#records.size, max: MAX_PEERS + MAX_STRANGERS }];
  }

  /** What sets the MTU. */
  get limit(): MtuLimit {
    return this.#limit;
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
    const { without, waitMs, nextMs } = this.#lookForOthers(now);
    if (!this.isFixed) this.#follow(without !== undefined);
    this.#sendToNeighbours();
    if (this.isFixed) return this.#lookAgain(nextMs);
    this.#limit = without === undefined ? this.#least() : { peer: without, why: "no part", mtu: DEFAULT_MTU };
    const { mtu } = this.#limit;
    let next: number = nextMs;
    const fallsIn = this.#fellAt + FALL_MS - now;
    if (mtu < this.mtu && fallsIn > 0) next = Math.min(next, fallsIn);
    else if (mtu < this.mtu) this.#fall(mtu, now);
    else if (mtu === this.mtu) this.#risesAt = undefined;
    else if (waitMs === Number.POSITIVE_INFINITY) {
      this.#risesAt ??= now + this.#riseMs;
      if (now >= this.#risesAt) this.#rise(mtu, now);
      else next = this.#risesAt - now;
    }
    this.#lookAgain(next);
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
    const records = new Map(this.#records);
    if (this.#published) records.set(this.params.self, this.#own);
    return new MtuGossip(records);
  }

  /**
   * Return a peer that takes no part, if there is one; for how many ms the record of a new peer may still come; and when to
   * look again.
   */
  #lookForOthers(now: number): { without: PeerName | undefined; waitMs: number; nextMs: number } {
    const { self, takesPart } = this.params;
    const present = new Set(this.params.peers());
    present.delete(self);
    for (const peer of present) if (!this.#known.has(peer)) this.#known.set(peer, { since: now });
    const first = this.#known.values().next().value;
    const silentMs = first && !this.#published ? first.since + MEASURE_MS - now : Number.POSITIVE_INFINITY;
    if (silentMs <= 0) this.#publish();
    let without: PeerName | undefined;
    let waitMs = Number.POSITIVE_INFINITY;
    let nextMs = silentMs > 0 ? Math.min(GONE_MS, silentMs) : GONE_MS;
    for (const [peer, known] of this.#known) {
      if (present.has(peer)) known.goneAt = undefined;
      else known.goneAt ??= now;
      // Of more peers than a network can have, those that are gone were invented.
      if (known.goneAt !== undefined && this.#known.size > 2 * MAX_PEERS) known.goneAt = now - GONE_MS;
      const stays = known.goneAt === undefined ? GONE_MS : known.goneAt + GONE_MS - now;
      if (stays <= 0) {
        this.#known.delete(peer);
        this.#records.delete(peer);
        continue;
      }
      nextMs = Math.min(nextMs, stays);
      const takes = takesPart(peer);
      if (takes !== undefined) known.without = !takes;
      if (takes === undefined) known.hasOurs = false;
      const left = this.#records.has(peer) ? Number.POSITIVE_INFINITY : known.since + RECORD_MS - now;
      if (known.without || left <= 0) without ??= peer;
      else waitMs = Math.min(waitMs, left);
    }
    return { without, waitMs, nextMs: Math.min(nextMs, waitMs) };
  }

  /** Return the least that peers and we carry. */
  #least(): MtuLimit {
    const { self } = this.params;
    let [least, record] = [self, this.#own];
    for (const [peer, other] of this.#records)
      if (this.#known.has(peer) && other.mtu < record.mtu) [least, record] = [peer, other];
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
    for (const [peer, known] of this.#known) {
      if (known.hasOurs || this.params.takesPart(peer) !== true) continue;
      known.hasOurs = this.#channel?.unicast(peer, encodeRecords([[this.params.self, this.#own]])) ?? false;
    }
  }

  /** Several falls after one rise have one cause. */
  #fall(mtu: number, now: number): void {
    if (this.#rose !== undefined)
      this.#riseMs = now - this.#rose < STEADY_MS ? Math.min(2 * this.#riseMs, MAX_RISE_MS) : RISE_MS;
    this.#rose = undefined;
    this.#fellAt = now;
    this.#set(mtu);
  }

  #rise(mtu: number, now: number): void {
    this.#rose = now;
    this.#set(mtu);
  }

  #set(mtu: number): void {
    this.#risesAt = undefined;
    this.mtu = mtu;
    this.params.changed(mtu);
  }

  /** Take records that `speaker` has sent; return the new ones. Of a neighbour only its own word counts, once there is any. */
  #merge(message: Uint8Array, speaker: PeerName): MtuRecords {
    const { self, takesPart } = this.params;
    this.#forgetStrangers();
    let strangers = this.#countStrangers();
    const changed = new Map<PeerName, MtuRecord>();
    for (const [peer, record] of decodeRecords(message)) {
      if (peer === self) {
        // Of an earlier run of ours, or somebody else's invention.
        if (newerRecord(this.#own, record) !== this.#own) {
          this.#own = { ...this.#own, version: nextVersion(record.version) };
          this.#correct();
        }
        continue;
      }
      if (record.mtu < (record.fixed ? LEAST_FIXED : LEAST_MTU)) continue;
      const known = this.#records.get(peer);
      if (known && peer === speaker ? isSame(known, record) : known && newerRecord(known, record) === known)
        continue;
      if (known && peer !== speaker && takesPart(peer) !== undefined) continue;
      if (!known && !this.#known.has(peer) && ++strangers > MAX_STRANGERS) continue;
      if (!known && this.#records.size >= MAX_PEERS) continue;
      this.#records.set(peer, record);
      changed.set(peer, record);
    }
    if ([...changed.values()].some(({ mtu }) => mtu < this.mtu)) this.evaluate();
    else if (changed.size > 0) this.#evaluating.within(BATCH_MS);
    return changed;
  }

  #countStrangers(): number {
    let strangers = 0;
    for (const peer of this.#records.keys()) if (!this.#known.has(peer)) strangers++;
    return strangers;
  }

  /** Forget records of peers that are not in the mesh, now and then: they come before the topology has the peer. */
  #forgetStrangers(): void {
    const now = this.params.clock.now();
    if (now - this.#strangersForgottenAt < GONE_MS) return;
    this.#strangersForgottenAt = now;
    for (const peer of this.#records.keys()) if (!this.#known.has(peer)) this.#records.delete(peer);
  }
}

const toPassOn = (changed: MtuRecords): GossipData | undefined =>
  changed.size === 0 ? undefined : new MtuGossip(changed);

function isSame(a: MtuRecord, b: MtuRecord): boolean {
  return a.version === b.version && a.mtu === b.mtu && a.fixed === b.fixed && a.by === b.by;
}
