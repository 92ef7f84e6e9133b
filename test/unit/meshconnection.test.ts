// One control connection between two routers that are the test: its times, and a second event during each first.
import { describe, expect, test } from "bun:test";
import { concat } from "../../lib/bytes/concat.ts";
import { SimulatedClock } from "../../lib/clock/simulated.ts";
import { Slices, type Work } from "../../lib/clock/slices.ts";
import { loadNacl } from "../../lib/crypto/nacl.ts";
import { BASIC_ID } from "../../lib/gob/type.ts";
import { silentLog } from "../../lib/log/log.ts";
import { BufferBudget, MAX_BUFFERED_OF_ONE } from "../../lib/mesh/bufferbudget.ts";
import { LocalConnection } from "../../lib/mesh/connection.ts";
import { ClosedError, RefusedError } from "../../lib/mesh/errors.ts";
import { lengthPrefixed, MAX_MESSAGE } from "../../lib/mesh/framing.ts";
import { RawGossip } from "../../lib/mesh/gossip.ts";
import { type Encryption, Handshake } from "../../lib/mesh/handshake.ts";
import { TAG } from "../../lib/mesh/message.ts";
import { nameFromNumber } from "../../lib/mesh/name.ts";
import type { OverlayParams, OverlayVitals } from "../../lib/mesh/overlay.ts";
import { Peer } from "../../lib/mesh/peer.ts";
import { MAX_WAITING_BYTES } from "../../lib/mesh/pending.ts";
import type { Stream } from "../../lib/mesh/transport.ts";

const encryption: Encryption = { password: new TextEncoder().encode("secret"), nacl: await loadNacl() };

const peer = (i: number) =>
  new Peer({
    ...Peer.placeholder(nameFromNumber(BigInt(i))),
    nickName: `h${i}`,
    uid: BigInt(i),
    shortId: i,
    hasShortId: true,
  });

/** Bytes for handshakes. */
const STRANGERS_BYTES = 100 * 1024;

interface EndOptions {
  readonly encryption?: Encryption;
  readonly trusts?: boolean;
  identify?(remote: Peer): Peer;
  prepare?(params: OverlayParams): void;
  gossip?(tag: number, body: Uint8Array): Work;
  add?(): void;
}

/** One end: a router with one connection, and what it was told. */
function end(i: number, clock: SimulatedClock, outbound: boolean, options: EndOptions) {
  const events: string[] = [];
  const warnings: string[] = [];
  const state = {
    full: false,
    unsent: 0,
    buffers: new BufferBudget(),
    strangers: new BufferBudget(STRANGERS_BYTES),
    unacknowledgedMs: 0,
    vitals: undefined as OverlayVitals | undefined,
    overlay: undefined as OverlayParams | undefined,
  };
  const written: Uint8Array[] = [];
  let draws = 0;
  const stream: Stream = {
    remoteAddress: outbound ? "10.0.0.2:6783" : "10.0.0.1:40000",
    localAddress: outbound ? "10.0.0.1:40000" : "10.0.0.2:6783",
    get unsent() {
      return state.unsent;
    },
    write(bytes) {
      written.push(bytes.slice());
      return !state.full;
    },
    pause: () => void events.push("pause"),
    resume: () => void events.push("resume"),
    unacknowledgedMs: () => state.unacknowledgedMs,
    roundTripMs: () => 3,
    close: () => void events.push("close"),
  };
  const connection = new LocalConnection(
    {
      ourself: peer(i),
      clock,
      random: { u64: () => BigInt(100 * i + draws++), float: () => 0 },
      log: silentLog,
      slices: new Slices(clock),
      handshakes: () => ({ slices: new Slices(clock), buffers: state.strangers }),
      buffers: state.buffers,
      overlay: {
        features: () => ({}),
        prepare(params) {
          state.overlay = params;
          options.prepare?.(params);
          return {
            confirm: () => void events.push("confirm"),
            control: (tag, message) => void events.push(`control ${tag} ${[...message]}`),
            stop: () => void events.push("overlay stops"),
            attributes: () => ({ name: "test" }),
            vitals: () => state.vitals ?? { heardMs: undefined, beatMs: undefined, framesMs: undefined },
          };
        },
      },
      encryption: options.encryption,
      minVersion: 1,
      trusts: () => options.trusts ?? false,
      features: () => ({}),
      identify(remote) {
        events.push(`identify ${remote.nickName}`);
        return options.identify?.(remote) ?? remote;
      },
      release: (remote) => void events.push(`release ${remote.nickName}`),
      add(_connection, restarted) {
        events.push(restarted ? "add restarted" : "add");
        options.add?.();
      },
      established: () => void events.push("established"),
      gossip(from, tag, body) {
        events.push(`gossip ${from.slice(-1)} ${tag} ${[...body]}`);
        return options.gossip?.(tag, body) ?? (function* (): Work {})();
      },
      gossiped: (bytes) => void events.push(`gossiped ${bytes}`),
      introduced: () => void events.push("introduced"),
      note: () => {},
      warn: (kind, text) => void warnings.push(`${kind}: ${text}`),
      redial: () => void events.push("redial"),
      ended: (_connection, error) => void events.push(`ended: ${error.message}`),
    },
    stream,
    outbound,
    true,
  );
  return { connection, stream, written, state, warnings, said: () => events.splice(0) };
}

