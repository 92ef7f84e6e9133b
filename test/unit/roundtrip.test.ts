// Whatever others have told us: what we would send is what others can read, and what we would save is what the next
// start can read.
import { afterAll, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as v from "valibot";
import { seededRandom } from "../../lib/clock/random.ts";
import { SimulatedClock } from "../../lib/clock/simulated.ts";
import { atOnce } from "../../lib/clock/slices.ts";
import type { Entry } from "../../lib/dns/entry.ts";
import { Nameserver } from "../../lib/dns/nameserver.ts";
import { namesStore } from "../../lib/dns/saved.ts";
import { decodeNames, encodeNames } from "../../lib/dns/wire.ts";
import { GobError } from "../../lib/gob/cursor.ts";
import { silentLog } from "../../lib/log/log.ts";
import { MAX_NICKNAME, MAX_VERSION } from "../../lib/mesh/bounds.ts";
import { makeFeatures, parseFeatures } from "../../lib/mesh/features.ts";
import type { GossipData } from "../../lib/mesh/gossip.ts";
import { decodeGossip, encodeGossip, type GossipMessage } from "../../lib/mesh/message.ts";
import { nameFromNumber, type PeerName } from "../../lib/mesh/name.ts";
import { decodeTopology, encodeTopology, Peer } from "../../lib/mesh/peer.ts";
import { Peers } from "../../lib/mesh/peers.ts";
import { TopologyGossip } from "../../lib/mesh/topology.ts";
import { StoreError } from "../../lib/store/error.ts";
import { Store } from "../../lib/store/store.ts";
import { fc } from "../support/fastcheck.ts";
import { linksOf } from "../support/links.ts";

const NOW_S = 1_700_000_000;
const RUNS = { numRuns: 200 };

const folder = mkdtempSync(join(tmpdir(), "weave-roundtrip-"));
const store = Store.open(join(folder, "weave.db"));
afterAll(() => {
  store.close();
  rmSync(folder, { recursive: true });
});

const peerName = fc.nat(5).map((i) => nameFromNumber(BigInt(i + 1)));
const OURS = nameFromNumber(1n);
const u64 = fc.oneof(fc.constantFrom(0n, 1n, (1n << 64n) - 1n), fc.bigInt(0n, (1n << 64n) - 1n));
/** Numbers that a 64-bit field of a liar may hold; every one of them is exact. */
const version = fc.oneof(
  fc.constantFrom(0, 1, MAX_VERSION - 1, MAX_VERSION, 2 ** 53, 2 ** 63),
  fc.nat(1000),
  fc.maxSafeNat(),
);
const text = fc.oneof(
  fc.string(),
  fc.constantFrom("", "a\nb", "é".repeat(400), "x".repeat(5000), "\u{1f600}".repeat(200)),
);

describe("topology", () => {
  const connection = fc.record({ name: peerName, address: text, established: fc.boolean() });
  const peer = fc.record({
    name: peerName,
    nickName: text,
    uid: u64,
    version,
    shortId: fc.constantFrom(0, 1, 4095, 4096, 65535),
    hasShortId: fc.boolean(),
    connections: fc.array(connection, { maxLength: 4 }),
  });

  test("what a router has taken in, and what it says of itself, is read by others as it is meant", () => {
    fc.assert(
      fc.property(fc.array(fc.array(peer, { maxLength: 5 }), { maxLength: 5 }), (updates) => {
        const clock = new SimulatedClock();
        const random = seededRandom(1n);
        const ourself = new Peer({ ...summary(OURS), nickName: "us", shortId: 1, hasShortId: true });
        const peers = new Peers(ourself, clock, random, {
          peersGone() {},
          shortIdsInvalidated() {},
          ourselfChanged() {},
          exhausted() {
            ourself.version = 0;
          },
          refused() {},
        });
        const topology = new TopologyGossip(peers, clock, random, {
          received() {},
          changed() {},
          reply() {},
        });
        for (const update of updates) {
          const told = update.map(({ connections, ...described }) => {
            const made = new Peer(described);
            for (const { name, ...rest } of connections) {
              linksOf(made).set(name, { remote: Peer.placeholder(name), outbound: true, ...rest });
            }
            return made;
          });
          atOnce(topology.onGossip(encodeTopology(told), nameFromNumber(9n)));
          peers.raiseVersion();
        }
        const said = [...topology.gossip().encode()].flatMap((message) =>
          decodeTopology(message, () => true),
        );
        for (const { summary: heard, connections } of said) {
          const known = peers.get(heard.name);
          expect(Number.isSafeInteger(heard.version)).toBe(true);
          expect(heard.nickName.length).toBeLessThanOrEqual(MAX_NICKNAME);
          expect(heard).toEqual({
            name: heard.name,
            nickName: known?.nickName.toWellFormed() ?? "",
            uid: known?.uid ?? 0n,
            version: known?.version ?? 0,
            shortId: known?.hasShortId ? known.shortId : 0,
            hasShortId: known?.hasShortId ?? false,
          });
          expect(connections.length).toBe(known?.connections.size ?? 0);
        }
        const features = parseFeatures(makeFeatures(ourself, 7n, false, {}));
        expect(features.peer.uid).toBe(ourself.uid);
      }),
      RUNS,
    );
  });

  function summary(name: PeerName) {
    return { name, nickName: "", uid: 5n, version: 0, shortId: 0, hasShortId: false };
  }
});

test("envelopes of gossip", () => {
  const message: fc.Arbitrary<GossipMessage> = fc
    .record({
      kind: fc.constantFrom("gossip" as const, "broadcast" as const, "unicast" as const),
      channel: text.map((channel) => channel.toWellFormed()),
      source: peerName,
      destination: peerName,
      payload: fc.uint8Array({ maxLength: 100 }),
    })
    .map(({ kind, destination, ...rest }) =>
      kind === "unicast" ? { kind, destination, ...rest } : { kind, ...rest },
    );
  fc.assert(
    fc.property(message, (sent) => {
      const bytes = encodeGossip(sent);
      expect(decodeGossip(bytes[0] ?? 0, bytes.subarray(1))).toEqual(sent);
    }),
    RUNS,
  );
});

test("names: what others say of them does not make ours unreadable, on the wire or on disk", () => {
  const hostname = fc.constantFrom(
    "a.weave.local.",
    "a.weave.local.",
    "b.weave.local.",
    "A.weave.local.",
    "x".repeat(300),
  );
  const alleged: fc.Arbitrary<Entry> = fc.record({
    hostname,
    origin: fc.oneof(fc.constant(OURS), peerName),
    containerId: fc.constantFrom("c1", "c1", "c1", "c2"),
    address: fc.constantFrom(1, 1, 1, 2 ** 32 - 1),
    version: fc
      .oneof(fc.constantFrom(MAX_VERSION - 1, MAX_VERSION), version, fc.constantFrom(-1, -5, -(2 ** 53)))
      .filter((n) => n < 2 ** 63),
    tombstone: fc.constantFrom(0, 1, NOW_S, NOW_S + 10 ** 6, MAX_VERSION, -1, -(2 ** 60)),
  });
  const step = fc.oneof(
    fc.array(alleged, { maxLength: 5 }).map((entries) => ({ hear: entries })),
    fc.constantFrom({ add: "a" }, { add: "b" }, { remove: "c1" }),
  );
  fc.assert(
    fc.property(fc.array(step, { maxLength: 12 }), (steps) => {
      const rows = namesStore(store, (what) => expect(what).toBe(""));
      for (const saved of rows.load()) rows.remove({ ...saved, origin: OURS });
      const said: Uint8Array[] = [];
      const say = (data: GossipData) => void said.push(...data.encode());
      const nameserver = new Nameserver(
        { ourName: OURS, domain: "weave.local.", isKnownPeer: () => true },
        { clock: new SimulatedClock(0, NOW_S * 1000), log: silentLog, store: rows },
      );
      nameserver.start(() => ({ unicast: () => true, broadcast: say, neighbours: say }));
      for (const step of steps) {
        if ("hear" in step) {
          const data = atOnce(
            nameserver.onBroadcast(OURS, encodeNames({ timestamp: NOW_S, entries: step.hear })),
          );
          say(data);
        } else if ("add" in step) nameserver.add(`${step.add}.weave.local.`, "c1", 1);
        else nameserver.delete({ containerId: step.remove });
      }
      nameserver.stop();
      say(nameserver.gossip());
      for (const message of said) {
        for (const entry of decodeNames(message).entries) {
          expect(entry.version).toBeGreaterThanOrEqual(0);
          expect(entry.version).toBeLessThanOrEqual(MAX_VERSION);
          expect(entry.tombstone).toBeLessThan(NOW_S + 86_400);
        }
      }
      const living = new Set(rows.load().map(({ hostname: name, containerId }) => `${name} ${containerId}`));
      for (const entry of nameserver.entries.all()) {
        if (entry.origin !== OURS || entry.tombstone > 0) continue;
        expect(living).toContain(`${entry.hostname} ${entry.containerId}`);
      }
    }),
    RUNS,
  );
});

test("a value that could not be read again is not saved, and what was there stays", () => {
  const rows = store.rows("test", v.pipe(v.number(), v.maxValue(10)));
  rows.set("key", 7);
  const saving = () => rows.set("key", 11);
  expect(saving).toThrow(StoreError);
  expect(saving).toThrow(/not saved/);
  expect(rows.get("key")).toBe(7);
});

test("garbage ends in an error that is meant for it", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 60 }), (bytes) => {
      for (const decode of [decodeNames, (some: Uint8Array) => decodeTopology(some, () => true)]) {
        try {
          decode(bytes);
        } catch (error) {
          expect(error instanceof GobError || (error as Error).name === "PeerNameError").toBe(true);
        }
      }
    }),
    RUNS,
  );
});
