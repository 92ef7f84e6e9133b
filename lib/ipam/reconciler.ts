// What the rings of other peers change in ours, and what of ours is disputed meanwhile.

import { type AddressRange, formatRange } from "../address/ipv4.ts";
import { LatestMap } from "../clock/latestmap.ts";
import { atOnce, OneByOne, type Work } from "../clock/slices.ts";
import { TokenBucket } from "../clock/tokenbucket.ts";
import { type PeerName, UNKNOWN_PEER } from "../mesh/name.ts";
import type { Limit } from "../sys/limit.ts";
import { differentRange, differentSeeds } from "./announcement.ts";
import type { AllocatorConfig, AllocatorDependencies } from "./config.ts";
import { Disputes } from "./disputes.ts";
import { IpamError } from "./errors.ts";
import type { RingMessenger } from "./messenger.ts";
import type { Nicknames } from "./nicknames.ts";
import type { MergeDraft, PersistentRing } from "./persistentring.ts";
import { survivingRing } from "./ring/conflict.ts";
import { MAX_ENTRIES, RingError, type SentRing } from "./ring/entry.ts";
import type { Change, Dispute, Merged } from "./ring/merge.ts";
import type { Space } from "./space.ts";
import { gainedFrom, UnconfirmedRanges, without } from "./unconfirmed.ts";

/** A peer whose ring has to give in to ours does so within this. */
const GIVE_IN_MS = 5_000;
/** Attempts at a merge, as our ring may change during one; the last attempt is a single step. */
const MAX_MERGES = 4;
/**
 * Burst and rate per second, in entries, of merges that change our ranges and are saved before they are used: the longest ring
 * takes 15 ms and a megabyte on disk, and a liar can change our ranges with each.
 */
const SAVED_AT_ONCE = 2 * MAX_ENTRIES;
const SAVED_PER_S = 8_192;
/** Peers that rings are exchanged with at a time. */
const MAX_EXCHANGES = 16;
/** Peers whose rings are awaited to give in; the oldest is forgotten first. */
const MAX_GIVING_IN = 64;

/** Ranges that a merge gives us, by their previous owner. */
type Gained = ReadonlyMap<PeerName, readonly AddressRange[]>;
type Adopted = MergeDraft & { readonly gained: Gained };

export interface ReconcilerListener {
  /** Our ring has given in to another: none of our addresses is known to be ours. */
  replaced(): void;
  /** The ring, or what is contested of it, has changed. */
  changed(): void;
}

export class RingReconciler {
  readonly #disputes = new Disputes();
  readonly #unconfirmed = new UnconfirmedRanges();
  /** One merge at a time: each starts from the result of the one before. */
  readonly #merges = new OneByOne();
  readonly #pace = new TokenBucket(SAVED_AT_ONCE, SAVED_PER_S, 0);
  /** Peers whose ring has to give in to ours, and since when. */
  readonly #givingIn = new LatestMap<PeerName, number>(MAX_GIVING_IN);
  /** Where the next exchange begins among too many peers. */
  #exchanges = 0;
  /** What was ours when another host was found to have our name. */
  #beforeNamesake: readonly AddressRange[] | undefined;

  constructor(
    private readonly config: Pick<AllocatorConfig, "ourName" | "isKnownPeer" | "nameIsTaken">,
    private readonly dependencies: Pick<AllocatorDependencies, "clock" | "log" | "store" | "ringReplaced">,
    private readonly persistent: PersistentRing,
    private readonly space: Space,
    private readonly messenger: RingMessenger,
    private readonly nicknames: Nicknames,
    private readonly listener: ReconcilerListener,
  ) {}

