// Graceful restart: the kernel goes on forwarding to a peer for a while after its connection is lost. Its router may only
// be restarting (an upgrade), while its kernel forwards as before. An alternative route is used only once it has existed for HOLD_MS:
// other peers that lost the peer at the same moment take a while to say so, and a router that starts reaches one neighbour
// before the next. Frames from the peer's address are accepted for GRACE_MS whichever route ours take: the peer decides by its
// own clock when to leave the old route. Pure: tables in, tables out.
import type { IPv4 } from "../address/ipv4.ts";
import type { ForwardingTable } from "./datapath/contents.ts";
import { type Hops, SLEEVE } from "./datapath/maps.ts";

/** Longer than the replacement of a router takes, shorter than anybody waits for a host that is gone. */
export const GRACE_MS = 60_000;
/** Longer than it takes to hear what neighbours have lost; short beside the time until a broken path is noticed. */
export const HOLD_MS = 1_000;
/** Maximum number of lost neighbours whose frames are still accepted: a peer may change its address often. */
export const MAX_LOST_NEIGHBOURS = 1_024;

/** A peer whose route is gone; times in ms. */
interface Gone {
  readonly since: number;
  /** When the present alternative route appeared. */
  readonly otherSince: number | undefined;
  readonly until: number;
}

export class GracefulRestart {
  /** Peers whose lost route is kept, by number. */
  readonly #gone = new Map<number, Gone>();
  /** Lost neighbours by address, with the time in ms until which their frames are accepted; in order of expiry. */
  readonly #lostNeighbours = new Map<IPv4, number>();
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
      const gone = lost ? goneAt(now, this.#gone.get(id), way !== undefined) : undefined;
      if (gone && now < gone.until) {
        this.#gone.set(id, gone);
        kept.set(id, address);
      } else this.#gone.delete(id);
    }
    const routes = new Map([...fresh.routes, ...kept]);
    this.#loseNeighbours(fresh.neighbours, now);
    const neighbours = new Set([...fresh.neighbours, ...this.#lostNeighbours.keys(), ...kept.values()]);
    this.#last = { routes, neighbours, hops: this.#hops(fresh, kept, routes) };
    return this.#last;
  }

  /** When a kept route or neighbour expires, in ms; undefined where there is none. */
  get next(): number | undefined {
    const ends = [...Array.from(this.#gone.values(), ({ until }) => until), ...this.#lostNeighbours.values()];
    return ends.length === 0 ? undefined : Math.min(...ends);
  }

  #loseNeighbours(present: ReadonlySet<IPv4>, now: number): void {
    const lost = this.#lostNeighbours;
    for (const address of this.#last.neighbours)
      if (!lost.has(address) && !present.has(address)) lost.set(address, now + GRACE_MS);
    for (const [address, until] of lost)
      if (now >= until || present.has(address) || lost.size > MAX_LOST_NEIGHBOURS) lost.delete(address);
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

/** Return how long a lost route is kept; `other`: whether there is an alternative. */
function goneAt(now: number, before: Gone | undefined, other: boolean): Gone {
  const since = before?.since ?? now;
  const otherSince = other ? (before?.otherSince ?? now) : undefined;
  const end = since + GRACE_MS;
  return { since, otherSince, until: otherSince === undefined ? end : Math.min(end, otherSince + HOLD_MS) };
}
