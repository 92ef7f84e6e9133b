// Whom a router dials, by a model; what its errors advise; and when gossip is sent, given up, and no more.
import { describe, expect, test } from "bun:test";
import { concat } from "../../lib/bytes/concat.ts";
import { seededRandom } from "../../lib/clock/random.ts";
import { SimulatedClock } from "../../lib/clock/simulated.ts";
import { atOnce, Slices } from "../../lib/clock/slices.ts";
import { GobError } from "../../lib/gob/cursor.ts";
import { MAX_SEEDS, mergeRings } from "../../lib/ipam/ring/merge.ts";
import { BufferBudget } from "../../lib/mesh/bufferbudget.ts";
import { gossipedAddresses, wantedAddresses } from "../../lib/mesh/dial/wanted.ts";
import {
  ClosedError,
  ConnectionError,
  DialError,
  HandshakeError,
  peerTrouble,
  RefusedError,
} from "../../lib/mesh/errors.ts";
import { ProtocolError } from "../../lib/mesh/framing.ts";
import { RawGossip } from "../../lib/mesh/gossip.ts";
import { GossipSender } from "../../lib/mesh/gossipsender.ts";
import { nameFromNumber } from "../../lib/mesh/name.ts";
import { fc } from "../support/fastcheck.ts";

const PORT = 6_783;
const named = (n: number) => nameFromNumber(BigInt(n));
const at = (host: number, port = PORT) => `10.0.0.${host}:${port}`;

describe("addresses to dial", () => {
  const connection = (peer: number, address: string, outbound: boolean) =>
    ({ remote: { name: named(peer) }, address, outbound }) as never;

  test("are those that were named, then lost, then gossiped, of nobody that is connected, each once", () => {
    const wanted = wantedAddresses({
      connections: [connection(2, at(2), true), connection(3, at(3, 40_000), false)],
      named: [
        { address: at(2), ip: "10.0.0.2", anyPort: true },
        { address: at(3), ip: "10.0.0.3", anyPort: true },
        { address: at(3, 7_000), ip: "10.0.0.3", anyPort: false },
        { address: at(4), ip: "10.0.0.4", anyPort: true },
      ],
      lost: [
        [named(4), at(4)],
        [named(5), at(5)],
        [named(2), at(20)],
      ],
      gossiped: new Map([
        [at(5), { peer: named(5), reason: "ours to call" }],
        [at(6), { peer: named(6), reason: "theirs to call" }],
        [at(2, 9), { peer: named(2), reason: "ours to call" }],
        [at(2), { peer: named(9), reason: "ours to call" }],
      ]),
    });
    expect([...wanted] as unknown).toEqual([
      [at(3, 7_000), "named"],
      [at(4), "named"],
      [at(5), "lost"],
      [at(6), "theirs to call"],
    ]);
  });

  /** A topology of peers 1 (ourself) to n, with connections between others. */
  const topology = fc.record({
    ours: fc.uniqueArray(fc.integer({ min: 2, max: 7 }), { maxLength: 6 }),
    others: fc.array(
      fc.record({
        from: fc.integer({ min: 2, max: 7 }),
        to: fc.integer({ min: 1, max: 7 }),
        host: fc.integer({ min: 1, max: 9 }),
        outbound: fc.boolean(),
        port: fc.constantFrom(PORT, 7_000),
      }),
      { maxLength: 20 },
    ),
  });

  test("of gossip are those of all peers that we are not connected to, however many there are", () => {
    fc.assert(
      fc.property(topology, ({ ours, others }) => {
        const peers = new Map(
          Array.from({ length: 7 }, (_, i) => [
            i + 1,
            { name: named(i + 1), connections: new Map<unknown, unknown>() },
          ]),
        );
        for (const { from, to, host, outbound, port } of others) {
          if (from === to) continue;
          peers
            .get(from)
            ?.connections.set(named(to), { remote: { name: named(to) }, address: at(host, port), outbound });
        }
        const ourself = peers.get(1) ?? expect.unreachable();
        const connections = ours.map((n) => connection(n, at(n), true));
        const connectedAddresses = new Set(ours.map((n) => at(n)));
        const expected = new Map<string, string>();
        for (const peer of peers.values()) {
          if (peer === ourself) continue;
          for (const [name, made] of peer.connections as Map<
            string,
            { address: string; outbound: boolean }
          >) {
            if (name === ourself.name || ours.some((n) => named(n) === name)) continue;
            const dial = made.outbound ? made.address : `${made.address.split(":")[0]}:${PORT}`;
            if (connectedAddresses.has(dial)) continue;
            expected.set(dial, "");
          }
        }
        const look = () =>
          atOnce(
            gossipedAddresses({
              ourself,
              connections,
              peers: peers.values(),
              port: PORT,
              targets: new Set(),
              random: seededRandom(1n),
            } as never),
          );
        const found = look();
        expect([...found.targets.keys()].sort()).toEqual([...expected.keys()].sort());
        expect(found.count).toBe(expected.size);
        for (const { peer, reason } of found.targets.values())
          expect(reason).toBe(ourself.name > peer ? "ours to call" : "theirs to call");
        // What was worked out is kept, and is the same again.
        expect(look().targets).toEqual(found.targets);
      }),
    );
  });
});

