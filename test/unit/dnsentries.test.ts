// Entries of the names of containers: merged, found, bounded, as they cross the wire.
import { describe, expect, test } from "bun:test";
import { atOnce } from "../../lib/clock/slices.ts";
import { Entries } from "../../lib/dns/entries.ts";
import { type Entry, entryKey, tombstoned } from "../../lib/dns/entry.ts";
import { decodeNames, encodeNames } from "../../lib/dns/wire.ts";
import { nameFromNumber } from "../../lib/mesh/name.ts";
import { fc } from "../support/fastcheck.ts";

const peer = (i: number) => nameFromNumber(BigInt(i));

const entry = fc.record({
  hostname: fc.constantFrom("a.weave.local.", "A.weave.local.", "b.weave.local."),
  origin: fc.constantFrom(peer(1), peer(2)),
  containerId: fc.constantFrom("c1", "c2"),
  address: fc.constantFrom(1, 2, 3),
  version: fc.nat(3),
  tombstone: fc.constantFrom(0, 0, 5, 6),
});

const sample = (hostname: string): Entry => ({
  hostname,
  origin: peer(1),
  containerId: "c1",
  address: 1,
  version: 0,
  tombstone: 0,
});

const state = (entries: Entries) => [...entries.all()].map((e) => JSON.stringify(e)).sort();

const merged = (...lists: Entry[][]) => {
  const entries = new Entries();
  for (const list of lists) entries.merge(list);
  return state(entries);
};

describe("entries", () => {
  test("merge to the same, whatever the order, and how often", () => {
    fc.assert(
      fc.property(fc.array(entry), fc.array(entry), fc.array(entry), (a, b, c) => {
        const all = merged(a, b, c);
        expect(merged(c, a, b)).toEqual(all);
        expect(merged(b, b, c, a, c)).toEqual(all);
        expect(merged([...a, ...b, ...c].reverse())).toEqual(all);
      }),
    );
  });

  test("are found by name, whatever the case, and by address, while they live", () => {
    fc.assert(
      fc.property(fc.array(entry), (list) => {
        const entries = new Entries();
        entries.merge(list);
        const living = [...entries.all()].filter(({ tombstone }) => tombstone === 0);
        const named = living.filter(({ hostname }) => hostname.toLowerCase() === "a.weave.local.");
        const addresses = new Set(named.map(({ address }) => address));
        expect(entries.lookup("a.WEAVE.local.").sort()).toEqual([...addresses].sort());
        expect(entries.reverse(2) !== undefined).toBe(living.some(({ address }) => address === 2));
        atOnce(entries.remove(({ origin }) => origin === peer(1)));
        expect([...entries.all()].every(({ origin }) => origin === peer(2))).toBe(true);
        const left = living.filter(({ hostname, origin }) => hostname.startsWith("b") && origin === peer(2));
        const leftAddresses = new Set(left.map(({ address }) => address));
        expect(entries.lookup("b.weave.local.").length).toBe(leftAddresses.size);
      }),
    );
  });

  test("make the names above them exist, while they live", () => {
    const entries = new Entries();
    const web = { ...sample("web.east.weave.local."), containerId: "c" };
    entries.set(web);
    expect(entries.isParent("EAST.weave.local.")).toBe(true);
    expect(entries.isParent("web.east.weave.local.")).toBe(false);
    entries.set(tombstoned(web, 5));
    expect(entries.isParent("east.weave.local.")).toBe(false);
    atOnce(entries.remove(() => true));
    expect([entries.origins(), entries.isParent("weave.local.")]).toEqual([[], false]);
  });

  test("cost no more than their room, however many labels, addresses and characters they have", () => {
    const entries = new Entries();
    const deep = `${"a.".repeat(100)}b.weave.local.`;
    entries.set({ ...sample(deep), containerId: "c", origin: peer(1) });
    expect([entries.isParent("b.weave.local."), entries.isParent("a.b.weave.local.")]).toEqual([true, true]);
    expect(entries.isParent(deep.slice(2))).toBe(false);
    expect(entries.room).toBe(1);
    for (let i = 0; i < 3_000; i++)
      entries.set({ ...sample("many.weave.local."), containerId: "c", origin: peer(2), address: i });
    expect(entries.lookup("many.weave.local.").length).toBe(1_024);
    entries.set({ ...sample("x.weave.local."), containerId: "c".repeat(1_000), origin: peer(3) });
    expect(entries.countOf(peer(3))).toBe(5);
    atOnce(entries.remove(({ origin }) => origin !== peer(3)));
    expect([entries.size, entries.room]).toEqual([1, 5]);
    atOnce(entries.remove(() => true));
    expect([entries.size, entries.room, entries.origins()]).toEqual([0, 0, []]);
  });

  test("cross the wire unchanged, each once, in order", () => {
    fc.assert(
      fc.property(fc.uniqueArray(entry, { selector: entryKey }), fc.nat(), (entries, timestamp) => {
        const again = decodeNames(encodeNames({ timestamp, entries }));
        expect(again.timestamp).toBe(timestamp);
        expect(again.entries.map((e) => JSON.stringify(e)).sort()).toEqual(
          entries.map((e) => JSON.stringify(e)).sort(),
        );
      }),
    );
  });
});
