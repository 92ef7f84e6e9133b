// Limits of inbound connections before their handshakes end, as any host can open them. Addresses of peers, from which a handshake
// has succeeded, have limits of their own: strangers, from any number of addresses, cannot keep a peer from reconnecting.

import type { Clock } from "../clock/clock.ts";
import { LatestMap } from "../clock/latestmap.ts";
import { Slices } from "../clock/slices.ts";
import { TokenBucket } from "../clock/tokenbucket.ts";
import type { LimitedWarning } from "../log/limited.ts";
import { forgetting, type Limit } from "../sys/limit.ts";
import { type BufferBudget, strangersBudget } from "./bufferbudget.ts";
import { RefusedError, SelfConnectionError } from "./errors.ts";
import {
  MAX_HANDSHAKES,
  MAX_HANDSHAKES_PER_ADDRESS,
  type PendingHandshake,
  UnfinishedHandshakes,
} from "./unfinishedhandshakes.ts";

/** Connections that one address may open at once, and then each second. */
export const ACCEPT_BURST = 64;
export const ACCEPTS_PER_S = 20;
/** Addresses of strangers, and of peers, whose rate is kept; the oldest is forgotten first. */
const MAX_STRANGERS = 1024;
const MAX_PEERS = 4096;
/** Time in a turn of the event loop for handshakes with addresses whose last one failed, in ms. */
const FAILED_SLICE_MS = 1;

/** Resources that handshakes share. */
export interface Shared {
  readonly slices: Slices;
  /** Budget of received bytes. */
  readonly buffers: BufferBudget;
}

interface Caller {
  readonly rate: TokenBucket;
  /** Its last handshake that ended has failed. */
  failed: boolean;
}

/** Callers of one kind. */
class Callers {
  readonly byAddress: LatestMap<string, Caller>;
  readonly unfinished = new UnfinishedHandshakes();
  readonly slices: Slices;

  constructor(
    clock: Clock,
    max: number,
    readonly buffers: BufferBudget,
  ) {
    this.byAddress = new LatestMap(max);
    this.slices = new Slices(clock);
  }
}

export class AcceptBudget {
  readonly #strangers: Callers;
  readonly #peers: Callers;
  readonly #failedSlices: Slices;
  #refused = 0;

  constructor(
    private readonly clock: Clock,
    private readonly warn: LimitedWarning,
    buffersOfPeers: BufferBudget,
  ) {
    this.#strangers = new Callers(clock, MAX_STRANGERS, strangersBudget());
    this.#peers = new Callers(clock, MAX_PEERS, buffersOfPeers);
    this.#failedSlices = new Slices(clock, FAILED_SLICE_MS);
  }

  stop(): void {
    for (const slices of [this.#strangers.slices, this.#peers.slices, this.#failedSlices]) slices.stop();
  }

  /**
   * Return the shared resources for handshakes with an address: failing handshakes do not delay others, and strangers neither delay
   * peers nor displace their bytes.
   */
  shared(ip: string): Shared {
    const { byAddress, slices, buffers } = this.#of(ip);
    return { slices: byAddress.get(ip)?.failed ? this.#failedSlices : slices, buffers };
  }

  /** For the status. */
  notes(): string[] {
    if (this.#refused === 0) return [];
    return [
      `${this.#refused} connections of strangers closed, ${this.#strangers.unfinished.count} unfinished handshakes now`,
    ];
  }

  limits(): Limit[] {
    const [strangers, peers] = [this.#strangers, this.#peers];
    const largest = Math.max(strangers.unfinished.largest, peers.unfinished.largest);
    return [
      {
        name: "handshakes",
        value: strangers.unfinished.count,
        max: MAX_HANDSHAKES,
        refused: this.#refused,
      },
      { name: "handshakes-of-peers", value: peers.unfinished.count, max: MAX_HANDSHAKES },
      { name: "handshakes-of-one-address", value: largest, max: MAX_HANDSHAKES_PER_ADDRESS },
      strangers.buffers.limit,
      forgetting("addresses-with-a-rate", strangers.byAddress),
      forgetting("addresses-of-peers", peers.byAddress),
    ];
  }

  all(): PendingHandshake[] {
    return [this.#strangers, this.#peers].flatMap(({ unfinished }) => unfinished.all());
  }

  #of(ip: string): Callers {
    return this.#peers.byAddress.has(ip) ? this.#peers : this.#strangers;
  }

  #caller(ip: string): Caller {
    const rate = () => new TokenBucket(ACCEPT_BURST, ACCEPTS_PER_S, this.clock.now());
    return this.#of(ip).byAddress.get(ip) ?? { rate: rate(), failed: false };
  }

  /** Return whether an address may open another connection now. */
  admits(ip: string): boolean {
    const now = this.clock.now();
    const caller = this.#caller(ip);
    const admitted = caller.rate.take(now);
    this.#of(ip).byAddress.set(ip, caller);
    if (!admitted) this.#refuse(ip, `more than ${ACCEPTS_PER_S} connections a second`);
    return admitted;
  }

  /** Add a connection; the oldest is closed where there are too many. */
  add(pending: PendingHandshake): void {
    const evicted = this.#of(pending.remoteIp).unfinished.add(pending);
    if (!evicted) return;
    this.#refuse(evicted.oldest.remoteIp, evicted.why);
    evicted.oldest.shutdown(new Error(evicted.why));
  }

  /** A handshake, perhaps one that we began, has succeeded. */
  succeeded(pending: PendingHandshake): void {
    this.remove(pending);
    const { remoteIp } = pending;
    const caller = this.#caller(remoteIp);
    caller.failed = false;
    this.#strangers.byAddress.delete(remoteIp);
    this.#peers.byAddress.set(remoteIp, caller);
  }

  /** Remove an unfinished handshake. Its address may have become a peer's since it was added. */
  remove(pending: PendingHandshake): void {
    for (const { unfinished } of [this.#strangers, this.#peers]) unfinished.remove(pending);
  }

  /** Its handshake has failed: logged once a minute for each address and kind, as any host can cause that. */
  failed(pending: PendingHandshake, error: Error): void {
    this.remove(pending);
    const { remoteIp } = pending;
    const caller = this.#of(remoteIp).byAddress.get(remoteIp);
    if (caller) caller.failed = true;
    // Refusals have a line of their own.
    if (error instanceof RefusedError) return;
    // The end that dialled logs it, and does not dial again.
    if (error instanceof SelfConnectionError) return;
    const { name, message } = error;
    const text = `connection shutting down due to error during handshake: ${message}`;
    this.warn(`${name} ${remoteIp}`, text, { address: pending.address });
  }

  #refuse(ip: string, what: string): void {
    this.#refused++;
    this.warn(`strangers ${ip}`, `${what}: closing connections`, { address: ip });
  }
}
