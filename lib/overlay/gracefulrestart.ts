// Graceful restart: the kernel goes on forwarding to a peer for a while after its connection is lost. Its router may only
// be restarting (an upgrade), while its kernel forwards as before. Where there is another way that one is taken, but only
// after HOLD_MS: other peers that lost it at the same moment take a while to say so. Pure: tables in, tables out.
import type { IPv4 } from "../address/ipv4.ts";
import type { ForwardingTable } from "./datapath/contents.ts";
import { type Hops, SLEEVE } from "./datapath/maps.ts";

/** Longer than the replacement of a router takes, shorter than anybody waits for a host that is gone. */
export const GRACE_MS = 60_000;
/** Longer than it takes to hear what neighbours have lost; short beside the time until a broken path is noticed. */
export const HOLD_MS = 1_000;

export class GracefulRestart {
  /** Peers whose route is gone, by their numbers: since when, and for how long it is kept, in ms. */
  readonly #gone = new Map<number, { readonly since: number; readonly limit: number }>();
  #last: ForwardingTable;

  /** `initial`: what the kernel forwards by already. */
  constructor(initial: ForwardingTable) {
    this.#last = initial;
  }

  /** Return what to forward by, given the table that the topology says; `now` in ms. */
  merge(fresh: ForwardingTable, now: number): ForwardingTable {
    const ways = new Set(fresh.routes.values());
    const kept = new Map<number, IPv4>();
    for (const [id, address] of this.#last.routes) {
      const way = fresh.routes.get(id);
      const lost = address !== SLEEVE && way !== SLEEVE && !(way !== undefined && ways.has(address));
      const since = this.#gone.get(id)?.since ?? now;
      const limit = way === undefined ? GRACE_MS : HOLD_MS;
      if (lost && now - since < limit) {
        this.#gone.set(id, { since, limit });
        kept.set(id, address);
      } else this.#gone.delete(id);
    }
    const routes = new Map([...fresh.routes, ...kept]);
    const neighbours = new Set([...fresh.neighbours, ...kept.values()]);
    this.#last = { routes, neighbours, hops: this.#hops(fresh, kept, routes) };
    return this.#last;
  }

  /** When a kept route expires, in ms; undefined where there is none. */
  get next(): number | undefined {
    const ends = Array.from(this.#gone.values(), ({ since, limit }) => since + limit);
    return ends.length === 0 ? undefined : Math.min(...ends);
  }

  /** Broadcasts still go to peers that are kept; those of such a peer still go wherever they went. */
  #hops(
    fresh: ForwardingTable,
    kept: ReadonlyMap<number, IPv4>,
    routes: ReadonlyMap<number, IPv4>,
  ): ReadonlyMap<number, Hops> {
    const hops = new Map(fresh.hops);
    for (const [source, { vxlan }] of this.#last.hops) {
      const now = fresh.hops.get(source) ?? { vxlan: [], sleeve: false };
      const wanted = kept.has(source) ? routes : kept;
      const missed = vxlan.filter(
        ({ shortId }) => wanted.has(shortId) && !now.vxlan.some((hop) => hop.shortId === shortId),
      );
      if (missed.length > 0) hops.set(source, { ...now, vxlan: [...now.vxlan, ...missed] });
    }
    return hops;
  }
}
