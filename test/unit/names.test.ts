import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { seededRandom } from "../../lib/clock/random.ts";
import { SimulatedClock } from "../../lib/clock/simulated.ts";
import { atOnce } from "../../lib/clock/slices.ts";
import { Entries } from "../../lib/dns/entries.ts";
import { type Entry, entryKey, MAX_ENTRIES_PER_PEER, tombstoned } from "../../lib/dns/entry.ts";
import { DomainNameError, fullyQualified, isInDomain } from "../../lib/dns/name.ts";
import { Nameserver } from "../../lib/dns/nameserver.ts";
import { parseResolvConf } from "../../lib/dns/resolvconf.ts";
import { resolve } from "../../lib/dns/resolve.ts";
import type { NamesStore, SavedEntry } from "../../lib/dns/saved.ts";
import { decodeNames, encodeNames } from "../../lib/dns/wire.ts";
import { silentLog } from "../../lib/log/log.ts";
import type { GossipData } from "../../lib/mesh/gossip.ts";
import { nameFromNumber } from "../../lib/mesh/name.ts";

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
        expect(entries.lookup("a.WEAVE.local.").sort()).toEqual(named.map(({ address }) => address).sort());
        expect(entries.reverse(2) !== undefined).toBe(living.some(({ address }) => address === 2));
        atOnce(entries.remove(({ origin }) => origin === peer(1)));
        expect([...entries.all()].every(({ origin }) => origin === peer(2))).toBe(true);
        const left = living.filter(({ hostname, origin }) => hostname.startsWith("b") && origin === peer(2));
        expect(entries.lookup("b.weave.local.").length).toBe(left.length);
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

function memory(): NamesStore & { rows: Map<string, SavedEntry> } {
  const rows = new Map<string, SavedEntry>();
  return {
    rows,
    load: () => [...rows.values()],
    save: ({ hostname, containerId, address }, version) =>
      void rows.set(`${hostname} ${containerId} ${address}`, { hostname, containerId, address, version }),
    remove: ({ hostname, containerId, address }) => void rows.delete(`${hostname} ${containerId} ${address}`),
  };
}

function nameserver(name: number, clock: SimulatedClock, store = memory(), known = (_: string) => true) {
  const said: Uint8Array[] = [];
  const server = new Nameserver(
    { ourName: peer(name), domain: "weave.local.", isKnownPeer: known },
    { clock, log: silentLog, store },
  );
  const say = (data: GossipData) => void said.push(...data.encode());
  server.start(() => ({ unicast: () => true, broadcast: say, neighbours: say }));
  return { server, said, store };
}