  /** Ranges that another peer may hand out, or may not know to be ours. */
  get contested(): readonly AddressRange[] {
    return [...this.#unconfirmed.ranges, ...this.#disputes.contested, ...this.#ofNamesake()];
  }

  get limits(): Limit[] {
    return [this.#disputes.limit, this.#unconfirmed.limit];
  }

  /** What is wrong between our ring and those of others, for the status. */
  problems(): string[] {
    const { annotate } = this.nicknames;
    return [
      ...this.#disputes.problems(this.dependencies.clock, annotate(this.config.ourName), annotate),
      ...this.#unconfirmed.problems(annotate),
    ];
  }

  /** Disputes that were settled lately, for the status. */
  settled(): string[] {
    return this.#disputes.settled(this.dependencies.clock, this.nicknames.annotate);
  }

  /** To be called every few seconds. */
  tick(): void {
    const now = this.dependencies.clock.now();
    const owners = this.persistent.ring.peerNames();
    this.nicknames.prune((name) => owners.has(name) || this.config.isKnownPeer(name));
    this.#disputes.expire(now);
    this.#exchange(this.#unconfirmed.owners);
    if (this.#unconfirmed.expire(now, this.config.isKnownPeer)) this.listener.changed();
  }

  /** Merge the ring that `speaker` has passed on, in steps. Throws RefusedError or IpamError where it cannot be merged. */
  *merge(other: SentRing, speaker: PeerName): Work<Change> {
    const isOwnWord = speaker === other.peer;
    const { change, disputes } = yield* this.#mergeOrSettle(other, isOwnWord ? speaker : undefined);
    const now = this.dependencies.clock.now();
    const stillClaims = isOwnWord && this.persistent.ring.contradicts(other, speaker);
    if (isOwnWord && !stillClaims && this.#unconfirmed.confirmed(speaker)) this.listener.changed();
    const toReassert = this.#disputes.heard(speaker, disputes, stillClaims, now);
    if (toReassert.length > 0) this.#reassert(toReassert);
    return change;
  }

  /** Merge a ring into ours; or return the ms to wait first, if it changes our ranges and exceeds the rate. */
  *#merging(other: SentRing): Work<Adopted | number> {
    for (let merges = 1; ; merges++) {
      const isLast = merges === MAX_MERGES;
      const draft = isLast ? atOnce(this.#draft(other)) : yield* this.#draft(other);
      const wait = this.#waitFor(draft);
      if (wait > 0) return wait;
      this.#ofNamesake();
      if (this.persistent.adopt(draft)) return draft;
      if (isLast) throw new Error("cannot merge a ring: addresses in use would no longer be ours");
    }
  }

  #waitFor({ change, changesOurs }: Adopted): number {
    return change !== "nothing" && changesOurs ? this.#pace.wait(this.dependencies.clock.now()) : 0;
  }

  *#draft(other: SentRing): Work<Adopted> {
    const draft = yield* this.persistent.merging(other);
    if (draft.change === "nothing" || !draft.changesOurs) return { ...draft, gained: new Map() };
    const ranges = this.persistent.ring.ranges(draft.before);
    yield;
    const before = ranges.map(({ entry: { peer }, range }) => ({ peer, range }));
    yield;
    return { ...draft, gained: yield* gainedFrom(before, draft.owned, this.config.ourName) };
  }

  /** Save the result of a merge before it is used; `speaker` is the peer whose ring it is, else undefined. */
  #adopted({ change, changesOurs, entries, gained }: Adopted, speaker: PeerName | undefined): void {
    if (change === "nothing") return;
    // Peers send ranges of others again: a liar must not make us write a megabyte for each message.
    if (changesOurs) {
      this.#pace.charge(this.dependencies.clock.now(), entries.length);
      this.#gained(gained, speaker);
      this.persistent.save();
      this.persistent.updateSpace();
    } else this.persistent.saveLater();
    this.listener.changed();
  }

  /** Record the ranges that another peer than their owner has given us. */
  #gained(gained: Gained, speaker: PeerName | undefined): void {
    const now = this.dependencies.clock.now();
    const owners: PeerName[] = [];
    for (const [from, ranges] of gained) {
      if (from === speaker || from === UNKNOWN_PEER) continue;
      this.#unconfirmed.add(ranges, from, now);
      owners.push(from);
    }
    this.#exchange(owners);
  }

