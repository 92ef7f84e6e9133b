// The names of a network against a model that is plain enough to be right: random changes, what follows from them counted
// anew after each.
import { expect, test } from "bun:test";
import { SimulatedClock } from "../../lib/clock/simulated.ts";
import { atOnce } from "../../lib/clock/slices.ts";
import { Entries } from "../../lib/dns/entries.ts";
import { compareEntries, type Entry, entryKey, newer } from "../../lib/dns/entry.ts";
import { GONE_MS, Nameserver } from "../../lib/dns/nameserver.ts";
import type { NamesStore, SavedEntry } from "../../lib/dns/saved.ts";
import { silentLog } from "../../lib/log/log.ts";
import type { GossipData } from "../../lib/mesh/gossip.ts";
import { nameFromNumber, type PeerName } from "../../lib/mesh/name.ts";
import { randomOf, type TestRandom } from "../support/seed.ts";

const PEERS = [1n, 2n, 3n].map(nameFromNumber);
const NAMES = [
  "a.x.weave.local.",
  "B.x.weave.local.",
  "b.x.weave.local.",
  "x.weave.local.",
  "c.weave.local.",
];
const ALL_NAMES = [...NAMES, "weave.local.", "local.", "y.weave.local."];
const ADDRESSES = [1, 2, 3];

const randomEntry = (random: TestRandom): Entry => ({
  hostname: random.pick(NAMES),
  origin: random.pick(PEERS),
  // Those of one container take the room of two.
  containerId: random.pick(["c1", "c".repeat(300)]),
  address: random.pick(ADDRESSES),
  version: random.below(4),
  tombstone: random.pick([0, 0, 5, 9]),
});

/** What is found in these entries, counted from nothing. */
function found(entries: readonly Entry[]) {
  const living = entries.filter(({ tombstone }) => tombstone === 0);
  const isBelow = (name: string, parent: string) => name.toLowerCase().endsWith(`.${parent.toLowerCase()}`);
  const room = (list: readonly Entry[]) =>
    list.reduce((sum, entry) => sum + Math.ceil(entryKey(entry).length / 256), 0);
  return {
    size: entries.length,
    room: room(entries),
    perPeer: PEERS.map((peer) => room(entries.filter(({ origin }) => origin === peer))),
    origins: PEERS.filter((peer) => entries.some(({ origin }) => origin === peer)),
    // Each address once, however many holders have given it the name.
    names: ALL_NAMES.map((name) =>
      ADDRESSES.filter((address) =>
        living.some(
          (entry) => entry.address === address && entry.hostname.toLowerCase() === name.toLowerCase(),
        ),
      ),
    ),
    reverse: ADDRESSES.map(
      (address) => living.filter((entry) => entry.address === address).sort(compareEntries)[0]?.hostname,
    ),
    // The topmost label is nobody's to ask for.
    parents: ALL_NAMES.filter(
      (name) => name.split(".").length > 2 && living.some(({ hostname }) => isBelow(hostname, name)),
    ),
  };
}

function findings(entries: Entries): ReturnType<typeof found> {
  return {
    size: entries.size,
    room: entries.room,
    perPeer: PEERS.map((peer) => entries.countOf(peer)),
    origins: entries.origins().sort(),
    names: ALL_NAMES.map((name) => entries.lookup(name).sort()),
    reverse: ADDRESSES.map((address) => entries.reverse(address)),
    parents: ALL_NAMES.filter((name) => entries.isParent(name)),
  };
}

test("entries: what is found by name, address, parent and peer, after every change", () => {
  const random = randomOf("entries against a model");
  for (let history = 0; history < 15; history++) {
    const entries = new Entries();
    const model = new Map<string, Entry>();
    for (let step = 0; step < 50; step++) {
      const entry = randomEntry(random);
      const known = model.get(entryKey(entry));
      switch (random.below(6)) {
        case 0:
          entries.set(entry);
          model.set(entryKey(entry), entry);
          break;
        case 1: {
          const unwanted = random.pick([
            ({ tombstone }: Entry) => tombstone > 5,
            ({ tombstone }: Entry) => tombstone > 0,
            ({ origin }: Entry) => origin === entry.origin,
            ({ hostname }: Entry) => hostname === entry.hostname,
          ]);
          atOnce(entries.remove(unwanted));
          for (const [key, each] of model) if (unwanted(each)) model.delete(key);
          break;
        }
        default: {
          const fits = random.below(4) > 0;
          const isNews = known ? newer(known, entry) === entry : fits;
          expect(entries.merge([entry], () => fits)).toEqual(isNews ? [entry] : []);
          if (isNews) model.set(entryKey(entry), entry);
        }
      }
      expect(entries.get(entry)).toEqual(model.get(entryKey(entry)));
      expect(findings(entries)).toEqual(found([...model.values()]));
    }
  }
});

/** A store whose next saves fail while `full`. */
function diskOf() {
  const rows = new Map<string, SavedEntry>();
  const disk = { full: false, rows };
  const refuse = () => {
    if (disk.full) throw new Error("disk full");
  };
  const store: NamesStore = {
    load: () => [...rows.values()],
    save(id, version) {
      refuse();
      const { hostname, containerId, address } = id;
      rows.set(entryKey(id), { hostname, containerId, address, version });
    },
    remove(id) {
      refuse();
      rows.delete(entryKey(id));
    },
  };
  return { disk, store };
}