describe("errors of connections", () => {
  const of = (error: Error) => peerTrouble(error, "10.0.0.2:6783");
  test("have their own words, or those that follow from their cause", () => {
    const refused = new HandshakeError("password" as never, "wrong", "mend it", "original");
    expect([refused.message, of(refused)]).toEqual([
      "original: wrong; mend it",
      { cause: "password", reason: "wrong", remedy: "mend it" } as never,
    ]);
    expect(new HandshakeError("password" as never, "wrong", "mend it").message).toBe("wrong; mend it");
    expect(of(new RefusedError("r", "m", "name" as never))).toEqual({
      cause: "name",
      reason: "r",
      remedy: "m",
    } as never);
    expect(of(new ClosedError())).toMatchObject({
      cause: "closed",
      reason: "the peer closed the connection: its router was stopped or killed",
    });
    expect(of(new ConnectionError("long", "closed", "short")).reason).toContain("short");
    for (const error of [new ProtocolError("p"), new GobError("p")]) expect(of(error).cause).toBe("protocol");
    expect(of(new Error("p")).cause).toBe("other");
    expect([
      new DialError("h", "other", "refused").message,
      new DialError("h", "other", "refused", "connect").message,
    ]).toEqual([...["dial tcp h: refused", "dial tcp h: connect: refused"]]);
  });
});

describe("gossip to a neighbour", () => {
  function sender(send: (message: Uint8Array) => void = () => {}) {
    const clock = new SimulatedClock();
    const sent: Uint8Array[] = [];
    const failed: string[] = [];
    const slices = new Slices(clock);
    const subject = new GossipSender(
      { clock, slices, ourself: { name: named(1) }, buffers: new BufferBudget() },
      (pieces) => {
        const message = concat(pieces);
        sent.push(message);
        send(message);
      },
      (error) => failed.push(error.message),
    );
    const add = (text: string, source?: number) =>
      subject.add(
        "c",
        source === undefined ? undefined : named(source),
        new RawGossip([new TextEncoder().encode(text)]),
      );
    return { clock, sent, failed, subject, add };
  }

  test("waits while the wire is full, and goes once there is room", () => {
    const { clock, sent, subject, add } = sender();
    subject.block();
    add("a");
    clock.advance(1_000);
    expect(sent.length).toBe(0);
    subject.unblock();
    clock.advance(1_000);
    expect(sent.length).toBe(1);
    add("b");
    add("c", 2);
    clock.advance(1_000);
    expect(sent.length).toBe(3);
  });

  test("stops where the wire fills meanwhile", () => {
    const { clock, sent, subject, add } = sender(() => subject.block());
    for (const text of ["a", "b"]) add(text, Number(text === "a") + 2);
    clock.advance(1_000);
    expect(sent.length).toBe(1);
    subject.unblock();
    clock.advance(1_000);
    expect(sent.length).toBe(2);
  });

  test("of one that has ended is neither sent nor refused, also what was to be sent next", () => {
    const { clock, sent, failed, subject, add } = sender();
    add("a");
    subject.stop();
    expect(add("b")).toBe(true);
    clock.advance(1_000);
    subject.unblock();
    clock.advance(1_000);
    expect([sent, failed]).toEqual([[], []]);
  });

  test("that cannot be encoded ends the connection", () => {
    const { clock, failed, add } = sender(() => {
      throw new Error("EPIPE");
    });
    add("a");
    clock.advance(1_000);
    expect(failed).toEqual(["EPIPE"]);
  });
});

test("a ring of more seeds than may be is refused, one of as many is not", () => {
  const [one, two] = [named(1), named(2)];
  const ring = (seeds: unknown[], peer = one) =>
    ({ peer, start: 0, end: 256, seeds, entries: [{ token: 0, peer, version: 1, free: 1 }] }) as never;
  const seeds = (count: number) => Array.from({ length: count }, (_, i) => named(i));
  const merge = (count: number) => atOnce(mergeRings(ring([]), ring(seeds(count), two), () => false));
  expect(() => merge(MAX_SEEDS + 1)).toThrow(`A ring of ${MAX_SEEDS + 1} seeds; ${MAX_SEEDS} are the most`);
  expect(() => merge(MAX_SEEDS)).not.toThrow();
});