  /** Ranges that our name has got since another host was found to have it, too. */
  #ofNamesake(): readonly AddressRange[] {
    if (!this.config.nameIsTaken?.()) {
      this.#beforeNamesake = undefined;
      return [];
    }
    const owned = this.persistent.ring.ownedRanges();
    this.#beforeNamesake ??= owned;
    return without(owned, this.#beforeNamesake);
  }

  /** Make our entries newer than disputed ones, broadcast that, and ask the other owners for their rings. */
  #reassert(disputes: readonly Dispute[]): void {
    this.persistent.reassert(disputes);
    for (const [peer, claims] of Map.groupBy(disputes, (dispute) => dispute.peer)) {
      const ranges = claims.flatMap((dispute) => dispute.ranges);
      this.dependencies.log.warning(
        "keeping ranges with addresses in use here, which the ring of a peer claims",
        { ranges: ranges.slice(0, 4).map(formatRange), peer: this.nicknames.annotate(peer) },
      );
    }
    this.#exchange(disputes.map(({ peer }) => peer));
    this.messenger.broadcast();
  }

  /** Exchange rings with peers that are there; with a few each time, as a ring can name thousands, and has a megabyte. */
  #exchange(peers: readonly PeerName[]): void {
    const there = [...new Set(peers.filter((peer) => this.config.isKnownPeer(peer)))];
    this.#exchanges += MAX_EXCHANGES;
    const from = there.length > MAX_EXCHANGES ? this.#exchanges % there.length : 0;
    this.messenger.exchange(
      ...[...there, ...there].slice(from, from + Math.min(MAX_EXCHANGES, there.length)),
    );
  }

  *#mergeOrSettle(other: SentRing, speaker: PeerName | undefined): Work<Merged> {
    try {
      let merged = yield* this.#merges.run(() => this.#merging(other));
      // Other rings can be merged meanwhile.
      while (typeof merged === "number") {
        yield merged;
        merged = yield* this.#merges.run(() => this.#merging(other));
      }
      if (other.peer !== this.config.ourName) this.persistent.share();
      this.#givingIn.delete(other.peer);
      this.#adopted(merged, speaker);
      return merged;
    } catch (error) {
      if (!(error instanceof RingError)) throw error;
      return this.#settle(error, other);
    }
  }

  /** Let one of two rings give in; throws why they cannot be merged where neither does. */
  #settle(error: RingError, other: SentRing): Merged {
    if (error.code !== "different-seeds") throw this.#explain(error, other);
    const { dependencies, messenger, persistent } = this;
    const used = this.space.usedCount > 0;
    const survivor = survivingRing({ peer: this.config.ourName, unshared: persistent.unshared, used }, other);
    if (survivor === "theirs") {
      this.#ofNamesake();
      const peer = this.nicknames.annotate(other.peer);
      dependencies.log.info("replacing our ring, which no peer shares", { peer });
      persistent.replace(other);
      dependencies.ringReplaced?.();
      this.listener.replaced();
      this.listener.changed();
      return { change: "owners", disputes: [] };
    }
    const now = dependencies.clock.now();
    const since = this.#givingIn.get(other.peer);
    if (survivor !== "ours" || (since !== undefined && now - since > GIVE_IN_MS)) {
      // Reset or connected anew, it has time again.
      this.#givingIn.delete(other.peer);
      throw this.#explain(error, other);
    }
    if (since === undefined) this.#givingIn.set(other.peer, now);
    messenger.send(other.peer);
    return { change: "nothing", disputes: [] };
  }

  #explain(error: RingError, other: SentRing): Error {
    const { ring } = this.persistent;
    if (error.code === "different-range") return differentRange(formatRange(other), formatRange(ring));
    if (error.code !== "different-seeds") return new IpamError(error.message, { cause: error });
    const { annotate } = this.nicknames;
    const { path } = this.dependencies.store;
    return differentSeeds(other.seeds.map(annotate), ring.seeds.map(annotate), path);
  }
}
