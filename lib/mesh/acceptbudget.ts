// The budget of inbound connections before their handshakes end. Any host can open them, so they are bounded by address
// and in all, and the oldest gives way to the newest: an honest handshake takes milliseconds.

import type { Clock } from "../clock/clock.ts";
import { LatestMap } from "../clock/latestmap.ts";
import { Slices } from "../clock/slices.ts";
import { TokenBucket } from "../clock/tokenbucket.ts";
import type { LimitedWarning } from "../log/limited.ts";
import { forgetting, type Limit } from "../sys/limit.ts";
import { RefusedError, SelfConnectionError } from "./errors.ts";

/** Unfinished handshakes, in all and from one address. */
export const MAX_HANDSHAKES = 512;
export const MAX_HANDSHAKES_PER_ADDRESS = 32;
/** Connections that one address may open at once, and then each second. */
export const ACCEPT_BURST = 64;
export const ACCEPTS_PER_S = 20;
/** Addresses whose rate is kept; the oldest is forgotten first. */
const MAX_ADDRESSES = 1024;
/** Time in a turn of the event loop for handshakes with addresses whose last one failed, in ms. */
const FAILED_SLICE_MS = 1;

interface Caller {
  readonly rate: TokenBucket;
  /** Its last handshake that ended has failed. */
  failed: boolean;
}

/** A connection before the end of its handshake. */
export interface PendingHandshake {
  readonly address: string;
  /** The far end's address, without the port. */
  readonly remoteIp: string;
  shutdown(error: Error): void;
}

export class AcceptBudget {
  readonly #byAddress = new Map<string, Set<PendingHandshake>>();
  readonly #callers = new LatestMap<string, Caller>(MAX_ADDRESSES);
  readonly #slices: Slices;
  readonly #failedSlices: Slices;
  #count = 0;
  #refused = 0;

  constructor(
    private readonly clock: Clock,
    private readonly warn: LimitedWarning,
  ) {
    this.#slices = new Slices(clock);
    this.#failedSlices = new Slices(clock, FAILED_SLICE_MS);
  }

  stop(): void {
    this.#slices.stop();
    this.#failedSlices.stop();
  }

  /** Slices for the handshakes with an address: it does not wait for those that fail all the time. */
  slices(ip: string): Slices {
    return this.#callers.get(ip)?.failed ? this.#failedSlices : this.#slices;
  }

  /** For the status. */
  notes(): string[] {
    if (this.#refused === 0) return [];
    return [`${this.#refused} connections of strangers closed, ${this.#count} unfinished handshakes now`];
  }

  limits(): Limit[] {
    const largest = Math.max(0, ...Array.from(this.#byAddress.values(), ({ size }) => size));
    return [
      { name: "handshakes", value: this.#count, max: MAX_HANDSHAKES, refused: this.#refused },
      { name: "handshakes-of-one-address", value: largest, max: MAX_HANDSHAKES_PER_ADDRESS },
      forgetting("addresses-with-a-rate", this.#callers),
    ];
  }

  all(): PendingHandshake[] {
    return [...this.#byAddress.values()].flatMap((own) => [...own]);
  }

  /** Return whether an address may open another connection now. */
  admits(ip: string): boolean {
    const now = this.clock.now();
    const caller = this.#callers.get(ip) ?? {
      rate: new TokenBucket(ACCEPT_BURST, ACCEPTS_PER_S, now),
      failed: false,
    };
    const admitted = caller.rate.take(now);
    this.#callers.set(ip, caller);
    if (!admitted) this.#refuse(ip, `more than ${ACCEPTS_PER_S} connections a second`);
    return admitted;
  }

  /** Add a connection; the oldest is closed where there are too many. */
  add(pending: PendingHandshake): void {
    const own = this.#byAddress.get(pending.remoteIp) ?? new Set();
    own.add(pending);
    this.#byAddress.set(pending.remoteIp, own);
    this.#count++;
    if (own.size > MAX_HANDSHAKES_PER_ADDRESS) {
      this.#evict(own, `more than ${MAX_HANDSHAKES_PER_ADDRESS} unfinished handshakes`);
    } else if (this.#count > MAX_HANDSHAKES) {
      const largest = [...this.#byAddress.values()].reduce((a, b) => (b.size > a.size ? b : a));
      this.#evict(largest, `more than ${MAX_HANDSHAKES} unfinished handshakes in all, most of them`);
    }
  }

  /** Its handshake has succeeded. */
  succeeded(pending: PendingHandshake): void {
    this.remove(pending);
    this.#note(pending, false);
  }

  #note({ remoteIp }: PendingHandshake, failed: boolean): void {
    const caller = this.#callers.get(remoteIp);
    if (caller) caller.failed = failed;
  }

  /** It is no unfinished handshake any more. */
  remove(pending: PendingHandshake): void {
    const own = this.#byAddress.get(pending.remoteIp);
    if (!own?.delete(pending)) return;
    this.#count--;
    if (own.size === 0) this.#byAddress.delete(pending.remoteIp);
  }

  /** Its handshake has failed: logged once a minute for each address and kind, as any host can cause that. */
  failed(pending: PendingHandshake, error: Error): void {
    this.remove(pending);
    this.#note(pending, true);
    // Refusals have a line of their own.
    if (error instanceof RefusedError) return;
    // The end that dialled logs it, and does not dial again.
    if (error instanceof SelfConnectionError) return;
    const { name, message } = error;
    const text = `connection shutting down due to error during handshake: ${message}`;
    this.warn(`${name} ${pending.remoteIp}`, text, { address: pending.address });
  }

  #evict(own: ReadonlySet<PendingHandshake>, what: string): void {
    for (const oldest of own) {
      this.#refuse(oldest.remoteIp, what);
      oldest.shutdown(new Error(what));
      this.remove(oldest);
      return;
    }
  }

  #refuse(ip: string, what: string): void {
    this.#refused++;
    this.warn(`strangers ${ip}`, `${what}: closing connections`, { address: ip });
  }
}