describe("a nameserver", () => {
  const clock = new SimulatedClock(1_700_000_000_000);

  test("tells of its names, and of their end", () => {
    const [a, b] = [nameserver(1, clock), nameserver(2, clock)];
    expect(a.server.add("web.weave.local", "c1", 7)).toBe(true);
    expect(a.server.add("web.example.com", "c1", 7)).toBe(false);
    for (const message of a.said.splice(0)) atOnce(b.server.onBroadcast(peer(1), message));
    expect(b.server.lookup("WEB.weave.local.")).toEqual([7]);
    expect(b.server.delete({ containerId: "c1" })).toBe(0);
    expect(a.server.delete({ containerId: "c1" })).toBe(1);
    for (const message of a.said.splice(0)) atOnce(b.server.onBroadcast(peer(1), message));
    expect(b.server.lookup("web.weave.local.")).toEqual([]);
    a.server.add("web.weave.local", "c1", 7);
    for (const message of a.said) atOnce(b.server.onBroadcast(peer(1), message));
    expect(b.server.lookup("web.weave.local.")).toEqual([7]);
    b.server.peerGone(peer(1));
    clock.advance(0);
    expect(b.server.lookup("web.weave.local.")).toEqual([]);
  });

  test("says against whatever contradicts it that its names live, or are gone, and nothing where it does not", () => {
    const address = 7;
    const heard = (a: ReturnType<typeof nameserver>, entry: Partial<Entry>) => {
      const said = { ...sample("web.weave.local."), containerId: "c1", address, ...entry };
      a.said.splice(0);
      const message = encodeNames({ timestamp: Math.floor(clock.wall() / 1000), entries: [said] });
      atOnce(a.server.onBroadcast(peer(2), message));
      return a.said.flatMap((bytes) =>
        decodeNames(bytes).entries.map(({ version, tombstone }) => [version, tombstone]),
      );
    };
    const now = Math.floor(clock.wall() / 1000);
    const living = nameserver(1, clock);
    living.server.add("web.weave.local", "c1", address);
    // The same version with a tombstone would otherwise win everywhere, and here too.
    expect(heard(living, { version: 0, tombstone: now })).toEqual([[1, 0]]);
    expect(living.server.lookup("web.weave.local.")).toEqual([address]);
    expect(heard(living, { version: 1, tombstone: 0 })).toEqual([]);
    expect(heard(living, { version: 0, tombstone: now })).toEqual([]);
    expect(heard(living, { version: 5, tombstone: now })).toEqual([[6, 0]]);
    expect(living.server.lookup("web.weave.local.")).toEqual([address]);
    const gone = nameserver(1, clock);
    gone.server.add("web.weave.local", "c1", address);
    gone.server.delete({ containerId: "c1" });
    expect(heard(gone, { version: 0, tombstone: 0 })).toEqual([]);
    expect(heard(gone, { version: 1, tombstone: 0 })).toEqual([[2, now]]);
    expect(gone.server.lookup("web.weave.local.")).toEqual([]);
  });

  test("joins what waits for a slow peer: the newest of each name, and all of them where there are many", () => {
    const { server, said } = nameserver(1, clock);
    const gossip = (count: number, version: number): GossipData => {
      const entries = Array.from({ length: count }, (_, i) => ({
        ...sample("x.weave.local."),
        origin: peer(2),
        address: i,
        version,
      }));
      const data = atOnce(
        server.onGossip(encodeNames({ timestamp: Math.floor(clock.now() / 1000), entries }), peer(2)),
      );
      if (!data) throw new Error("no news");
      return data;
    };
    const told = (data: GossipData) => [...data.encode()].flatMap((message) => decodeNames(message).entries);
    const [one, two] = [gossip(2, 1), gossip(1, 2)];
    for (const data of [one.join([two]), two.join([one])])
      expect(
        told(data)
          .map(({ address, version }) => [address, version])
          .sort(),
      ).toEqual([
        [0, 2],
        [1, 1],
      ]);
    const many = Array.from({ length: 6 }, (_, i) => gossip(1_024, i + 3));
    const [first = one, ...others] = many;
    expect(told(first.join(others)).length).toBe(1_024);
    server.add("own.weave.local", "c1", 7);
    said.splice(0);
    expect(told(one.join([server.gossip()])).length).toBe(1_025);
  });

  test("keeps its names over a restart; without them it takes back what others remember", () => {
    const a = nameserver(1, clock);
    a.server.add("web.weave.local", "c1", 7);
    a.server.add("db.weave.local", "c2", 8);
    a.server.delete({ hostname: "db.weave.local." });
    const again = nameserver(1, clock, a.store);
    expect(again.server.lookup("web.weave.local.")).toEqual([7]);
    expect(again.server.lookup("db.weave.local.")).toEqual([]);
    const b = nameserver(2, clock);
    for (const message of a.said) atOnce(b.server.onBroadcast(peer(1), message));
    const forgetful = nameserver(1, clock);
    for (const message of b.server.gossip().encode()) atOnce(forgetful.server.onGossip(message, peer(2)));
    expect(forgetful.said.length).toBe(1);
    for (const message of forgetful.said) atOnce(b.server.onBroadcast(peer(1), message));
    expect(b.server.lookup("web.weave.local.")).toEqual([]);
    forgetful.server.add("web.weave.local", "c1", 7);
    for (const message of forgetful.said) atOnce(b.server.onBroadcast(peer(1), message));
    expect(b.server.lookup("web.weave.local.")).toEqual([7]);
  });

  test("believes nobody it does not know", () => {
    const strict = nameserver(1, clock, memory(), (name) => name !== peer(3));
    const entries = [2, 3].map((i) => ({
      hostname: "x.weave.local.",
      origin: peer(i),
      containerId: "c",
      address: i,
      version: 0,
      tombstone: 0,
    }));
    const timestamp = Math.floor(clock.now() / 1000);
    atOnce(strict.server.onGossip(encodeNames({ timestamp, entries }), peer(2)));
    expect(strict.server.lookup("x.weave.local.")).toEqual([2]);
  });

  test("ignores what peers with another time say, keeps its own, and hears them again once the clocks are right", () => {
    const moved = new SimulatedClock(1_700_000_000_000);
    const { server } = nameserver(1, moved);
    const entries = [{ ...sample("x.weave.local."), origin: peer(2) }];
    const hear = () => atOnce(server.onGossip(encodeNames({ timestamp: 1_700_000_000, entries }), peer(2)));
    server.add("own.weave.local", "c", 1);
    for (const hours of [3, -3]) {
      moved.wallOffset = hours * 3_600_000;
      expect(hear()).toBeUndefined();
      moved.advance(60_000);
      expect(server.lookup("x.weave.local.")).toEqual([]);
      expect(server.lookup("own.weave.local.")).toEqual([1]);
      expect(server.notes().join()).toContain(`ignoring names of peer ${peer(2)}: the clocks of`);
    }
    moved.wallOffset = 0;
    hear();
    expect(server.lookup("x.weave.local.")).toEqual([1]);
    moved.advance(300_000);
    expect(server.notes()).toEqual([]);
  });

  test("takes only so many names of a peer, and none that is no name; its own are not crowded out", () => {
    const a = nameserver(1, clock);
    const timestamp = Math.floor(clock.now() / 1000);
    const hear = (entries: Entry[]) =>
      atOnce(a.server.onGossip(encodeNames({ timestamp, entries }), peer(2)));
    for (const hostname of ["", "a..weave.local.", "no.dot", `${"x".repeat(64)}.weave.local.`])
      hear([{ ...sample(hostname), origin: peer(2) }]);
    expect(a.server.entries.size).toBe(0);
    for (const origin of [peer(1), peer(2)]) {
      for (let at = 0; at < MAX_ENTRIES_PER_PEER + 10; at += 1_000) {
        hear(
          Array.from({ length: 1_000 }, (_, i) => ({
            ...sample(`n${at + i}.weave.local.`),
            origin,
            containerId: "x",
          })),
        );
      }
    }
    expect(a.server.entries.countOf(peer(2))).toBe(MAX_ENTRIES_PER_PEER);
    expect(a.server.notes()).toEqual([
      expect.stringContaining(`${peer(2)} has ${MAX_ENTRIES_PER_PEER} names`),
    ]);
    expect(a.server.add("mine.weave.local", "c1", 7)).toBe(true);
    expect(a.server.lookup("mine.weave.local.")).toEqual([7]);
  });

  test("tells of many names in many messages", () => {
    const a = nameserver(1, clock);
    for (let i = 0; i < 5_000; i++) a.server.add(`n${i}.weave.local`, "c1", i);
    const messages = [...a.server.gossip().encode()];
    expect(messages.length).toBe(5);
    expect(messages.flatMap((message) => decodeNames(message).entries).length).toBe(5_000);
  });

  test("forgets tombstones after half an hour", () => {
    const moving = new SimulatedClock(1_700_000_000_000);
    const a = nameserver(1, moving);
    a.server.add("web.weave.local", "c1", 7);
    a.server.delete({});
    moving.advance(30 * 60_000);
    expect(a.server.entries.size).toBe(1);
    moving.advance(30 * 60_000);
    expect(a.server.entries.size).toBe(0);
  });
});

