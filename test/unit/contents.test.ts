// The forwarding maps over many changes of tables: they hold what they should and nothing else, by as few writes as it takes.
import { expect, test } from "bun:test";
import {
  Contents,
  type Entry,
  type ForwardingTable,
  restrictTable,
  tableDifference,
  writeEntries,
} from "../../lib/overlay/datapath/contents.ts";
import {
  type DatapathMaps,
  type Hops,
  type NeighbourEntry,
  SLEEVE,
} from "../../lib/overlay/datapath/maps.ts";
import { randomOf, type TestRandom } from "../support/seed.ts";

function randomTable(random: TestRandom): ForwardingTable {
  const some = <T>(make: (i: number) => T) =>
    Array.from({ length: 8 }, (_, i) => i).flatMap((i) => (random.below(2) === 0 ? [make(i)] : []));
  const address = () => (random.below(4) === 0 ? SLEEVE : 0x0a630001 + random.below(3));
  const hops = (): Hops => ({
    from: random.below(2) === 0 ? undefined : address(),
    sleeve: random.below(2) === 0,
    vxlan: some((i) => ({ shortId: i, address: address() })).slice(0, 2),
  });
  return {
    routes: new Map(some((i) => [i, address()])),
    hops: new Map(some((i) => [i, hops()])),
    neighbours: new Set(some((i) => 0x0a630001 + i)),
  };
}

/** Maps as the kernel has them: an array has all keys, a neighbour's value is when it was last heard. */
function kernel() {
  const routes = new Map<number, number>();
  const hops = new Map<number, Hops>();
  const neighbours = new Map<number, NeighbourEntry>();
  const table = (): ForwardingTable => ({
    routes: new Map([...routes].filter(([, address]) => address !== 0)),
    hops: new Map(hops),
    neighbours: new Set(neighbours.keys()),
  });
  return { maps: { routes, hops, neighbours } as unknown as DatapathMaps, neighbours, table };
}

test("after each of 500 changes the kernel has the table, and nothing that did not change was written", () => {
  const random = randomOf("tables");
  const { maps, neighbours, table } = kernel();
  let before: ForwardingTable = { routes: new Map(), hops: new Map(), neighbours: new Set() };
  for (let i = 0; i < 500; i++) {
    const next = randomTable(random);
    const used = { seen: BigInt(i + 1), received: 1n, sent: 2n };
    for (const key of neighbours.keys()) neighbours.set(key, used);
    const entries = tableDifference(next, before);
    const unchanged = (entry: Entry) => {
      if (entry.map === "neighbours")
        return next.neighbours.has(entry.key) === before.neighbours.has(entry.key);
      const [now, was] = [next[entry.map].get(entry.key), before[entry.map].get(entry.key)];
      return Bun.deepEquals(now, was);
    };
    expect(entries.filter(unchanged)).toEqual([]);
    expect(new Set(entries.map(({ map, key }) => `${map} ${key}`)).size).toBe(entries.length);
    writeEntries(maps, entries);
    expect(table()).toEqual(next);
    // When a neighbour that stays was last heard is not forgotten.
    for (const key of before.neighbours)
      if (next.neighbours.has(key)) expect(neighbours.get(key)).toEqual(used);
    expect(tableDifference(next, next)).toEqual([]);
    before = next;
  }
});

test("a peer that is removed is forwarded to no more, and its neighbour's frames are taken no more", () => {
  const { maps, table } = kernel();
  const full = {
    routes: new Map([[2, 0x0a630002]]),
    hops: new Map([[1, { vxlan: [{ shortId: 2, address: 0x0a630002 }], sleeve: false }]]),
    neighbours: new Set([0x0a630002]),
  };
  const empty = { routes: new Map(), hops: new Map(), neighbours: new Set<number>() };
  writeEntries(maps, tableDifference(full, empty));
  // What uses an address comes after it on the way in.
  expect(tableDifference(full, empty).map(({ map }) => map)).toEqual(["neighbours", "routes", "hops"]);
  writeEntries(maps, tableDifference(empty, full));
  expect(table()).toEqual(empty);
});

test("a table of which only some entries could be written counts as not written: the next one writes all", () => {
  const random = randomOf("refused");
  const { maps, table } = kernel();
  /** Writes until the kernel refuses one. */
  let left = 0;
  const refusing = <T extends object>(map: T): T =>
    new Proxy(map, {
      get: (target, name) => {
        if ((name === "set" || name === "delete") && left-- === 0) throw new Error("ENOMEM");
        const method = Reflect.get(target, name);
        return typeof method === "function" ? method.bind(target) : method;
      },
    });
  const { routes, hops, neighbours } = maps;
  const contents = new Contents(
    { ...maps, routes: refusing(routes), hops: refusing(hops), neighbours: refusing(neighbours) },
    false,
  );
  let refused = 0;
  for (let i = 0; i < 100; i++) {
    const next = randomTable(random);
    left = random.below(6);
    try {
      contents.replace(next);
    } catch {
      refused++;
    }
    left = -1;
    contents.replace(next);
    expect(table()).toEqual(next);
  }
  expect(refused).toBeGreaterThan(50);
});

test("a restricted table keeps sleeve and the neighbours that are allowed", () => {
  const [kept, gone] = [0x0a630001, 0x0a630002];
  const vxlan = [kept, gone].map((address, i) => ({ shortId: i, address }));
  const table: ForwardingTable = {
    routes: new Map([
      [1, kept],
      [2, gone],
      [3, SLEEVE],
    ]),
    hops: new Map([[1, { from: gone, sleeve: true, vxlan }]]),
    neighbours: new Set([kept, gone]),
  };
  expect(restrictTable(table, (address) => address === kept)).toEqual({
    routes: new Map([
      [1, kept],
      [3, SLEEVE],
    ]),
    hops: new Map([[1, { from: gone, sleeve: true, vxlan: vxlan.slice(0, 1) }]]),
    neighbours: new Set([kept]),
  });
});
