// What the kernel goes on forwarding by for a while when a peer is suddenly out of reach: its router may only be starting
// again (an upgrade), while its kernel, like ours, forwards as before. Where there is another way, that is taken at once.
// Pure: tables in, tables out.
import type { IPv4 } from "../address/ipv4.ts";
import type { ForwardingTable } from "./datapath/datapath.ts";
import { type Hops, SLEEVE } from "./datapath/maps.ts";

/** Longer than a router takes to be replaced, shorter than anybody waits for a host that is gone. */
export const GRACE_MS = 60_000;

export class Linger {
  /** Since when there has been no route to a peer, in ms; by its number. */
  readonly #gone = new Map<number, number>();
  #last: ForwardingTable;

  /** Begins with what the kernel forwards by already. */
  constructor(initial: ForwardingTable) {
    this.#last = initial;
  }

  /** What to forward by now, given what the topology says. */
  merge(fresh: ForwardingTable, now: number): ForwardingTable {
    for (const id of this.#gone.keys()) if (fresh.routes.has(id)) this.#gone.delete(id);
    const kept = new Map<number, IPv4>();
    for (const [id, address] of this.#last.routes) {
      if (fresh.routes.has(id) || address === SLEEVE) continue;
      const since = this.#gone.get(id) ?? now;
      this.#gone.set(id, since);
      if (now - since < GRACE_MS) kept.set(id, address);
      else this.#gone.delete(id);
    }
    const routes = new Map([...fresh.routes, ...kept]);
    const neighbours = new Set([...fresh.neighbours, ...kept.values()]);
    this.#last = { routes, neighbours, hops: this.#hops(fresh, kept, routes) };
    return this.#last;
  }

  /** When the result will be another though the topology is not, in ms; undefined for never. */
  get next(): number | undefined {
    return this.#gone.size === 0 ? undefined : Math.min(...this.#gone.values()) + GRACE_MS;
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
