// Handshakes that failed for a cause that waiting does not mend, by address. The far end has not proved who it is, so an
// entry holds our own words only, and an address has one entry.

import type { Clock } from "../clock/clock.ts";
import { LatestMap } from "../clock/latestmap.ts";
import { forgetting, type Limit } from "../sys/limit.ts";
import type { HandshakeError } from "./errors.ts";

/** Addresses that we dialled, and that only dialled us; the one not seen for longest is forgotten first. */
const MAX_DIALLED = 64;
const MAX_CALLERS = 32;
/** A failed target is dialled again within 9 min; an older entry is over. */
const SHOWN_MS = 10 * 60_000;

/** An address, and why it is not connected. Times are ms of the clock. */
export interface RefusedHandshake {
  /** "ip:port" of a target, "ip" of a caller. */
  readonly address: string;
  readonly ip: string;
  readonly outbound: boolean;
  readonly error: HandshakeError;
  readonly since: number;
  readonly last: number;
  readonly attempts: number;
}

interface Called {
  readonly address: string;
  readonly remoteIp: string;
  readonly outbound: boolean;
}

export class RefusedHandshakes {
  readonly #dialled = new LatestMap<string, RefusedHandshake>(MAX_DIALLED);
  readonly #callers = new LatestMap<string, RefusedHandshake>(MAX_CALLERS);

  constructor(private readonly clock: Pick<Clock, "now">) {}

  /** Note a failed handshake. A caller that is no router, such as a port scan, is not listed. */
  note({ address, remoteIp: ip, outbound }: Called, error: HandshakeError): void {
    if (!outbound && error.trouble.cause === "no router") return;
    const now = this.clock.now();
    const [map, key] = outbound ? [this.#dialled, address] : [this.#callers, ip];
    const known = map.get(key);
    const same = known?.error.trouble.cause === error.trouble.cause ? known : undefined;
    map.set(key, {
      address: key,
      ip,
      outbound,
      error,
      since: same?.since ?? now,
      last: now,
      attempts: (same?.attempts ?? 0) + 1,
    });
  }

  /** Forget an address: a handshake with it has succeeded. */
  lift(ip: string): void {
    this.#callers.delete(ip);
    for (const [key, entry] of this.#dialled) if (entry.ip === ip) this.#dialled.delete(key);
  }

  limits(): Limit[] {
    return [forgetting("refused-dials", this.#dialled), forgetting("refused-callers", this.#callers)];
  }

  /** Return current entries, targets first; a caller that we dial as well is listed once. */
  standing(): RefusedHandshake[] {
    const now = this.clock.now();
    const dialled = [...this.#dialled.values()].filter(({ last }) => now - last < SHOWN_MS);
    const ips = new Set(dialled.map(({ ip }) => ip));
    const callers = [...this.#callers.values()].filter(
      ({ last, ip }) => now - last < SHOWN_MS && !ips.has(ip),
    );
    return [...dialled, ...callers];
  }
}
