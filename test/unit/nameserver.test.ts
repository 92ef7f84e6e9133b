// The nameserver as a participant of gossip: what it tells, believes, keeps and forgets.
import { describe, expect, spyOn, test } from "bun:test";
import { SimulatedClock } from "../../lib/clock/simulated.ts";
import { atOnce } from "../../lib/clock/slices.ts";
import { type Entry, MAX_ENTRIES_PER_PEER } from "../../lib/dns/entry.ts";
import { GONE_MS, Nameserver } from "../../lib/dns/nameserver.ts";
import type { NamesStore, SavedEntry } from "../../lib/dns/saved.ts";
import { decodeNames, encodeNames } from "../../lib/dns/wire.ts";
import { silentLog } from "../../lib/log/log.ts";
import type { GossipData } from "../../lib/mesh/gossip.ts";
import { nameFromNumber } from "../../lib/mesh/name.ts";

const peer = (i: number) => nameFromNumber(BigInt(i));

const sample = (hostname: string): Entry => ({
  hostname,
  origin: peer(1),
  containerId: "c1",
  address: 1,
  version: 0,
  tombstone: 0,
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
  const clock = new SimulatedClock(1_000_000);

  test("tells of its names, and of their end", () => {
    const known = new Set<string>([peer(1), peer(2)]);
    const [a, b] = [nameserver(1, clock), nameserver(2, clock, memory(), (name) => known.has(name))];
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
    known.delete(peer(1));
    b.server.peersGone([{ name: peer(1) }]);
    clock.advance(GONE_MS - 1);
    expect(b.server.lookup("web.weave.local.")).toEqual([7]);
    clock.advance(1);
    expect(b.server.lookup("web.weave.local.")).toEqual([]);
  });

  test("gives saved names new versions at its start, so that peers that still know them pass them on", () => {
    const store = memory();
    const id = { hostname: "web.weave.local.", origin: peer(1), containerId: "c1", address: 7 };
    store.save(id, 3);
    store.save({ ...id, address: 8 }, 2 ** 40);
    const versions = () =>
      [...nameserver(1, clock, store).server.entries.all()].map(({ version }) => version);
    const seconds = Math.floor(clock.wall() / 1_000);
    expect(versions()).toEqual([seconds, 2 ** 40 + 1]);
    clock.advance(1_000);
    expect(versions()).toEqual([seconds + 1, 2 ** 40 + 1]);
  });

  test("broadcasts nothing if nothing is deleted", () => {
    let told = 0;
    const { server } = nameserver(1, clock);
    server.start(() => ({ unicast: () => true, broadcast: () => void told++, neighbours() {} }));
    server.add("web.weave.local", "c1", 7);
    expect([told, server.delete({ containerId: "c2" }), told]).toEqual([1, 0, 1]);
    expect([server.delete({ containerId: "c1" }), told]).toEqual([1, 2]);
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
        server.onGossip(encodeNames({ timestamp: Math.floor(clock.wall() / 1000), entries }), peer(2)),
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

  test("forgets a deleted name for good, whenever others look for old ones: they tell of it until then", () => {
    const clock = new SimulatedClock(1_000_000);
    const MINUTE = 60_000;
    const all: ReturnType<typeof nameserver>[] = [];
    /** Each tells the others all that it knows, every minute. */
    const pass = (minutes: number) => {
      for (let i = 0; i < minutes; i++) {
        clock.advance(MINUTE);
        for (const [at, { server }] of all.entries())
          for (const message of server.gossip().encode())
            for (const other of all)
              if (other.server !== server) atOnce(other.server.onGossip(message, peer(at + 1)));
      }
      return all.map(({ server }) => [server.entries.living, server.entries.size]);
    };
    for (const i of [1, 2, 3]) {
      all.push(nameserver(i, clock));
      pass(10);
    }
    all[0]?.server.add("web.weave.local", "c1", 7);
    expect(pass(1)).toEqual(Array(3).fill([1, 1]));
    all[0]?.server.delete({});
    expect(pass(29)).toEqual(Array(3).fill([0, 1]));
    expect(pass(31)).toEqual(Array(3).fill([0, 0]));
    // One that still has the name hears that it was deleted, however long ago.
    const late = nameserver(4, clock);
    const at = Math.floor(clock.wall() / 1_000);
    const hear = (tombstone: number, version: number) => {
      const entries = [{ ...sample("old.weave.local."), version, tombstone }];
      atOnce(late.server.onGossip(encodeNames({ timestamp: at, entries }), peer(1)));
      return late.server.lookup("old.weave.local.");
    };
    expect([hear(0, 0), hear(at - 3_600, 1)]).toEqual([[1], []]);
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
    const timestamp = Math.floor(clock.wall() / 1000);
    atOnce(strict.server.onGossip(encodeNames({ timestamp, entries }), peer(2)));
    expect(strict.server.lookup("x.weave.local.")).toEqual([2]);
  });

  test("ignores what peers with another time say, keeps its own, and hears them again once the clocks are right", () => {
    const moved = new SimulatedClock(1_000_000);
    const { server } = nameserver(1, moved);
    const entries = [{ ...sample("x.weave.local."), origin: peer(2) }];
    const hear = () => atOnce(server.onGossip(encodeNames({ timestamp: 1_700_000_000, entries }), peer(2)));
    server.add("own.weave.local", "c", 1);
    const right = moved.wallOffset;
    for (const hours of [3, -3]) {
      moved.wallOffset = right + hours * 3_600_000;
      expect(hear()).toBeUndefined();
      moved.advance(60_000);
      expect(server.lookup("x.weave.local.")).toEqual([]);
      expect(server.lookup("own.weave.local.")).toEqual([1]);
      expect(server.notes().join()).toContain(`ignoring names of peer ${peer(2)}: the clocks of`);
    }
    moved.wallOffset = right;
    hear();
    expect(server.lookup("x.weave.local.")).toEqual([1]);
    moved.advance(300_000);
    expect(server.notes()).toEqual([]);
  });

  test("takes only so many names of a peer, and none that is no name; its own are not crowded out", () => {
    const a = nameserver(1, clock);
    const timestamp = Math.floor(clock.wall() / 1000);
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

  test("ignores further names of all peers at the total limit, and notes that instead of each peer's limit", () => {
    const { server } = nameserver(1, clock);
    const most = 16 * MAX_ENTRIES_PER_PEER;
    server.entries.set({ ...sample("a.weave.local."), origin: peer(2) });
    let room = most - 1;
    Object.defineProperty(server.entries, "room", { get: () => room });
    spyOn(server.entries, "countOf").mockImplementation(() => MAX_ENTRIES_PER_PEER - 1);
    expect(server.notes()).toEqual([]);
    spyOn(server.entries, "countOf").mockImplementation(() => MAX_ENTRIES_PER_PEER);
    expect(server.notes()).toEqual([
      `DNS: ${peer(2)} has ${MAX_ENTRIES_PER_PEER} names; further names are ignored`,
    ]);
    for (room of [most, most + 1])
      expect(server.notes()).toEqual([`DNS: there are ${most} names; further names are ignored`]);
    spyOn(server.entries, "countOf").mockImplementation(() => 0);
    const timestamp = Math.floor(clock.wall() / 1000);
    const entries = [{ ...sample("b.weave.local."), origin: peer(3) }];
    atOnce(server.onGossip(encodeNames({ timestamp, entries }), peer(3)));
    expect([server.lookup("b.weave.local."), server.limits()[0]]).toEqual([
      [],
      { name: "names", value: most + 1, max: most, refused: 1 },
    ]);
  });

  test("tells of many names in many messages", () => {
    const a = nameserver(1, clock);
    for (let i = 0; i < 5_000; i++) a.server.add(`n${i}.weave.local`, "c1", i);
    const messages = [...a.server.gossip().encode()];
    expect(messages.length).toBe(5);
    expect(messages.flatMap((message) => decodeNames(message).entries).length).toBe(5_000);
  });

  test("forgets tombstones after half an hour", () => {
    const moving = new SimulatedClock(1_000_000);
    const a = nameserver(1, moving);
    a.server.add("web.weave.local", "c1", 7);
    a.server.delete({});
    moving.advance(30 * 60_000);
    expect(a.server.entries.size).toBe(1);
    moving.advance(30 * 60_000);
    expect(a.server.entries.size).toBe(0);
  });

  test("forgets the names of a peer that is gone, and not those that it tells when it is back meanwhile", () => {
    // A step of work takes 1 ms, so that a slice ends within the names.
    class WorkingClock extends SimulatedClock {
      #worked = 0;
      worked = () => ++this.#worked;
    }
    const slow = new WorkingClock(1_000_000);
    const known = new Set<string>([peer(1), peer(2), peer(3)]);
    const us = nameserver(1, slow, memory(), (name) => known.has(name));
    const [two, three] = [nameserver(2, slow), nameserver(3, slow)];
    for (let i = 0; i < 4_000; i++) two.server.add(`n${i}.weave.local`, "c", i);
    three.server.add("web.weave.local", "c", 7);
    const tell = (from: number, messages: Uint8Array[]) => {
      for (const message of messages) atOnce(us.server.onGossip(message, peer(from)));
    };
    tell(2, [...two.server.gossip().encode()]);
    tell(3, three.said);
    for (const name of [2, 3]) {
      known.delete(peer(name));
      us.server.peersGone([{ name: peer(name) }]);
    }
    let left = 0;
    // After the first slice, before the second.
    slow.after(GONE_MS, () => {
      left = us.server.entries.size;
      known.add(peer(3));
      tell(3, three.said);
    });
    slow.advance(GONE_MS);
    expect(left).toBeGreaterThan(0);
    expect(us.server.lookup("web.weave.local.")).toEqual([7]);
    expect(us.server.entries.size).toBe(1);
  });
});
