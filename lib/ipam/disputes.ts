// Ranges in use here that another ring gives to another peer. We keep them; both sides show the dispute until one gives
// in.

import { type AddressRange, formatRange } from "../address/ipv4.ts";
import { type Clock, timeText } from "../clock/clock.ts";
import { LatestMap } from "../clock/latestmap.ts";
import { TokenBucket } from "../clock/tokenbucket.ts";
import type { PeerName } from "../mesh/name.ts";
import { forgetting, type Limit } from "../sys/limit.ts";
import type { Dispute } from "./ring/merge.ts";

/** Interval at which our version of a disputed token is raised: two owners must not race to the last version. */
const REASSERT_INTERVAL_MS = 10_000;
/** Burst and rate per second of rings that make us reassert ours: a liar can name other claimers in each. */
const REASSERTED_AT_ONCE = 16;
const REASSERTED_PER_S = 1 / 5;
/** A dispute that no ring repeats within this is over. */
const OVER_MS = 5 * 60_000;
/** Disputing peers; the oldest is forgotten first. */
const MAX_PEERS = 64;
/** Ranges of one peer that are kept and shown. */
const MAX_RANGES = 16;
/** Time for which settled disputes are shown, and their number. */
const SETTLED_MS = 10 * 60_000;
const MAX_SETTLED = 16;

interface DisputeWithPeer {
  ranges: readonly AddressRange[];
  readonly since: number;
  last: number;
  reassertedAt: number;
  /** The peer claims the ranges itself, so it may hand out the same addresses. */
  direct: boolean;
}

export class Disputes {
  readonly #byPeer = new LatestMap<PeerName, DisputeWithPeer>(MAX_PEERS);
  readonly #pace = new TokenBucket(REASSERTED_AT_ONCE, REASSERTED_PER_S, 0);
  #settled: { readonly peer: PeerName; readonly ranges: readonly AddressRange[]; readonly at: number }[] = [];

  get limit(): Limit {
    return forgetting("disputing-peers", this.#byPeer);
  }

  /**
   * Record the disputes of a merge with the ring of `sender`; return those to reassert. `stillClaims`: that ring gives
   * ranges of ours to its sender.
   */
  heard(
    sender: PeerName,
    disputes: readonly Dispute[],
    stillClaims: boolean,
    now: number,
  ): readonly Dispute[] {
    const byClaimer = Map.groupBy(disputes, ({ peer }) => peer);
    const own = this.#byPeer.get(sender);
    if (own && stillClaims) Object.assign(own, { last: now, direct: true });
    else if (own && !byClaimer.has(sender)) {
      this.#byPeer.delete(sender);
      this.#settled = [...this.#settled, { peer: sender, ranges: own.ranges, at: now }].slice(-MAX_SETTLED);
    }
    const mayReassert = this.#pace.wait(now) === 0;
    const due = [...byClaimer].flatMap(([claimer, claims]) =>
      this.#note(claimer, claims, claimer === sender, now, mayReassert) ? claims : [],
    );
    if (due.length > 0) this.#pace.charge(now, 1);
    return due;
  }

  /** Return whether to reassert. */
  #note(
    claimer: PeerName,
    claims: readonly Dispute[],
    direct: boolean,
    now: number,
    mayReassert: boolean,
  ): boolean {
    const known = this.#byPeer.get(claimer);
    const reassertedAt = known?.reassertedAt ?? Number.NEGATIVE_INFINITY;
    const due = mayReassert && now - reassertedAt >= REASSERT_INTERVAL_MS;
    this.#byPeer.set(claimer, {
      ranges: claims.flatMap(({ ranges }) => ranges).slice(0, MAX_RANGES),
      since: known?.since ?? now,
      last: now,
      reassertedAt: due ? now : reassertedAt,
      direct: direct || (known?.direct ?? false),
    });
    return due;
  }

  /** Forget disputes that no ring repeats. */
  expire(now: number): void {
    for (const [peer, { last }] of this.#byPeer) if (now - last > OVER_MS) this.#byPeer.delete(peer);
  }

  /** Ranges in which another peer may hand out addresses, so that we must not. */
  get contested(): AddressRange[] {
    return [...this.#byPeer.values()].flatMap(({ direct, ranges }) => (direct ? ranges : []));
  }

  /** For the status; `annotate` adds nicknames. */
  problems(clock: Pick<Clock, "now" | "wall">, us: string, annotate: (name: PeerName) => string): string[] {
    return Array.from(
      this.#byPeer,
      ([peer, { ranges, since }]) =>
        `rings of ${us} and ${annotate(peer)} contradict each other over ${listed(ranges)} since ${timeText(clock, since)}`,
    );
  }

  /** Disputes that the other side gave in to lately, for the status. */
  settled(clock: Pick<Clock, "now" | "wall">, annotate: (name: PeerName) => string): string[] {
    const now = clock.now();
    return this.#settled
      .filter(({ at }) => now - at < SETTLED_MS)
      .map(
        ({ peer, ranges, at }) =>
          `a ring assigned ${listed(ranges)} of this host to ${annotate(peer)}, which gave it back at ${timeText(clock, at)}`,
      );
  }
}

const listed = (ranges: readonly AddressRange[]) => ranges.map(formatRange).join(", ");
