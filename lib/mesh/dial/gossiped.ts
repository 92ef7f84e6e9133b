// Addresses of peers from gossip. Any peer can make them up, so they are bounded, and only those are used that another host
// can have.

import { isIP } from "node:net";
import { joinHostPort, splitHostPort } from "../../address/hostport.ts";
import { below, type Random } from "../../clock/random.ts";

/** Addresses that are tried at a time. */
export const MAX_GOSSIPED = 1024;
/** Part of these that stay when there are more; the others change, so that each gets its turn. */
const KEPT_SHARE = 0.75;
/** Ports of one host, beside the default one. */
const MAX_PORTS = 8;
/** New attempts: at once, then each second. */
export const DIAL_BURST = 64;
export const DIALS_PER_S = 20;

/** This host, link-local and multicast: 0/8, 127/8, 169.254/16, 224/4 and above, and the same of IPv6. */
const UNUSABLE = /^(?:0\.|127\.|169\.254\.|22[4-9]\.|2[3-5]\d\.|::|fe[89ab]|ff)/i;

/**
 * Return the address to dial for a connection that another peer announces: that of an outbound one as it is, that of an
 * inbound one with `port`. Undefined for host names and addresses that no other host can have.
 */
export function dialable(address: string, outbound: boolean, port: number): string | undefined {
  const told = splitHostPort(address);
  if (!told || isIP(told.host) === 0 || UNUSABLE.test(told.host)) return undefined;
  if (!outbound) return joinHostPort(told.host, port);
  return told.port === undefined ? undefined : joinHostPort(told.host, told.port);
}

/** Addresses, a few for each host, each with what is known of it. */
export class GossipedAddresses<Known> {
  readonly #all = new Map<string, Known>();
  readonly #ports = new Map<string, number>();
  readonly #tried: string[] = [];
  readonly #fresh: string[] = [];

  /** `port` is the default one; addresses that are `tried` already are preferred. */
  constructor(
    private readonly port: number,
    private readonly tried: { has(address: string): boolean },
  ) {}

  get size(): number {
    return this.#all.size;
  }

  add(address: string, known: Known): void {
    if (this.#all.has(address)) return;
    const { host = "", port } = splitHostPort(address) ?? {};
    if (port !== this.port) {
      const ports = (this.#ports.get(host) ?? 0) + 1;
      if (ports > MAX_PORTS) return;
      this.#ports.set(host, ports);
    }
    this.#all.set(address, known);
    (this.tried.has(address) ? this.#tried : this.#fresh).push(address);
  }

  /** Return at most MAX_GOSSIPED: most of those that are tried already, and others at random. */
  take(random: Random): ReadonlyMap<string, Known> {
    if (this.#all.size <= MAX_GOSSIPED) return this.#all;
    const least = Math.max(MAX_GOSSIPED * KEPT_SHARE, MAX_GOSSIPED - this.#fresh.length);
    const kept = sample(this.#tried, least, random);
    const chosen = new Map<string, Known>();
    for (const address of [...kept, ...sample(this.#fresh, MAX_GOSSIPED - kept.length, random)]) {
      const known = this.#all.get(address);
      if (known !== undefined) chosen.set(address, known);
    }
    return chosen;
  }
}

/** Return at most `count` elements, at random, and leave the list in another order. */
function sample<T>(list: T[], count: number, random: Random): T[] {
  for (let i = 0; i < Math.min(count, list.length); i++) {
    const other = i + below(random, list.length - i);
    const [a, b] = [list[i], list[other]];
    if (a !== undefined && b !== undefined) [list[i], list[other]] = [b, a];
  }
  return list.slice(0, count);
}
