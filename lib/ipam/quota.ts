// Quota of donations to each peer: half of our free space at once, as the protocol has it, and then little by little. A
// peer that repeats its requests would otherwise get all of it in seconds.
import { type Clock, timeText } from "../clock/clock.ts";
import { LatestMap } from "../clock/latestmap.ts";
import { TokenBucket } from "../clock/tokenbucket.ts";
import type { PeerName } from "../mesh/name.ts";
import { forgetting, type Limit } from "../sys/limit.ts";

/** Requests of one peer that are answered at once, and then each second. */
const BURST = 32;
const REQUESTS_PER_S = 4;
/** Time for which a grant counts. */
const WINDOW_MS = 10 * 60_000;
/** A peer that has got more of us than we have left gets this part of it, at least one address, a second. */
const SLOW_SHARE = 1 / 1024;
const SLOW_INTERVAL_MS = 1_000;
/** Accounts; the peer that asked longest ago is forgotten first. */
const MAX_PEERS = 1_024;

interface Account {
  readonly requests: TokenBucket;
  granted: number;
  since: number;
  grantedAt: number;
  limitedAt: number;
}

export class DonationQuota {
  readonly #accounts = new LatestMap<PeerName, Account>(MAX_PEERS);

  /** Return how many of `free` addresses a peer may have now; 0 for none. */
  allowance(peer: PeerName, free: number, now: number): number {
    const account = this.#account(peer, now);
    if (!account.requests.take(now)) return this.#limit(account, now, 0);
    if (account.granted <= free) return Number.POSITIVE_INFINITY;
    if (now >= account.grantedAt && now - account.grantedAt < SLOW_INTERVAL_MS)
      return this.#limit(account, now, 0);
    return this.#limit(account, now, Math.max(1, Math.floor(free * SLOW_SHARE)));
  }

  granted(peer: PeerName, count: number, now: number): void {
    const account = this.#account(peer, now);
    account.granted += count;
    account.grantedAt = now;
  }

  get limit(): Limit {
    return forgetting("peers-with-a-quota", this.#accounts);
  }

  /** Peers at their limit, for the status. */
  limits(clock: Pick<Clock, "now" | "wall">, annotate: (name: PeerName) => string): string[] {
    const now = clock.now();
    return [...this.#accounts].flatMap(([peer, { granted, since, limitedAt }]) =>
      now - limitedAt < WINDOW_MS
        ? [
            `peer ${annotate(peer)} asks for more addresses than its share: ${granted} granted since ` +
              `${timeText(clock, since)}; further ones are rate-limited`,
          ]
        : [],
    );
  }

  #limit(account: Account, now: number, allowance: number): number {
    account.limitedAt = now;
    return allowance;
  }

  #account(peer: PeerName, now: number): Account {
    let account = this.#accounts.get(peer);
    if (!account || now - account.since > WINDOW_MS) {
      const past = Number.NEGATIVE_INFINITY;
      account = {
        requests: new TokenBucket(BURST, REQUESTS_PER_S, now),
        granted: 0,
        since: now,
        grantedAt: past,
        limitedAt: account?.limitedAt ?? past,
      };
    }
    this.#accounts.set(peer, account);
    return account;
  }
}