describe("resolving", () => {
  const names = {
    lookup: (name: string) => (["w.weave.local.", "com.weave.local."].includes(name) ? [1, 2, 3] : []),
    reverse: () => undefined,
    isParent: (name: string) => name === "sub.weave.local.",
  };
  const ask = (name: string, type = "A") =>
    resolve({ name, type: type as "A" }, names, { domain: "weave.local.", ttl: 1 }, seededRandom(1n).float);
  const rcode = (name: string, type?: string) => {
    const reply = ask(name, type);
    return reply === "forward"
      ? reply
      : `${reply.rcode} ${reply.answers.length} ${reply.authorities?.length ?? 0}`;
  };

  test.each([
    ["w.weave.local", "A", "0 3 0"],
    ["w", "A", "0 3 0"],
    ["w.weave.local", "ANY", "0 3 0"],
    ["w.weave.local", "AAAA", "0 0 1"],
    ["x.weave.local", "A", "3 0 1"],
    ["weave.local", "SOA", "0 1 0"],
    ["weave.local", "A", "0 0 1"],
    ["notweave.local", "A", "forward"],
    ["example.com", "A", "forward"],
    [".", "NS", "forward"],
    ["1.0.0.10.in-addr.arpa", "PTR", "forward"],
    ["hello.in-addr.arpa", "PTR", "forward"],
    ["intranet", "A", "forward"],
    ["com", "A", "0 3 0"],
    ["com", "NS", "forward"],
    ["com", "DS", "forward"],
    ["sub.weave.local", "A", "0 0 1"],
    ["weave.local", "AXFR", "5 0 0"],
    ["example.com", "IXFR", "5 0 0"],
  ])("%s %s", (name, type, expected) => {
    expect(rcode(name, type)).toBe(expected);
  });
});

test("domain names", () => {
  expect(fullyQualified("a.b")).toBe("a.b.");
  expect(fullyQualified("a.b.")).toBe("a.b.");
  for (const bad of [
    "",
    ".",
    "a..b",
    "a b.c",
    `${"x".repeat(64)}.c`,
    "ä.c",
    Array(128).fill("ab").join("."),
  ]) {
    expect(() => fullyQualified(bad)).toThrow(DomainNameError);
  }
  expect(isInDomain("X.Weave.local.", "weave.LOCAL.")).toBe(true);
  expect(isInDomain("xweave.local.", "weave.local.")).toBe(false);
});

test("resolv.conf", () => {
  const text =
    "# a\n; b\nnameserver 10.0.0.1\n nameserver\tfe80::1%eth0 \nsearch x y\nnameserver nonsense\noptions a\nnameserver 1.1.1.1\nnameserver 8.8.8.8";
  expect(parseResolvConf(text)).toEqual(["10.0.0.1", "fe80::1%eth0", "1.1.1.1"]);
});
