// What the kernel goes on forwarding by for a while when a peer is suddenly out of reach: its router may only be starting
// again (an upgrade), while its kernel, like ours, forwards as before. Where there is another way, that is taken; but not at
// once, for who else has lost that peer at the same moment takes a while to say so.
// Pure: tables in, tables out.
import type { IPv4 } from "../address/ipv4.ts";
import type { ForwardingTable } from "./datapath/contents.ts";
import { type Hops, SLEEVE } from "./datapath/maps.ts";

/** Longer than a router takes to be replaced, shorter than anybody waits for a host that is gone. */
export const GRACE_MS = 60_000;
/** Longer than it takes to hear of what neighbours have lost; short beside the time that it takes to notice a broken path. */
export const HOLD_MS = 1_000;

export class Linger {
  /** Peers whose way has gone, by their numbers: since when, and for how long it is kept, in ms. */
  readonly #gone = new Map<number, { readonly since: number; readonly limit: number }>();
  #last: ForwardingTable;

  /** Begins with what the kernel forwards by already. */
  constructor(initial: ForwardingTable) {
    this.#last = initial;
  }

  /** What to forward by now, given what the topology says. */
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

  /** When the result will be another though the topology is not, in ms; undefined for never. */
  get next(): number | undefined {
    const ends = Array.from(this.#gone.values(), ({ since, limit }) => since + limit);
    return ends.length === 0 ? undefined : Math.min(...ends);
  }

  /** Broadcasts go on to peers that are missed; those of such a peer go on to everybody they went to. */
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
