// Peers that are refused for what they are: another ring, another range, our own name. Refusals are remembered and shown.
// One that a handshake does not show also binds: that peer, until it restarts, is refused on every connection until the
// cause has changed.

import { type Clock, timeText } from "../clock/clock.ts";
import { LatestMap } from "../clock/latestmap.ts";
import { type LimitedWarning, limitedWarnings } from "../log/limited.ts";
import type { Log } from "../log/log.ts";
import { forgetting, type Limit } from "../sys/limit.ts";
import type { RefusedError } from "./errors.ts";
import type { PeerName } from "./name.ts";
import type { Peer, PeerConnection } from "./peer.ts";

/** Refusals remembered; the oldest is forgotten first. */
const MAX_REFUSALS = 64;
/** A refused peer is dialled at least every 2 min; an older refusal is over. */
const SHOWN_MS = 5 * 60_000;
/** Time for which a refusal binds, after which the peer is examined again. */
const BINDING_MS = 10 * 60_000;

/** A peer that is refused for what it is. Times are ms of the clock. */
export interface RefusedPeer {
  readonly name: PeerName;
  readonly uid: bigint;
  readonly nickName: string;
  readonly address: string;
  readonly outbound: boolean;
  readonly error: RefusedError;
  readonly attempts: number;
  /** When the peer was refused first and last, and until when the refusal binds. */
  readonly since: number;
  readonly last: number;
  readonly boundUntil: number;
}

export class Refusals {
  readonly #byName = new LatestMap<PeerName, RefusedPeer>(MAX_REFUSALS);
  readonly #warn: LimitedWarning;

  constructor(
    private readonly clock: Clock,
    log: Pick<Log, "warning">,
  ) {
    this.#warn = limitedWarnings(log, () => clock.now());
  }

  /** Note that a peer was refused; `binding` where its handshakes do not show the cause. */
  add(
    { name, uid, nickName }: Pick<Peer, "name" | "uid" | "nickName">,
    { address, outbound }: Pick<PeerConnection, "address" | "outbound">,
    error: RefusedError,
    binding: boolean,
  ): void {
    const now = this.clock.now();
    const known = this.#byName.get(name);
    const same = known?.uid === uid ? known : undefined;
    const boundUntil = binding ? now + BINDING_MS : (same?.boundUntil ?? Number.NEGATIVE_INFINITY);
    this.#byName.set(name, {
      name,
      uid,
      nickName,
      address,
      outbound,
      error,
      attempts: (same?.attempts ?? 0) + 1,
      since: same?.since ?? now,
      last: now,
      boundUntil,
    });
    this.#warn(`refused ${name}`, `refusing a peer: ${error.message}`, {
      peer: `${name}(${nickName})`,
      address,
    });
  }

  /** Return the binding refusal of a peer since its last start. */
  binding({ name, uid }: Pick<Peer, "name" | "uid">): RefusedError | undefined {
    const refusal = this.#byName.get(name);
    return refusal?.uid === uid && refusal.boundUntil > this.clock.now() ? refusal.error : undefined;
  }

  /** A peer is connected: refusals before its last start are over. */
  connected({ name, uid }: Pick<Peer, "name" | "uid">): void {
    const refusal = this.#byName.get(name);
    if (refusal && (refusal.uid !== uid || refusal.boundUntil <= this.clock.now())) this.#byName.delete(name);
  }

  /** Forget the refusal of one peer or, where we have changed, of all. */
  lift(name?: PeerName): void {
    if (name === undefined) this.#byName.clear();
    else this.#byName.delete(name);
  }

  limits(): Limit[] {
    return [forgetting("refused-peers", this.#byName)];
  }

  /** For the status. */
  problems(): { readonly found: string; readonly advice: string; readonly address: string }[] {
    return this.standing().map(({ name, nickName, address, since, error }) => ({
      address,
      found:
        `peer ${name}(${nickName}) at ${address} is refused since ` +
        `${timeText(this.clock, since)}: ${error.trouble.reason}`,
      advice: error.trouble.remedy,
    }));
  }

  /** Return current refusals, the latest last. */
  standing(): RefusedPeer[] {
    const now = this.clock.now();
    return [...this.#byName.values()].filter(
      ({ last, boundUntil }) => Math.max(last + SHOWN_MS, boundUntil) > now,
    );
  }
}
