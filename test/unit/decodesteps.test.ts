// What peers send is decoded in steps, so that nobody waits for a long message: work is counted as decoding charges it.
import { afterAll, beforeAll, beforeEach, expect, spyOn, test } from "bun:test";
import { seededRandom } from "../../lib/clock/random.ts";
import { SimulatedClock } from "../../lib/clock/simulated.ts";
import { atOnce, type Work } from "../../lib/clock/slices.ts";
import { Gathered } from "../../lib/dns/gossip.ts";
import { Nameserver } from "../../lib/dns/nameserver.ts";
import { encodeNames, readNames } from "../../lib/dns/wire.ts";
import { Budget } from "../../lib/gob/budget.ts";
import { decodeState, encodeState, type IpamState, readState } from "../../lib/ipam/wire.ts";
import { silentLog } from "../../lib/log/log.ts";
import { MAX_PEERS } from "../../lib/mesh/bounds.ts";
import { nameFromNumber, type PeerName } from "../../lib/mesh/name.ts";
import { encodeTopology, Peer, readTopology } from "../../lib/mesh/peer.ts";
import { Peers } from "../../lib/mesh/peers.ts";
import { linksOf } from "../support/links.ts";

const MANY = 4_000;
/** A step takes less than a ms: 64 structs of 6 fields cost 13,000. */
const MOST = 16_000;

const name = (i: number) => nameFromNumber(BigInt(i));
/** Calls of Budget.spend, and the units that they charged; counted here, as a spy would record each call. */
const charged = { calls: 0, units: 0 };
const { spend } = Budget.prototype;
beforeAll(() => {
  Budget.prototype.spend = function (units) {
    charged.calls++;
    charged.units += units;
    spend.call(this, units);
  };
});
afterAll(() => {
  Budget.prototype.spend = spend;
});
beforeEach(() => {
  charged.calls = charged.units = 0;
});

function topology(): Uint8Array {
  const own = new Peer({ ...Peer.placeholder(name(1)), uid: 7n });
  for (let i = 0; i < MANY; i++) {
    const remote = Peer.placeholder(name(100 + i));
    linksOf(own).set(remote.name, {
      ...{ remote, address: "10.0.0.1:6783", outbound: true, established: true },
    });
  }
  return encodeTopology([own]);
}

function ring(): Uint8Array {
  const entries = Array.from({ length: MANY }, (_, i) => ({
    ...{ token: 0x0a200000 + i * 16, peer: name(i % 3), version: i, free: 16 },
  }));
  const [start, end] = [0x0a200000, 0x0a300000];
  const made = { start, end, peer: name(1), entries, seeds: [name(1)] };
  return encodeState({ now: 1n, nicknames: new Map(), consensus: undefined, ring: made });
}

function names(): Uint8Array {
  const entries = Array.from({ length: MANY }, (_, i) => ({
    ...{ hostname: `n${i}.weave.local.`, origin: name(1), containerId: `c${i}` },
    ...{ address: i, version: 1, tombstone: 0 },
  }));
  return encodeNames({ timestamp: 1, entries });
}

/** A state in which one thing is as long as a message may be. */
const longState = (state: Partial<IpamState>) =>
  encodeState({ now: 1n, nicknames: new Map(), consensus: undefined, ring: undefined, ...state });
const peers = (count: number) => Array.from({ length: count }, (_, i) => name(i));
const round = (number: number) => ({ round: number, proposer: { name: name(1), uid: 1n } });
const accepting = (value: readonly PeerName[]) => {
  const claims = { promise: round(1), accepted: round(1), acceptedValue: { value, origin: round(1) } };
  return new Map([["1", { id: { name: name(1), uid: 1n }, claims }]]);
};

test("lists of peers are refused before they are decoded where they are longer than any that is used", () => {
  const made = { start: 0, end: 64, peer: name(1), entries: [], seeds: peers(4_097) };
  for (const state of [{ ring: made }, { consensus: accepting(peers(4_097)) }]) {
    charged.calls = 0;
    expect(() => decodeState(longState(state))).toThrow("gob has 4097 elements where 4096 are the most");
    expect(charged.calls).toBeLessThan(100);
  }
  expect(decodeState(longState({ ring: { ...made, seeds: peers(4_096) } })).ring?.seeds).toHaveLength(4_096);
});