/** Two ends; `flush` delivers what was written, until nothing more is. */
function pair(ours: EndOptions = {}, theirs: EndOptions = {}) {
  const clock = new SimulatedClock(50_000);
  const [a, b] = [end(1, clock, true, ours), end(2, clock, false, theirs)];
  const flush = () => {
    for (let moved = true; moved; ) {
      moved = false;
      for (const [from, to] of [
        [a, b],
        [b, a],
      ] as const) {
        for (const bytes of from.written.splice(0)) {
          moved = true;
          to.connection.data(bytes.slice());
        }
      }
    }
  };
  return { clock, a, b, flush };
}

/** Two ends whose handshake has ended. */
function connected(ours: EndOptions = {}, theirs: EndOptions = {}) {
  const both = pair(ours, theirs);
  both.flush();
  both.a.said();
  both.b.said();
  return both;
}

/** Lengths of messages on the wire of protocol 2, without the prefix. */
const lengths = (written: Uint8Array[]) => written.splice(0).map(({ length }) => length - 4);

describe("the handshake", () => {
  test("counts what it holds: at the limit it ends, and counts nothing afterwards", () => {
    const { b } = pair({}, { encryption });
    const told: Uint8Array[] = [];
    const stranger = new Handshake(
      {
        outbound: true,
        features: new Map([["Name", "02:00:00:00:00:01"]]),
        // Any other password: a stranger.
        encryption: { ...encryption, password: new Uint8Array(8) },
        maxVersion: 1,
      },
      (bytes) => told.push(bytes),
    );
    b.connection.data(told.shift() ?? new Uint8Array());
    for (const bytes of b.written.splice(0)) stranger.receive(bytes);
    b.connection.data(told.shift() ?? new Uint8Array());
    const held = () => b.state.strangers.limit.value;
    expect(b.said()).toEqual([]);
    const before = held();
    // A first message of 200 kB, in gob's framing, that never ends.
    const first = new Uint8Array(60 * 1024);
    first.set([256 - 3, 3, 0x20, 0, 2 * BASIC_ID.bytes]);
    b.connection.data(first);
    expect(held() - before).toBeGreaterThanOrEqual(48 * 1024);
    b.connection.data(new Uint8Array(60 * 1024));
    expect(b.said().at(-1)).toStartWith("ended: more than 102400 bytes buffered for all");
    expect([held(), b.state.buffers.limit.value]).toEqual([0, 0]);
  });

  test("ends with what both need, in this order", () => {
    const { a, b, flush } = pair();
    expect(() => a.connection.remote).toThrow("has not introduced itself");
    flush();
    expect([a.said(), b.said()]).toEqual([
      ["identify h2", "introduced", "add", "confirm"],
      ["identify h1", "introduced", "add", "confirm"],
    ]);
    expect([a.connection.remoteUid, b.connection.remoteUid]).toEqual([2n, 1n]);
    expect(a.state.overlay?.connectionUid).toBe(b.state.overlay?.connectionUid);
    expect(a.state.overlay).toMatchObject({
      ...{
        localIp: "10.0.0.1",
        remoteIp: "10.0.0.2",
        remotePort: 6783,
        outbound: true,
        sessionKey: undefined,
      },
    });
    expect(b.state.overlay).toMatchObject({
      localIp: "10.0.0.2",
      remoteIp: "10.0.0.1",
      remotePort: 40_000,
      outbound: false,
    });
  });

  test("has 30 s", () => {
    const { clock, a } = pair();
    clock.advance(29_999);
    expect(a.said()).toEqual([]);
    clock.advance(1);
    expect(a.said()).toEqual(["close", "ended: timeout during handshake"]);
    a.connection.data(Uint8Array.of(1));
    clock.advance(60_000);
    expect(a.said()).toEqual([]);
  });

  test("knows a peer that was restarted by its uid", () => {
    const before = peer(2);
    before.uid = 77n;
    const { a, flush } = pair({ identify: () => before });
    flush();
    expect(a.said()).toContain("add restarted");
  });

  test("that is refused ends the connection once: by the router, or by the limit, with everything given back", () => {
    const refuse = () => {
      throw new Error("no room");
    };
    const early = pair({ identify: refuse });
    early.flush();
    expect(early.a.said()).toEqual(["identify h2", "close", "ended: no room"]);
    const late = pair({ add: refuse });
    late.flush();
    expect(late.a.said()).toEqual([
      ...["identify h2", "introduced", "add", "close", "overlay stops", "release h2", "ended: no room"],
    ]);
    late.clock.advance(300_000);
    expect(late.a.said()).toEqual([]);
    // The overlay fails while it is prepared.
    const overlay = pair({ prepare: ({ failed }) => failed(new Error("no overlay")) });
    overlay.flush();
    expect(overlay.a.said()).toEqual([
      ...["identify h2", "introduced", "close", "release h2", "ended: no overlay", "overlay stops"],
    ]);
  });
});

