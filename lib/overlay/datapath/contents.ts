// The forwarding table in the kernel's maps, as desired state: other programs can write them, too (bpftool).
import type { IPv4 } from "../../address/ipv4.ts";
import type { Change, Resource } from "../../host/reconcile/resource.ts";
import { type DatapathMaps, type Hops, MAX_HOPS, NEW_NEIGHBOUR, SLEEVE } from "./maps.ts";

/** The kernel's forwarding table. Peers are given by their numbers. */
export interface ForwardingTable {
  /** Next hop by destination: its address, or SLEEVE. */
  readonly routes: ReadonlyMap<number, IPv4>;
  /** Hops by source. */
  readonly hops: ReadonlyMap<number, Hops>;
  /** Addresses that VXLAN frames are accepted from. */
  readonly neighbours: ReadonlySet<IPv4>;
}

/** One entry to write; undefined removes it. */
export type Entry =
  | { readonly map: "routes"; readonly key: number; readonly value: IPv4 | undefined }
  | { readonly map: "hops"; readonly key: number; readonly value: Hops | undefined }
  | { readonly map: "neighbours"; readonly key: IPv4; readonly value: true | undefined };

interface ContentsChange extends Change {
  readonly entries: readonly Entry[];
}

/** Return the entries to write so that `found` becomes `desired`; what others depend on comes first. */
export function tableDifference(desired: ForwardingTable, found: ForwardingTable): Entry[] {
  const entries: Entry[] = [];
  for (const key of desired.neighbours) {
    if (!found.neighbours.has(key)) entries.push({ map: "neighbours", key, value: true });
  }
  for (const [key, value] of desired.routes) {
    if (found.routes.get(key) !== value) entries.push({ map: "routes", key, value });
  }
  for (const key of found.routes.keys()) {
    if (!desired.routes.has(key)) entries.push({ map: "routes", key, value: undefined });
  }
  for (const [key, value] of desired.hops) {
    if (!sameHops(found.hops.get(key), value)) entries.push({ map: "hops", key, value });
  }
  for (const key of found.hops.keys()) {
    if (!desired.hops.has(key)) entries.push({ map: "hops", key, value: undefined });
  }
  for (const key of found.neighbours) {
    if (!desired.neighbours.has(key)) entries.push({ map: "neighbours", key, value: undefined });
  }
  return entries;
}

/** Return the table without paths through neighbours that `allowed` refuses; frames for these are dropped. */
export function restrictTable(
  table: ForwardingTable,
  allowed: (neighbour: IPv4) => boolean,
): ForwardingTable {
  const restrict = (hops: Hops): Hops => ({
    ...hops,
    vxlan: hops.vxlan.filter(({ address }) => allowed(address)),
  });
  return {
    routes: new Map([...table.routes].filter(([, hop]) => hop === SLEEVE || allowed(hop))),
    hops: new Map([...table.hops].map(([source, hops]) => [source, restrict(hops)])),
    neighbours: new Set([...table.neighbours].filter(allowed)),
  };
}

/** Return true where the kernel cannot tell them apart: it has room for MAX_HOPS. */
function sameHops(a: Hops | undefined, b: Hops): boolean {
  if (!a || a.sleeve !== b.sleeve || (a.from ?? 0) !== (b.from ?? 0)) return false;
  const [first, second] = [a.vxlan.slice(0, MAX_HOPS), b.vxlan.slice(0, MAX_HOPS)];
  return (
    first.length === second.length &&
    first.every(({ shortId, address }, i) => shortId === second[i]?.shortId && address === second[i]?.address)
  );
}

function readTable(maps: DatapathMaps): ForwardingTable {
  return {
    routes: new Map(maps.routes.filled()),
    hops: new Map(maps.hops.entries()),
    neighbours: new Set(maps.neighbours.entries().map(([address]) => address)),
  };
}

export function writeEntries({ routes, hops, neighbours }: DatapathMaps, entries: readonly Entry[]): void {
  for (const { map, key, value } of entries) {
    if (map === "routes") routes.set(key, value ?? 0);
    else if (map === "neighbours") value ? neighbours.set(key, NEW_NEIGHBOUR) : neighbours.delete(key);
    else if (value) hops.set(key, value);
    else hops.delete(key);
  }
}

const EMPTY: ForwardingTable = { routes: new Map(), hops: new Map(), neighbours: new Set() };

/** The maps' contents; nothing notifies of changes. */
export class Contents implements Resource<ForwardingTable, ForwardingTable, ContentsChange> {
  readonly name = "forwarding maps";
  readonly sources = ["maps"] as const;
  #table: ForwardingTable;
  /** The maps' contents as the constructor left them, for the first comparison: reading 8,000 entries takes 5 ms. */
  #found: ForwardingTable | undefined;

  /** `adopted`: the maps are those of the router before us, with its table. */
  constructor(
    private readonly maps: DatapathMaps,
    adopted: boolean,
  ) {
    this.#table = adopted ? readTable(maps) : EMPTY;
    this.#found = this.#table;
  }

  /** What the kernel forwards by. */
  get table(): ForwardingTable {
    return this.#table;
  }

  /**
   * Write the entries that differ from the table before; returns false where none does. Throws SysError; then the next call
   * writes them again.
   */
  replace(table: ForwardingTable): boolean {
    this.#found = undefined;
    const entries = tableDifference(table, this.#table);
    writeEntries(this.maps, entries);
    this.#table = table;
    return entries.length > 0;
  }

  desired(): ForwardingTable {
    return this.#table;
  }

  observe(): ForwardingTable {
    const found = this.#found ?? readTable(this.maps);
    this.#found = undefined;
    return found;
  }

  difference(desired: ForwardingTable, observed: ForwardingTable): ContentsChange[] {
    const entries = tableDifference(desired, observed);
    return (["routes", "hops", "neighbours"] as const).flatMap((map) => {
      const wrong = entries.filter((entry) => entry.map === map);
      const object = `map ${this.maps[map].definition.name}`;
      return wrong.length === 0
        ? []
        : [{ object, wrong: `wrong in ${wrong.length} entries`, entries: wrong }];
    });
  }

  apply(changes: readonly ContentsChange[]): void {
    for (const { entries } of changes) writeEntries(this.maps, entries);
  }
}
