// Peers whose connection has ended lately, and why. Only established connections count, so every peer listed has proved
// who it is where there is a password.

import type { Clock } from "../clock/clock.ts";
import { LatestMap } from "../clock/latestmap.ts";
import { forgetting, type Limit } from "../sys/limit.ts";
import { peerTrouble } from "./errors.ts";
import type { PeerName } from "./name.ts";
import type { Peer, PeerConnection } from "./peer.ts";
import { OWN_CAUSES } from "./trouble.ts";

const SHOWN_MS = 10 * 60_000;
/** Peers listed; the one lost first is forgotten first. */
const MAX_LOST = 64;
/** Characters of a reason, which may quote the far end. */
const MAX_REASON = 300;

/** A peer that was lost. `at` is in ms of the clock. */
export interface LostPeer {
  readonly name: PeerName;
  readonly nickName: string;
  readonly address: string;
  readonly outbound: boolean;
  readonly at: number;
  readonly reason: string;
  /** Where the cause is at this host. */
  readonly remedy?: string | undefined;
  /** Of that life of its router. */
  readonly uid: bigint;
}

type Ended = Pick<PeerConnection, "address" | "outbound">;

export class LostPeers {
  readonly #byName = new LatestMap<PeerName, LostPeer>(MAX_LOST);

  constructor(private readonly clock: Pick<Clock, "now">) {}

  /** Note that the connection to a peer has ended. */
  add(
    { address, outbound }: Ended,
    { name, nickName, uid }: Pick<Peer, "name" | "nickName" | "uid">,
    error: Error,
  ): void {
    const trouble = peerTrouble(error, address);
    const reason = trouble.reason.slice(0, MAX_REASON);
    const remedy = OWN_CAUSES.includes(trouble.cause) ? trouble.remedy : undefined;
    this.#byName.set(name, { name, nickName, address, outbound, at: this.clock.now(), reason, remedy, uid });
  }

  /** Forget a peer: it is connected again. Returns true where it was lost, and has not restarted meanwhile. */
  back({ name, uid }: Pick<Peer, "name" | "uid">): boolean {
    const lost = this.#byName.get(name);
    this.#byName.delete(name);
    return lost?.uid === uid;
  }

  limits(): Limit[] {
    return [forgetting("lost-peers", this.#byName)];
  }

  /** Return those lost in the last 10 min, the latest first. */
  recent(): LostPeer[] {
    const now = this.clock.now();
    for (const { name, at } of this.#byName.values()) if (now - at >= SHOWN_MS) this.#byName.delete(name);
    return [...this.#byName.values()].reverse();
  }
}
