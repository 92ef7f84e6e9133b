// When an address is dialled: with an exponential back-off from 250 ms to 6 min after failures (mesh:
// connection_maker.go). Pure.
import { LatestMap } from "../../clock/latestmap.ts";
import type { Random } from "../../clock/random.ts";
import { CollisionError, RefusedError, SelfConnectionError } from "../errors.ts";

const INITIAL_INTERVAL_MS = 250;
const MAX_INTERVAL_MS = 6 * 60_000;
const GROWTH = 1.5;
/** A connection that lasted this long resets the back-off. */
const RESET_AFTER_MS = 60_000;
/** Interval for a peer that was refused for what it is (half of it to half as much again). */
const REFUSED_INTERVAL_MS = 60_000;
/** Addresses remembered; the one dialled longest ago is forgotten first. */
const MAX_ADDRESSES = 4_096;

interface BackOff {
  readonly intervalMs: number;
  /** Ms of the clock. */
  readonly tryAfter: number;
}

/**
 * Outlives targets: while a peer is connected the other way round, its address is no target, and a connection that fails
 * at once must not reset the back-off of both ends.
 */
export class DialSchedule {
  readonly backOffs = new LatestMap<string, BackOff>(MAX_ADDRESSES);

  constructor(private readonly random: Random) {}

  /** Return when to dial an address, `delayMs` from now at the earliest. */
  due(address: string, now: number, delayMs = 0): number {
    const backOff = this.backOffs.get(address);
    return Math.max(now + delayMs, backOff?.tryAfter ?? 0);
  }

  /** Note that an address is dialled, or has dialled us. */
  begin(address: string, now: number): void {
    const { intervalMs = INITIAL_INTERVAL_MS } = this.backOffs.get(address) ?? {};
    this.#set(address, { intervalMs, tryAfter: now });
  }

  /** Note that an attempt or a connection has failed. Returns when to dial the address again; undefined for never. */
  failed(address: string, error: Error, now: number): number | undefined {
    const { intervalMs = INITIAL_INTERVAL_MS, tryAfter = now } = this.backOffs.get(address) ?? {};
    if (error instanceof SelfConnectionError) {
      this.backOffs.delete(address);
      return undefined;
    }
    const around = (ms: number) => now + ms * (0.5 + this.random.float());
    if (error instanceof RefusedError || error instanceof CollisionError)
      return this.#set(address, { intervalMs, tryAfter: around(REFUSED_INTERVAL_MS) });
    if (now > tryAfter + RESET_AFTER_MS)
      return this.#set(address, { intervalMs: INITIAL_INTERVAL_MS, tryAfter: now });
    const next = Math.min(intervalMs * GROWTH, MAX_INTERVAL_MS);
    return this.#set(address, { intervalMs: next, tryAfter: around(intervalMs) });
  }

  /** Reset the back-off of an address. */
  reset(address: string): void {
    this.backOffs.delete(address);
  }

  #set(address: string, backOff: BackOff): number {
    this.backOffs.set(address, backOff);
    return backOff.tryAfter;
  }
}