/** Three nameservers; what one says reaches those it is connected with, later. */
function network(clock: SimulatedClock) {
  const disks = PEERS.map(diskOf);
  const queue: { from: number; to: number; message: Uint8Array }[] = [];
  const online = new Set<number>();
  const areConnected = (a: number, b: number) => a === b || (online.has(a) && online.has(b));
  const start = (i: number) => {
    const ourName = PEERS[i] as PeerName;
    const server = new Nameserver(
      {
        ourName,
        domain: "weave.local.",
        isKnownPeer: (name) => areConnected(i, PEERS.indexOf(name)),
      },
      { clock, log: silentLog, store: disks[i]?.store as NamesStore },
    );
    const tell = (data: GossipData) => {
      for (const message of data.encode())
        for (const to of PEERS.keys())
          if (to !== i && areConnected(i, to)) queue.push({ from: i, to, message });
    };
    server.start(() => ({ unicast: () => true, broadcast: tell, neighbours: tell }));
    return server;
  };
  const servers = PEERS.map((_, i) => start(i));
  const server = (i: number) => servers[i] as Nameserver;
  const deliver = () => {
    for (const { from, to, message } of queue.splice(0)) {
      if (areConnected(from, to)) atOnce(server(to).onBroadcast(PEERS[from] as PeerName, message));
    }
  };
  const others = (i: number) => [...PEERS.keys()].filter((other) => other !== i);
  const join = (i: number) => {
    online.add(i);
    for (const other of others(i).filter((each) => online.has(each)))
      for (const [from, to] of [[i, other] as const, [other, i] as const])
        for (const message of server(from).gossip().encode()) queue.push({ from, to, message });
  };
  const leave = (i: number) => {
    deliver();
    if (!online.delete(i)) return;
    for (const other of others(i).filter((each) => online.has(each))) {
      server(i).peersGone([{ name: PEERS[other] as PeerName }]);
      server(other).peersGone([{ name: PEERS[i] as PeerName }]);
    }
    clock.advance(GONE_MS);
  };
  const restart = (i: number) => {
    server(i).stop();
    leave(i);
    servers[i] = start(i);
  };
  return { server, disks, join, leave, areConnected, deliver, restart };
}

test("nameservers: each knows the names of those it is connected with, and no others; a change that is not saved is none", () => {
  const random = randomOf("nameservers against a model");
  for (let history = 0; history < 4; history++) {
    const clock = new SimulatedClock(1_000_000);
    const { server, disks, join, leave, areConnected, deliver, restart } = network(clock);
    const truth = PEERS.map(() => new Map<string, Entry>());
    const own = (i: number) => truth[i] as Map<string, Entry>;
    for (let step = 0; step < 80; step++) {
      const i = random.below(PEERS.length);
      const { hostname, containerId, address } = randomEntry(random);
      const id = { hostname, containerId, address, origin: PEERS[i] as PeerName, version: 0, tombstone: 0 };
      const disk = disks[i]?.disk;
      if (!disk) throw new Error("no disk");
      const fails = random.below(10) === 0;
      switch (random.below(8)) {
        case 0:
          join(i);
          break;
        case 1:
          leave(i);
          break;
        case 2:
          restart(i);
          break;
        case 3:
          deliver();
          clock.advance(random.pick([1_000, 31 * 60_000, 65 * 60_000]));
          break;
        case 4:
        case 5: {
          disk.full = fails;
          const isNew = !own(i).has(entryKey(id));
          const add = () => server(i).add(hostname, containerId, address);
          if (fails && isNew) expect(add).toThrow("disk full");
          else {
            expect(add()).toBe(true);
            own(i).set(entryKey(id), id);
          }
          break;
        }
        default: {
          disk.full = fails;
          const selection = random.pick([{ hostname }, { containerId }, { address }, { hostname, address }]);
          const doomed = [...own(i).values()].filter(
            (entry) =>
              ("hostname" in selection ? entry.hostname.toLowerCase() === hostname.toLowerCase() : true) &&
              ("containerId" in selection ? entry.containerId === containerId : true) &&
              ("address" in selection ? entry.address === address : true),
          );
          if (fails && doomed.length > 0) expect(() => server(i).delete(selection)).toThrow("disk full");
          else {
            expect(server(i).delete(selection)).toBe(doomed.length);
            for (const entry of doomed) own(i).delete(entryKey(entry));
          }
        }
      }
      disk.full = false;
      for (let round = 0; round < 4; round++) deliver();
      clock.advance(0);
      for (const at of PEERS.keys()) {
        const visible = PEERS.flatMap((_, from) => (areConnected(at, from) ? [...own(from).values()] : []));
        const { names, reverse, parents } = found(visible);
        const known = findings(server(at).entries);
        expect({ names: known.names, reverse: known.reverse, parents: known.parents }).toEqual({
          names,
          reverse,
          parents,
        });
      }
    }
    // Nothing that was deleted is remembered for ever.
    clock.advance(61 * 60_000);
    for (const i of PEERS.keys())
      expect([...server(i).entries.all()].filter(({ tombstone }) => tombstone > 0)).toEqual([]);
    for (const i of PEERS.keys()) server(i).stop();
  }
});
