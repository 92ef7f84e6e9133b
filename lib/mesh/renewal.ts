// Reconnects as a new peer: another has announced us with the greatest version there is, so peers accept nothing that we say until
// they cannot reach us and forget it.
import type { Clock } from "../clock/clock.ts";
import type { Random } from "../clock/random.ts";
import type { Log } from "../log/log.ts";
import type { Peer } from "./peer.ts";

/** Time for peers to forget one that they cannot reach, and interval at which we rely on that at most. */
const ALONE_MS = 10_000;
const INTERVAL_MS = 60_000;

export interface RenewalParams {
  readonly ourself: Peer;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  /** End all connections. */
  disconnect(error: Error): void;
}

export class Renewal {
  /** Without connections until then, so that peers forget us. */
  #aloneUntil = Number.NEGATIVE_INFINITY;

  constructor(private readonly params: RenewalParams) {}

  /** Reconnect as a new peer, unless that was done lately. */
  begin(): void {
    const { ourself, clock, random, log, disconnect } = this.params;
    const now = clock.now();
    if (now < this.#aloneUntil + INTERVAL_MS) return;
    this.#aloneUntil = now + ALONE_MS;
    log.error(`another peer uses our name (${ourself}) with a version that we cannot exceed; reconnecting`);
    clock.after(0, () => {
      ourself.uid = random.u64() || 1n;
      ourself.version = 0;
      disconnect(new Error("reconnecting"));
    });
  }

  /** Throws while no peer may connect. */
  check(): void {
    if (this.params.clock.now() < this.#aloneUntil) throw new Error("reconnecting in a few seconds");
  }
}