describe("a connection", () => {
  test("sends a heartbeat every 30 s, and ends at the first one with more than 60 s of silence", () => {
    const { clock, a } = connected();
    clock.advance(29_999);
    expect(a.written).toEqual([]);
    clock.advance(1);
    expect(lengths(a.written)).toEqual([1]);
    clock.advance(30_000);
    expect([lengths(a.written), a.said()]).toEqual([[1], []]);
    clock.advance(30_000);
    expect(a.said()).toEqual(["close", "overlay stops", "release h2", "ended: nothing heard for 60 s"]);
    clock.advance(300_000);
    expect([a.said(), a.written]).toEqual([[], []]);
  });

  test("lives as long as anything is heard", () => {
    const { clock, a, b, flush } = connected();
    for (let i = 0; i < 20; i++) {
      clock.advance(59_000);
      b.connection.probe();
      flush();
    }
    expect([a.said(), b.said()]).toEqual([[], []]);
    expect(a.connection.vitals()).toMatchObject({ heardMs: 0, roundTripMs: 3, since: undefined });
  });

  test("passes messages on by their tags, and warns of unknown ones", () => {
    const { a, b, flush } = connected();
    for (const tag of [TAG.reserved1, TAG.reserved2, TAG.reserved3, TAG.overlayControl])
      a.state.overlay?.sendControl(tag, Uint8Array.of(tag, 9));
    for (const tag of [TAG.gossip, TAG.gossipUnicast, TAG.gossipBroadcast, 8, TAG.heartbeat])
      a.connection.send(Uint8Array.of(tag, 7));
    a.connection.send(new Uint8Array());
    flush();
    expect(b.said()).toEqual([
      ...["control 1 1,9", "control 2 2,9", "control 3 3,9", "control 7 7,9"],
      ...["gossip 1 4 7", "gossip 1 5 7", "gossip 1 6 7"],
    ]);
    expect(b.warnings).toEqual(["unknown tag: ignoring messages with unknown tag 8"]);
  });

  test("drops a message that the peer would not accept, and sends the longest that it does", () => {
    const { clock, a } = connected();
    a.connection.send(new Uint8Array(MAX_MESSAGE - 1_024));
    clock.advance(0);
    expect(concat(a.written.splice(0))).toEqual(lengthPrefixed().frame(new Uint8Array(MAX_MESSAGE - 1_024)));
    a.connection.send(new Uint8Array(MAX_MESSAGE - 1_023));
    expect(a.written).toEqual([]);
    expect(a.warnings).toEqual([
      `message size: cannot send a message: ${MAX_MESSAGE - 1_023} bytes, more than ${MAX_MESSAGE - 1_024}`,
    ]);
  });

  test("holds gossip while the wire is full, and goes on when it drains; an end in between drops it", () => {
    const { clock, a } = connected();
    const gossip = (...bytes: number[]) =>
      a.connection.sendGossip("x", undefined, new RawGossip(bytes.map((byte) => Uint8Array.of(byte))));
    a.state.full = true;
    gossip(1, 2);
    clock.advance(0);
    expect(a.written).toHaveLength(1);
    gossip(3);
    clock.advance(1_000);
    expect(a.written).toHaveLength(1);
    a.state.full = false;
    a.connection.drained();
    clock.advance(0);
    expect(a.written).toHaveLength(3);
    expect(a.said()).toHaveLength(3);
    a.state.full = true;
    gossip(4, 5);
    clock.advance(0);
    a.connection.shutdown(new Error("over"));
    a.connection.drained();
    clock.advance(1_000);
    expect(a.written).toHaveLength(4);
  });

  test("warns of a peer that reads too slowly", () => {
    const { clock, a } = connected();
    a.state.full = true;
    const big = () =>
      a.connection.sendGossip("x", undefined, new RawGossip([new Uint8Array(3 * 1024 * 1024)]));
    big();
    clock.advance(0);
    big();
    big();
    expect(a.warnings).toEqual(["pending gossip: the peer reads too slowly: dropping gossip for it"]);
  });

  test("tells the budget what is in memory for it: an unfinished message, gossip that waits, what is unsent", () => {
    const { clock, a, b } = connected();
    const { buffers } = a.state;
    const held = () => buffers.limit.value;
    b.connection.send(new Uint8Array(1_000));
    const [message = new Uint8Array()] = b.written.splice(0);
    a.connection.data(message.subarray(0, 900));
    expect(held()).toBe(900);
    a.state.full = true;
    a.state.unsent = 50;
    a.connection.probe();
    expect(held()).toBe(950);
    a.connection.sendGossip("x", undefined, new RawGossip([new Uint8Array(400)]));
    expect(held()).toBe(950 + 400 + "x".length + 100);
    a.connection.data(message.subarray(900));
    expect(held()).toBe(50 + 501);
    a.state.full = false;
    a.state.unsent = 0;
    a.connection.drained();
    clock.advance(0);
    expect(held()).toBe(0);
    a.connection.data(message.subarray(0, 900));
    a.connection.shutdown(new Error("over"));
    a.connection.data(message.subarray(900));
    expect(held()).toBe(0);
  });

  test("drops messages of other peers while the peer reads too slowly, and sends our own", () => {
    const { a } = connected();
    a.state.unsent = MAX_WAITING_BYTES;
    a.connection.relay(Uint8Array.of(TAG.gossipUnicast, 1));
    a.state.unsent++;
    a.connection.relay(Uint8Array.of(TAG.gossipUnicast, 1, 2));
    a.connection.send(Uint8Array.of(TAG.gossipUnicast, 1, 2, 3));
    expect(lengths(a.written)).toEqual([2, 4]);
    expect(a.warnings).toEqual([
      "relayed messages: the peer reads too slowly: dropping messages of other peers for it",
    ]);
  });

  test("ends where more than 32 MiB are in memory for it", () => {
    const { a } = connected();
    a.state.unsent = MAX_BUFFERED_OF_ONE;
    a.connection.probe();
    expect(a.said()).toEqual([]);
    a.state.unsent++;
    a.connection.probe();
    expect(a.said().at(-1)).toBe("ended: the peer does not read");
    expect(a.state.buffers.limit).toMatchObject({ value: 0, refused: 1 });
  });

  test("that is checked ends unless the peer's host acknowledges something in time; the last check counts", () => {
    const { clock, a } = connected();
    a.connection.check(1_000, "it went");
    expect(lengths(a.written)).toEqual([1]);
    a.state.unacknowledgedMs = 999;
    clock.advance(1_000);
    expect(a.said()).toEqual([]);
    a.connection.check(1_000, "it went");
    clock.advance(600);
    a.connection.check(1_000, "it went again");
    a.state.unacknowledgedMs = 1_000;
    clock.advance(999);
    expect(a.said()).toEqual([]);
    clock.advance(1);
    expect(a.said().at(-1)).toBe(
      "ended: it went again, and the peer acknowledges nothing on this connection",
    );
    a.written.length = 0;
    a.connection.check(1_000, "more");
    clock.advance(2_000);
    expect([a.said(), a.written]).toEqual([[], []]);
    const early = pair();
    early.a.written.length = 0;
    early.a.connection.check(1_000, "x");
    expect(early.a.written).toEqual([]);
  });

  test("that ends while it is checked ends once", () => {
    const { clock, a } = connected();
    a.connection.check(1_000, "it went");
    a.state.unacknowledgedMs = 5_000;
    a.connection.closed(new ClosedError());
    expect(a.said()).toEqual(["close", "overlay stops", "release h2", "ended: EOF"]);
    a.connection.closed(new ClosedError());
    a.connection.shutdown(new RefusedError("x", "y", "range"));
    a.state.overlay?.failed(new Error("late"));
    a.state.overlay?.established();
    clock.advance(100_000);
    expect([a.said(), a.connection.established, a.connection.ended]).toEqual([[], false, true]);
  });

  test("is established once; restarting it dials the peer once", () => {
    const { clock, a } = connected();
    clock.advance(500);
    a.state.overlay?.established();
    a.state.overlay?.established();
    expect([a.said(), a.connection.established, a.connection.vitals().since]).toEqual([
      ["established"],
      true,
      50_500,
    ]);
    a.state.overlay?.restart(new Error("keys lost"));
    a.state.overlay?.restart(new Error("keys lost"));
    expect(a.said()).toEqual(["redial", "close", "overlay stops", "release h2", "ended: keys lost"]);
  });

  test("hears its peer by the overlay too, which counts for who keeps a name, not for the end", () => {
    const { clock, a } = connected();
    clock.advance(20_000);
    a.state.vitals = { heardMs: 5_000, beatMs: 10_000, framesMs: 1 };
    expect(a.connection.keeper).toEqual({ ip: "10.0.0.2", lastHeard: 65_000 });
    expect(a.connection.vitals().heardMs).toBe(5_000);
  });

  test("of two the one with the lower uid stays, as both ends know", () => {
    const [one, two] = [connected(), connected()];
    expect(one.a.connection.breakTie(two.a.connection)).toBe("tied");
    const draws = { outbound: one.a.connection, other: pair().a.connection };
    expect([draws.outbound.breakTie(draws.other), draws.other.breakTie(draws.outbound)].sort()).toEqual([
      "lost",
      "won",
    ]);
  });

  test("ends with what handling a message throws, at once or later", () => {
    const { a, b, clock, flush } = connected(
      {},
      {
        *gossip() {
          yield;
          throw new Error("bad gossip");
        },
      },
    );
    a.connection.send(Uint8Array.of(TAG.gossip, 1));
    flush();
    clock.advance(10);
    expect(b.said().at(-1)).toBe("ended: bad gossip");
    b.connection.data(Uint8Array.of(0, 0, 0, 1, 0));
    expect(b.said()).toEqual([]);
  });
});

describe("frames are sealed", () => {
  test.each([
    [false, false, true],
    [true, false, true],
    [false, true, true],
    [true, true, false],
  ])("unless each end is on a network that the other trusts: %p and %p -> %p", (ours, theirs, isSealed) => {
    const { a, b } = connected({ encryption, trusts: ours }, { encryption, trusts: theirs });
    for (const { state, connection } of [a, b])
      expect([state.overlay?.sessionKey !== undefined, connection.trusted]).toEqual([isSealed, !isSealed]);
  });
});