test("of nicknames that peers of the original have heard from a liar, as many are read as two rings have owners", () => {
  const nicknames = new Map(peers(65_537).map((peer) => [peer, ""]));
  const work = readState(longState({ nicknames }));
  let steps = 0;
  for (;;) {
    const { done, value } = work.next();
    steps++;
    if (!done) continue;
    expect(value.nicknames.size).toBe(65_536);
    break;
  }
  expect(steps).toBeGreaterThan(65_536 / 64 + 65_536 / 256);
});

test.each<[string, () => Work<unknown>]>([
  ["a topology", () => readTopology(topology(), () => "all")],
  ["a ring", () => readState(ring())],
  ["names", () => readNames(names(), () => {})],
])("%s", (_, read) => {
  const work = read();
  const steps: number[] = [];
  for (let done: boolean | undefined = false; !done; ) {
    charged.units = 0;
    done = work.next().done;
    steps.push(charged.units);
  }
  expect(Math.max(...steps)).toBeLessThan(MOST);
  expect(steps.reduce((sum, units) => sum + units, 0)).toBeGreaterThan(20 * MOST);
});

test("of an update of more peers than there is room for, connections of the others are not decoded", () => {
  const ignored = () => {};
  const crowd = (count: number) => {
    const all = Array.from(
      { length: count },
      (_, i) => new Peer({ ...Peer.placeholder(name(1 + i)), uid: 7n }),
    );
    // The others decode fast; of those that are refused all have connections.
    for (const peer of all.slice(MAX_PEERS - 100))
      for (const remote of all.slice(0, 10))
        linksOf(peer).set(remote.name, { remote, address: "", outbound: true, established: true });
    return encodeTopology(all);
  };
  const apply = (update: Uint8Array) => {
    const refusals: string[] = [];
    const peers = new Peers(new Peer(Peer.placeholder(name(0))), new SimulatedClock(), seededRandom(1n), {
      ...{ peersGone: ignored, shortIdsInvalidated: ignored, ourselfChanged: ignored, exhausted: ignored },
      refused: (what) => refusals.push(what),
    });
    charged.units = 0;
    atOnce(peers.apply(update, { fresh: new Set(), stale: new Set() }));
    return { size: peers.size, refused: refusals.length, units: charged.units };
  };
  const [full, crowded] = [apply(crowd(MAX_PEERS - 1)), apply(crowd(MAX_PEERS - 1 + 1_000))];
  expect(full).toMatchObject({ size: MAX_PEERS, refused: 0 });
  expect(crowded).toMatchObject({ size: MAX_PEERS, refused: 1_000 });
  // A summary costs 96; ten connections 960 in addition.
  expect(crowded.units - full.units).toBe(1_000 * 96);
});

test("names of a long message are decoded in parts, and never in memory all at once", () => {
  const parts: number[] = [];
  expect(atOnce(readNames(names(), ({ timestamp, entries }) => parts.push(timestamp * entries.length)))).toBe(
    1,
  );
  expect(Math.max(...parts)).toBe(64);
  expect(parts.reduce((sum, length) => sum + length)).toBe(MANY);
  const gathered = new Gathered();
  const entry = { origin: name(1), containerId: "", address: 1, version: 1, tombstone: 0 };
  for (let i = 0; i < 4_096; i++) gathered.add([{ ...entry, hostname: `n${i}.` }]);
  expect([gathered.some?.size, gathered.isEmpty]).toEqual([4_096, false]);
  gathered.add([{ ...entry, hostname: "one-more." }]);
  expect([gathered.some, gathered.isEmpty]).toEqual([undefined, false]);
});

test("names of a broadcast are taken in, and put together for other peers, in steps", () => {
  const clock = new SimulatedClock();
  const server = new Nameserver(
    { ourName: name(2), domain: "weave.local.", isKnownPeer: () => true },
    { clock, log: silentLog, store: { load: () => [], save() {}, remove() {} } },
  );
  const entries = Array.from({ length: MANY }, (_, i) => ({
    ...{ hostname: `n${i}.weave.local.`, origin: name(1), containerId: "" },
    ...{ address: i, version: 1, tombstone: 0 },
  }));
  const work = server.onBroadcast(
    name(1),
    encodeNames({ timestamp: Math.floor(clock.wall() / 1_000), entries }),
  );
  const set = spyOn(Map.prototype, "set");
  try {
    const steps: number[] = [];
    for (let done: boolean | undefined = false; !done; ) {
      done = work.next().done;
      steps.push(set.mock.calls.splice(0).length);
    }
    expect(server.entries.living).toBe(MANY);
    // 64 names a step, each in all of the indices.
    expect(Math.max(...steps)).toBeLessThan(1_500);
  } finally {
    set.mockRestore();
  }
});
