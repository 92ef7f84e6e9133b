// Ranges that two rings give to different owners, one of them ours and in use. We keep them; the other side is told at
// once, and both sides show it until one gives in.
import { type AddressRange, formatRange } from "../address/ipv4.ts";
import { type Clock, timeText } from "../clock/clock.ts";
import type { PeerName } from "../mesh/name.ts";
import type { Dispute } from "./ring.ts";

/** Our version of a disputed token is raised at most this often, or two owners would race to the last version. */
const ASSERT_MS = 10_000;
/** A contradiction that nobody repeats for so long is over. */
const OVER_MS = 5 * 60_000;
/** Peers that contradict us, at most; the oldest goes first. */
const MAX_PEERS = 64;
/** Ranges of one peer that are kept and shown. */
const MAX_RANGES = 16;
/** Contradictions that were settled are shown for so long, and so many of them. */
const SETTLED_MS = 10 * 60_000;
const MAX_SETTLED = 16;

interface Contradiction {
  ranges: readonly AddressRange[];
  readonly since: number;
  last: number;
  assertedAt: number;
  /** The peer says it itself, so it may hand the same addresses out. */
  direct: boolean;
}

export class Disputes {
  readonly #byPeer = new Map<PeerName, Contradiction>();
  #settled: { readonly peer: PeerName; readonly ranges: readonly AddressRange[]; readonly at: number }[] = [];

  /**
   * Takes what a merge with the ring of `sender` disputed; returns the disputes on which our word is to be made newer.
   * `stillClaims`: that ring gives ranges of ours to its sender.
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
    return [...byClaimer].flatMap(([claimer, claims]) =>
      this.#note(claimer, claims, claimer === sender, now) ? claims : [],
    );
  }

  /** True when our word is to be made newer. */
  #note(claimer: PeerName, claims: readonly Dispute[], direct: boolean, now: number): boolean {
    const known = this.#byPeer.get(claimer);
    const due = !known || now - known.assertedAt >= ASSERT_MS;
    this.#byPeer.delete(claimer);
    this.#byPeer.set(claimer, {
      ranges: claims.flatMap(({ ranges }) => ranges).slice(0, MAX_RANGES),
      since: known?.since ?? now,
      last: now,
      assertedAt: due ? now : known.assertedAt,
      direct: direct || (known?.direct ?? false),
    });
    for (const oldest of this.#byPeer.keys()) {
      if (this.#byPeer.size <= MAX_PEERS) break;
      this.#byPeer.delete(oldest);
    }
    return due;
  }

  /** Forgets what nobody repeats. */
  expire(now: number): void {
    for (const [peer, { last }] of this.#byPeer) if (now - last > OVER_MS) this.#byPeer.delete(peer);
  }

  /** Ranges in which another peer may hand out addresses, so that we must not. */
  get contested(): AddressRange[] {
    return [...this.#byPeer.values()].flatMap(({ direct, ranges }) => (direct ? ranges : []));
  }

  /** Each contradiction in words; `annotate` adds nicknames. */
  problems(clock: Pick<Clock, "now" | "wall">, us: string, annotate: (name: PeerName) => string): string[] {
    return Array.from(
      this.#byPeer,
      ([peer, { ranges, since }]) =>
        `rings of ${us} and ${annotate(peer)} contradict each other over ${listed(ranges)} since ${timeText(clock, since)}`,
    );
  }

  /** Contradictions that the other side gave in to of late, in words. */
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
