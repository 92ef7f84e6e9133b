import { describe, expect, test } from "bun:test";
import { closeSync } from "node:fs";
import fc from "fast-check";
import { every } from "../../lib/clock/clock.ts";
import { SimulatedClock } from "../../lib/clock/simulated.ts";
import { type Secretbox, wasmSecretbox } from "../../lib/crypto/secretbox.ts";
import { nameFromNumber, nameToBytes } from "../../lib/mesh/name.ts";
import { SLEEVE } from "../../lib/overlay/datapath/maps.ts";
import { BROADCAST } from "../../lib/overlay/peerid.ts";
import { MODE } from "../../lib/overlay/sleeve/batch.ts";
import { sum, swap16 } from "../../lib/overlay/sleeve/checksum.ts";
import {
  CONTROL,
  FRAGMENT_TEST_SIZE,
  HEARTBEAT_SIZE,
  mtuTestSize,
  overhead,
} from "../../lib/overlay/sleeve/format.ts";
import { SleeveForwarder } from "../../lib/overlay/sleeve/forwarder.ts";
import type { LinkSettings } from "../../lib/overlay/sleeve/link.ts";
import type { ToEngine } from "../../lib/overlay/sleeve/messages.ts";
import { Path } from "../../lib/overlay/sleeve/path.ts";
import { MINIMUM_MTU, PathMtu } from "../../lib/overlay/sleeve/pathmtu.ts";
import { queueForEngine } from "../../lib/overlay/sleeve/queue.ts";
import { ReplayWindow, WINDOW } from "../../lib/overlay/sleeve/replay.ts";
import { GSO_TCP4, NEEDS_CHECKSUM, VIRTIO, VIRTIO_HEADER } from "../../lib/overlay/sleeve/virtio.ts";
import { makeTables } from "../../lib/overlay/tables.ts";
import { Arena } from "../../lib/sys/arena.ts";
import { closePipe, MessageReader, MessageWriter, openPipe, readMessages } from "../../lib/sys/pipe.ts";
import { PolledFiles } from "../../lib/sys/poll.ts";
import { EngineHarness } from "../support/engine.ts";
import { checksum, ipv4Frame, isSound, MAC_A, MAC_B, tcpFrame } from "../support/frames.ts";
import { randomOf } from "../support/seed.ts";

const name = (peer: number) => nameFromNumber(BigInt(peer));
const bytesOf = (peer: number) => nameToBytes(name(peer));
const KEY = new Uint8Array(32).fill(9);

/** Peers 1 and 2, linked to each other; 3 behind either. */
async function pair(encrypted: boolean, settings: Partial<LinkSettings> = {}) {
  const names = new Map([1, 2, 3, 4].map((peer) => [peer, bytesOf(peer)]));
  const make = async (self: number, other: number) => {
    const harness = await EngineHarness.create(name(self));
    const next = new Map([
      [other, 0],
      [3, 0],
    ]);
    harness.configure({
      self,
      names,
      next,
      nextBySleeve: next,
      broadcast: new Map([[self, [0]]]),
      origins: new Map(),
    });
    const key = encrypted ? KEY : undefined;
    harness.link(
      { index: 0, peer: other, name: bytesOf(other), key, outbound: self === 1 },
      { mtu: encrypted ? 1414 : 1438, ...settings },
    );
    return harness;
  };
  return [await make(1, 2), await make(2, 1)] as const;
}

const chance = randomOf("sleeve");
const random = (length: number) => chance.bytes(length);

/** The virtio header of a super-frame or of one whose checksum is still to be computed, as the kernel writes it. */
function virtio(fields: Partial<Record<keyof typeof VIRTIO, number>>): Uint8Array {
  const header = new Uint8Array(VIRTIO_HEADER);
  const view = new DataView(header.buffer);
  for (const [field, value] of Object.entries(fields)) {
    const at = VIRTIO[field as keyof typeof VIRTIO];
    if (at < 2) view.setUint8(at, value);
    else view.setUint16(at, value, true);
  }
  return header;
}

const datagram = (...parts: (Uint8Array | number[])[]) =>
  new Uint8Array(Buffer.concat(parts.map((part) => Uint8Array.from(part))));

test("a broadcast that comes round by another way than its tree's is dropped, what is for us alone is not", async () => {
  const [, b] = await pair(false);
  const names = new Map([1, 2, 3, 4].map((peer) => [peer, bytesOf(peer)]));
  const send = (source: number, first: number) => {
    const frame = random(60);
    frame[0] = first;
    b.receive(datagram(bytesOf(1), bytesOf(source), bytesOf(2), [0, 60], frame));
    return b.counters.all()["astray"];
  };
  b.configure({ self: 2, names, origins: new Map([[3, 4]]) });
  expect(send(3, 0xff)).toBe(1);
  expect(send(3, 0x02)).toBe(1);
  expect(send(1, 0xff)).toBe(1);
  b.configure({ self: 2, names, origins: new Map([[3, 1]]) });
  expect(send(3, 0xff)).toBe(1);
  expect(b.frames.length).toBe(3);
});

describe("checksums", () => {
  test("are those of RFC 1071, wherever the bytes lie", () => {
    const arena = new Arena(1 << 17);
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), fc.nat(40), (bytes, at) => {
        arena.bytes.set(bytes, at);
        expect(swap16(sum(arena, at, bytes.length)) % 0xffff).toBe(checksum(bytes) % 0xffff);
      }),
    );
    arena.bytes.fill(0xff);
    expect(sum(arena, 0, 65_536)).toBe(0xffff);
  });
});

describe("the replay window", () => {
  test("takes each number once, in any order within its size", () => {
    const numbers = fc.uniqueArray(fc.nat(WINDOW / 2), { maxLength: 200 });
    fc.assert(
      fc.property(numbers, (list) => {
        const window = new ReplayWindow();
        for (const number of list) expect(window.accept(number)).toBe(true);
        for (const number of list) expect(window.accept(number)).toBe(false);
      }),
    );
  });

  test("takes none that is too old to tell, and copes with gaps of any size", () => {
    const window = new ReplayWindow();
    expect(window.accept(5)).toBe(true);
    for (const leap of [WINDOW - 40, 3 * WINDOW, 2 ** 40]) {
      expect(window.accept(leap)).toBe(true);
      expect(window.accept(leap)).toBe(false);
      expect(window.accept(leap + 1)).toBe(true);
      expect(window.accept(leap - 1)).toBe(true);
      expect(window.accept(leap - 1)).toBe(false);
      expect(window.accept(leap - 2 * WINDOW)).toBe(false);
    }
  });
});

test("a window takes at each edge what a set would, and refuses what it can no longer tell", () => {
  const last = 5 * WINDOW + 7;
  const oldest = (Math.floor(last / 32) + 1) * 32 - WINDOW;
  for (const number of [oldest - 33, oldest - 32, oldest - 1, oldest, oldest + 31, oldest + 32, last - 1]) {
    const window = new ReplayWindow();
    if (number < oldest) window.accept(number);
    expect(window.accept(last)).toBe(true);
    // All that the last word but WINDOW holds is too old, seen or not.
    expect(`${number - oldest} ${window.accept(number)}`).toBe(`${number - oldest} ${number >= oldest}`);
    expect(window.accept(number)).toBe(false);
    expect(window.accept(last)).toBe(false);
  }
});

describe.each([
  ["plain", false],
  ["encrypted", true],
] as const)("the engine, %s", (_kind, encrypted) => {
  test("carries frames from kernel to kernel, small ones together", async () => {
    const [a, b] = await pair(encrypted);
    const frame = ipv4Frame(random(100));
    a.capture(1, 2, frame);
    expect(a.sent.length).toBe(1);
    b.receive(...a.sent.map(({ bytes }) => bytes));
    expect(b.frames.map((bytes) => bytes.toHex())).toEqual([frame.toHex()]);
    expect(b.learned).toEqual([{ mac: MAC_A, peer: 1 }]);
    expect(b.counters.all()).toMatchObject({ received: 1, malformed: 0 });
  });

  test("a super-frame arrives as one, and is sound as the segments it travels as", async () => {
    const [a, b] = await pair(encrypted);
    const payload = random(10_000);
    const size = 1300;
    const frame = tcpFrame(payload, { flags: 0x18 });
    a.capture(
      1,
      2,
      frame,
      virtio({
        flags: NEEDS_CHECKSUM,
        gsoType: GSO_TCP4,
        headerLength: 66 + 4,
        gsoSize: size,
        checksumStart: 38,
        checksumOffset: 16,
      }),
    );
    expect(a.sent.length).toBe(Math.ceil(payload.length / size));
    for (const { bytes, df } of a.sent) {
      expect(df).toBe(true);
      b.receive(bytes);
    }
    const segments = b.frames;
    expect(segments.length).toBe(a.sent.length);
    for (const [i, segment] of segments.entries()) {
      expect(isSound(segment)).toBe(true);
      const last = i === segments.length - 1;
      expect((segment[47] ?? 0) & 0x08).toBe(last ? 0x08 : 0);
    }
    expect(Buffer.concat(segments.map((segment) => segment.subarray(66))).toString("hex")).toBe(
      payload.toHex(),
    );
    // The same once more, received together.
    const [c, d] = await pair(encrypted);
    c.capture(1, 2, frame, virtio({ flags: NEEDS_CHECKSUM, gsoType: GSO_TCP4, gsoSize: size }));
    d.receive(...c.sent.map(({ bytes }) => bytes));
    expect(d.written.length).toBe(1);
    const [whole] = d.written;
    const header = new DataView((whole ?? new Uint8Array()).buffer);
    expect(header.getUint8(VIRTIO.flags)).toBe(NEEDS_CHECKSUM);
    expect(header.getUint8(VIRTIO.gsoType)).toBe(GSO_TCP4);
    expect(header.getUint16(VIRTIO.gsoSize, true)).toBe(size);
    expect(header.getUint16(VIRTIO.checksumStart, true)).toBe(34);
    const merged = d.frames[0] ?? new Uint8Array();
    expect(merged.subarray(66).toHex()).toBe(payload.toHex());
    expect(merged.subarray(0, 16).toHex()).toBe(frame.subarray(0, 16).toHex());
    expect(checksum(merged.subarray(14, 34))).toBe(0xffff);
    expect((merged[47] ?? 0) & 0x08).toBe(0x08);
  });

  test("segments become one only where nothing is lost by it", async () => {
    const payloads = [random(500), random(500)] as const;
    const first = tcpFrame(payloads[0]);
    const follow = { sequence: 1500, id: 8 };
    const cases: [string, Uint8Array, number][] = [
      ["as they follow", tcpFrame(payloads[1], follow), 1],
      ["another acknowledgement", tcpFrame(payloads[1], { ...follow, acknowledgement: 78 }), 2],
      ["another window", tcpFrame(payloads[1], { ...follow, window: 501 }), 2],
      ["a gap", tcpFrame(payloads[1], { ...follow, sequence: 1501 }), 2],
      ["larger than the first", tcpFrame(random(501), follow), 2],
      ["an end", tcpFrame(payloads[1], { ...follow, flags: 0x11 }), 2],
      ["another sender", tcpFrame(payloads[1], { ...follow, source: "02000000000c" }), 2],
      ["may be fragmented, other id", tcpFrame(payloads[1], { ...follow, df: false }), 2],
    ];
    const wrong = tcpFrame(payloads[1], follow);
    wrong[100] = (wrong[100] ?? 0) ^ 1;
    cases.push(["a wrong checksum", wrong, 2]);
    for (const [what, second, count] of cases) {
      const [a, b] = await pair(encrypted);
      for (const frame of [first, second]) a.capture(1, 2, frame);
      b.receive(...a.sent.map(({ bytes }) => bytes));
      expect(`${what}: ${b.written.length}`).toBe(`${what}: ${count}`);
      if (count === 2) expect(b.frames[1]?.toHex()).toBe(second.toHex());
    }
  });

  test("completes a checksum that the kernel left to us", async () => {
    const [a, b] = await pair(encrypted);
    const frame = tcpFrame(random(100));
    const partial = frame.slice();
    new DataView(partial.buffer).setUint16(50, checksum(frame.subarray(26, 34), Uint8Array.of(0, 6, 0, 132)));
    a.capture(1, 2, partial, virtio({ flags: NEEDS_CHECKSUM, checksumStart: 38, checksumOffset: 16 }));
    b.receive(...a.sent.map(({ bytes }) => bytes));
    expect(b.frames.map((bytes) => bytes.toHex())).toEqual([frame.toHex()]);
  });

  test("tells the sender of a packet that is too big and must not be fragmented what fits", async () => {
    const [a] = await pair(encrypted, { mtu: 1000 });
    const frame = ipv4Frame(random(1200));
    a.capture(1, 2, frame);
    expect(a.sent.length).toBe(0);
    const [answer] = a.frames;
    if (!answer) throw new Error("no answer");
    expect(isSound(answer)).toBe(true);
    expect(answer.subarray(0, 12).toHex()).toBe(MAC_A + MAC_B);
    expect(answer.subarray(26, 34).toHex()).toBe("0a2800010a200001");
    expect(answer.subarray(34, 36).toHex()).toBe("0304");
    expect(new DataView(answer.buffer, answer.byteOffset).getUint16(40)).toBe(1000);
    expect(checksum(answer.subarray(34))).toBe(0xffff);
    expect(answer.subarray(42).toHex()).toBe(frame.subarray(14, 42).toHex());
    // Not for what goes to everybody.
    a.capture(1, BROADCAST, frame);
    expect(a.frames.length).toBe(1);
    expect(a.counters.all()["tooBig"]).toBe(1);
  });

  test("cuts packets that may be fragmented, where fragments of datagrams do not get through", async () => {
    const [a, b] = await pair(encrypted, { mtu: 1000, fragments: false });
    const payload = random(2500);
    a.capture(1, 2, ipv4Frame(payload, { df: false }));
    expect(a.sent.every(({ df }) => df)).toBe(true);
    b.receive(...a.sent.map(({ bytes }) => bytes));
    expect(b.frames.length).toBe(3);
    const parts = b.frames.map((fragment, i) => {
      expect(isSound(fragment)).toBe(true);
      const flags = new DataView(fragment.buffer, fragment.byteOffset).getUint16(20);
      expect(flags).toBe((i < 2 ? 0x2000 : 0) | ((i * 976) >> 3));
      return fragment.subarray(34);
    });
    expect(Buffer.concat(parts).toString("hex")).toBe(payload.toHex());
    // Where they do, the kernel cuts the datagram.
    const [c, d] = await pair(encrypted, { mtu: 1000, fragments: true });
    c.capture(1, 2, ipv4Frame(payload, { df: false }));
    expect(c.sent.map(({ df }) => df)).toEqual([false]);
    d.receive(...c.sent.map(({ bytes }) => bytes));
    expect(d.frames.length).toBe(1);
  });

  test("passes on what is for another peer, by sleeve and by VXLAN", async () => {
    const [a, b] = await pair(encrypted);
    const names = new Map([1, 2, 3, 5000].map((peer) => [peer, bytesOf(peer)]));
    b.configure({
      self: 2,
      names,
      next: new Map([
        [1, 0],
        [3, 7],
      ]),
      nextBySleeve: new Map([
        [1, 0],
        [3, 8],
      ]),
    });
    b.link({ index: 7, kind: "vxlan", peer: 3, name: bytesOf(3) });
    const frame = ipv4Frame(random(200));
    a.capture(1, 3, frame);
    b.receive(...a.sent.map(({ bytes }) => bytes));
    expect(b.sent.map(({ link, bytes }) => [link, bytes.toHex()])).toEqual([
      [7, `08000000${((1 | (3 << 12)) * 256).toString(16).padStart(8, "0")}${frame.toHex()}`],
    ]);
    // A peer without a short id cannot be named in VXLAN.
    b.link({ index: 8, peer: 3, name: bytesOf(3) });
    b.sent.length = 0;
    b.capture(5000, 3, frame);
    expect(b.sent.map(({ link }) => link)).toEqual([8]);
  });

  test("heartbeats are for the router, not for pods", async () => {
    const [a, b] = await pair(encrypted);
    const link = a.engine.link(0);
    if (!link) throw new Error("no link");
    a.engine.sendSpecial(link, true, HEARTBEAT_SIZE, 0x1234_5678_9abc_def0n);
    a.engine.sendSpecial(link, false, FRAGMENT_TEST_SIZE, undefined);
    b.receive(...a.sent.map(({ bytes }) => bytes));
    expect(b.frames).toEqual([]);
    expect(b.specials).toEqual([
      { link: 0, length: HEARTBEAT_SIZE, uid: 0x1234_5678_9abc_def0n, zeros: false },
      { link: 0, length: FRAGMENT_TEST_SIZE, uid: 0n, zeros: true },
    ]);
  });

  test("bytes behind the last frame are counted; the frames before them count", async () => {
    const [a, b] = await pair(false);
    a.capture(1, 2, ipv4Frame(random(100)));
    const [sent] = a.sent;
    b.receive(new Uint8Array(Buffer.concat([sent?.bytes ?? new Uint8Array(), random(5)])));
    expect(b.frames.length).toBe(1);
    expect(b.counters.all()["malformed"]).toBe(1);
  });

  test("frames that cannot be are counted and dropped: as if from us, of peers nobody knows, too short", async () => {
    const [a, b] = await pair(encrypted);
    a.capture(2, 2, ipv4Frame(random(50)));
    b.receive(...a.sent.splice(0).map(({ bytes }) => bytes));
    expect(b.counters.all()).toMatchObject({ received: 1, unroutable: 1 });
    const [, c] = await pair(false);
    c.receive(datagram(bytesOf(1), bytesOf(1), bytesOf(2), [0, 5], random(5)));
    expect(c.counters.all()).toMatchObject({ received: 1, malformed: 1 });
    c.receive(datagram(bytesOf(1), bytesOf(77), bytesOf(2), [0, 20], random(20)));
    expect(c.counters.all()).toMatchObject({ received: 2, unroutable: 1 });
    expect([b.written.length, c.written.length]).toEqual([0, 0]);
  });

  test("of two links to one peer, the older goes on when the newer goes", async () => {
    const [a, b] = await pair(encrypted);
    for (const count of [1, 2]) {
      b.link({ index: 1, peer: 1, name: bytesOf(1), key: encrypted ? random(32) : undefined });
      b.engine.remove(1);
      a.capture(1, 2, ipv4Frame(random(50)));
      b.receive(...a.sent.splice(0).map(({ bytes }) => bytes));
      expect(b.frames.length).toBe(count);
    }
    b.engine.remove(0);
    a.capture(1, 2, ipv4Frame(random(50)));
    b.receive(...a.sent.map(({ bytes }) => bytes));
    expect(b.counters.all()["foreign"]).toBe(1);
  });

  test("with new tables, the kernel is told anew where addresses are: it may have been made to forget", async () => {
    const [a, b] = await pair(encrypted);
    const deliver = () => {
      a.capture(1, 2, ipv4Frame(random(50)));
      b.receive(...a.sent.splice(0).map(({ bytes }) => bytes));
    };
    deliver();
    deliver();
    expect(b.learned.length).toBe(1);
    b.configure({ self: 2, names: new Map([1, 2].map((peer) => [peer, bytesOf(peer)])) });
    deliver();
    expect(b.learned).toEqual(Array(2).fill({ mac: MAC_A, peer: 1 }));
  });

  test("heartbeats need no tables; a peer may get another number later", async () => {
    const a = await EngineHarness.create(name(1));
    const b = await EngineHarness.create(name(2));
    const key = encrypted ? KEY : undefined;
    const link = a.link({ index: 0, peer: 5000, name: bytesOf(2), key, outbound: true });
    b.link({ index: 0, peer: 5000, name: bytesOf(1), key, outbound: false });
    a.engine.sendSpecial(link, true, HEARTBEAT_SIZE, 7n);
    b.receive(...a.sent.splice(0).map(({ bytes }) => bytes));
    expect(b.specials.map(({ uid }) => uid)).toEqual([7n]);
    const names = new Map([1, 2].map((peer) => [peer, bytesOf(peer)]));
    a.configure({ self: 1, names, broadcast: new Map([[1, [0]]]) });
    b.configure({ self: 2, names });
    a.capture(1, BROADCAST, ipv4Frame(random(50)));
    b.receive(...a.sent.map(({ bytes }) => bytes));
    expect(b.frames.length).toBe(1);
  });

  test("10,000 damaged datagrams and as many of nonsense are counted and dropped", async () => {
    const [a, b] = await pair(encrypted);
    const make = () => {
      a.sent.length = 0;
      const count = 1 + chance.below(3);
      for (let i = 0; i < count; i++) a.engine.captured(...stage(a, ipv4Frame(random(chance.below(400)))));
      a.engine.flush();
      return a.sent[0]?.bytes ?? new Uint8Array();
    };
    let tried = 0;
    for (let i = 0; i < 10_000; i++) {
      const datagram = make();
      const place = chance.below(datagram.length);
      if (i % 2 === 0) datagram[place] = (datagram[place] ?? 0) ^ (1 << (i % 8));
      b.receive(i % 2 === 0 ? datagram : datagram.subarray(0, place));
      const noise = random(chance.below(1500));
      // Half of it claims to be of the peer.
      if (i % 2 === 0) noise.set(bytesOf(1).subarray(0, noise.length));
      b.receive(noise);
      tried += 2;
    }
    const { received = 0, malformed = 0, foreign = 0, undecryptable = 0, unroutable = 0 } = b.counters.all();
    expect(received + foreign + undecryptable + malformed).toBeGreaterThanOrEqual(tried);
    if (encrypted) expect(received).toBe(0);
    else expect(malformed + unroutable).toBeGreaterThan(5000);
    // And it still works.
    b.written.length = 0;
    b.receive(make());
    expect(b.written.length).toBeGreaterThan(0);
  });

  test("10,000 damaged frames from the kernel do no harm", async () => {
    const [a] = await pair(encrypted);
    const whole = tcpFrame(random(3000));
    for (let i = 0; i < 10_000; i++) {
      const frame = whole.slice(0, chance.below(whole.length));
      for (let k = 0; k < 3; k++) frame[chance.below(66)] = chance.below(256);
      const header =
        i % 2 ? virtio({ gsoType: GSO_TCP4, gsoSize: chance.below(2000) }) : random(VIRTIO_HEADER);
      a.capture(chance.below(6), chance.below(6), frame, header);
      a.sent.length = 0;
      a.written.length = 0;
    }
    a.capture(1, 2, ipv4Frame(random(10)));
    expect(a.sent.length).toBe(1);
  });
});

function stage({ arena }: EngineHarness, frame: Uint8Array): [number, number] {
  const at = STAGED;
  arena.bytes.fill(0, at, at + VIRTIO_HEADER);
  arena.view.setUint16(at + VIRTIO_HEADER, 1, true);
  arena.view.setUint16(at + VIRTIO_HEADER + 2, 2, true);
  arena.bytes.set(frame, at + VIRTIO_HEADER + 4);
  return [at, VIRTIO_HEADER + 4 + frame.length];
}
/** Near the end of the arena nothing else lies. */
const STAGED = (2 << 20) - 4096;

test("replayed datagrams are counted and dropped, late ones are not", async () => {
  const [a, b] = await pair(true);
  for (let i = 0; i < 50; i++) a.capture(1, 2, ipv4Frame(random(50), { id: i }));
  const datagrams = a.sent.map(({ bytes }) => bytes).reverse();
  for (const datagram of datagrams) b.receive(datagram.slice());
  expect(b.frames.length).toBe(50);
  for (const datagram of datagrams) b.receive(datagram.slice());
  expect(b.frames.length).toBe(50);
  expect(b.counters.all()["replayed"]).toBe(50);
});

test("what another end of the same connection sealed is not taken for the peer's: each direction has its own nonces", async () => {
  const [a] = await pair(true);
  a.capture(1, 2, ipv4Frame(random(50)));
  const own = a.sent[0]?.bytes.slice() ?? new Uint8Array();
  own.set(bytesOf(2), 0);
  a.receive(own);
  expect(a.counters.all()).toMatchObject({ undecryptable: 1, received: 0 });
});

test("both builds of libsodium seal alike", async () => {
  const names = new Map([1, 2].map((peer) => [peer, bytesOf(peer)]));
  const frame = ipv4Frame(random(700));
  const sealed = [];
  for (const box of [undefined, wasmSecretbox]) {
    const harness = await EngineHarness.create(name(1), box);
    harness.configure({ self: 1, names, next: new Map([[2, 0]]) });
    harness.link({ index: 0, peer: 2, name: bytesOf(2), key: KEY });
    harness.capture(1, 2, frame);
    sealed.push(harness.sent[0]?.bytes.toHex());
  }
  expect(sealed[0]).toBe(sealed[1] ?? "");
  expect(sealed[0]?.length).toBeGreaterThan(1400);
});

test("a probe alone is sent whatever the kernel remembers of the path, not what comes after it", async () => {
  const [a] = await pair(false);
  const link = a.engine.link(0);
  if (!link) throw new Error("no link");
  for (const probe of [true, false, true]) a.engine.sendSpecial(link, true, 600, undefined, probe);
  a.capture(1, 2, ipv4Frame(random(100), { df: true }));
  a.engine.sendSpecial(link, false, 600, undefined, false);
  const { probe, df, fragment } = MODE;
  expect(a.sent.map(({ mode }) => mode)).toEqual([probe, df, probe, df, fragment]);
});

/** A million frames and a half; the numbers of nonces do not depend on how many came before. */
const GIGABYTES = Number(process.env["GIGABYTES"] ?? 2);

test(`${GIGABYTES} gigabytes through one connection use no nonce twice`, async () => {
  const last = new Map<string, number>();
  let repeated = 0;
  const recording = async (arena: Arena): Promise<Secretbox> => ({
    kind: "none",
    seal(_at, _length, nonce) {
      const stream = (nonce[16] ?? 0) & 0x80 ? "df" : "fragmentable";
      const view = new DataView(nonce.buffer, nonce.byteOffset);
      const sequence = (view.getUint32(16) & 0x7fff_ffff) * 2 ** 32 + view.getUint32(20);
      if (sequence <= (last.get(stream) ?? -1)) repeated++;
      last.set(stream, sequence);
    },
    open: () => arena.size > 0,
  });
  const harness = await EngineHarness.create(name(1), recording);
  harness.configure({
    self: 1,
    names: new Map([1, 2].map((peer) => [peer, bytesOf(peer)])),
    next: new Map([[2, 0]]),
  });
  const link = harness.link({ index: 0, peer: 2, name: bytesOf(2), key: KEY });
  // A number that does not fit into 32 bits comes along, too.
  link.df.sequence = 2 ** 32 - 1000;
  const { batch } = harness.engine;
  const names = harness.arena.reserve(64);
  let bytes = 0;
  for (let i = 0; bytes < GIGABYTES * 2 ** 30; i++) {
    batch.frame(i % 8 === 0 ? link.fragmentable : link.df, names, names, 1400);
    bytes += 1400;
    if (i % 400 === 0) {
      batch.flush();
      harness.sent.length = 0;
    }
  }
  batch.flush();
  expect(repeated).toBe(0);
  expect((last.get("df") ?? 0) + (last.get("fragmentable") ?? 0)).toBeGreaterThan(700_000 * GIGABYTES);
}, 60_000);

describe("the search for the path's MTU", () => {
  function search(real: number, limit: number, loses: () => boolean = () => false) {
    const clock = new SimulatedClock();
    const found: number[] = [];
    let tests = 0;
    const path: PathMtu = new PathMtu({
      clock,
      test(mtu) {
        tests++;
        if (mtu <= real && !loses()) clock.after(5, () => path.verified(mtu));
      },
      found: (mtu) => found.push(mtu),
    });
    path.search(limit);
    const started = clock.now();
    while (found.length === 0 && clock.now() - started < 60_000) clock.advance(10);
    return { found, tests, took: clock.now() - started, path };
  }

  test("finds any MTU, and quickly where the first guess is right", () => {
    expect(search(1438, 1438)).toMatchObject({ found: [1438], tests: 1 });
    fc.assert(
      fc.property(
        fc.integer({ min: MINIMUM_MTU, max: 9000 }),
        fc.integer({ min: MINIMUM_MTU, max: 9000 }),
        (real, limit) => {
          const { found, took } = search(real, limit);
          expect(found).toEqual([Math.min(real, limit)]);
          expect(took).toBeLessThan(5_000);
        },
      ),
    );
  });

  test("never finds too much where tests are lost, and rarely too little", () => {
    let exact = 0;
    for (let i = 0; i < 200; i++) {
      const { found } = search(1218, 1438, () => chance.float() < 0.3);
      expect(found[0]).toBeLessThanOrEqual(1218);
      if (found[0] === 1218) exact++;
    }
    expect(exact).toBeGreaterThan(150);
  });
});

describe("what a path carries", () => {
  const OVERHEAD = overhead(false);

  /** A path with a link of 1500 bytes at our end, and `real` on the way; the kernel remembers what ICMP told. */
  function path() {
    const clock = new SimulatedClock(1000);
    const world = {
      real: 1500,
      remembered: 1500,
      tells: false,
      carrying: false,
      preferred: true,
      sent: 0,
      probes: 0,
      flushes: 0,
    };
    const refuse = () => {
      clock.after(0, () => subject.tooBig(world.remembered));
    };
    const subject: Path = new Path({
      clock,
      encrypted: false,
      test(mtu, probe) {
        const size = mtu + OVERHEAD;
        if (probe) world.probes++;
        if (size > (probe ? 1500 : world.remembered)) return refuse();
        world.sent += size;
        if (size <= world.real) clock.after(5, () => subject.verified(mtu));
        else if (world.tells) world.remembered = world.real;
      },
      testFragments() {
        world.sent += 60_000;
        if (world.remembered <= world.real) clock.after(5, () => subject.fragmentsReceived());
      },
      askKernel: refuse,
      outgrown() {
        world.flushes++;
        world.remembered = 1500;
      },
      changed() {},
      log() {},
    });
    subject.start();
    every(clock, 2_500, () => subject.tick(world));
    clock.advance(10_000);
    /** How long it takes until this holds, in ms. */
    const until = (holds: () => boolean, limitMs = 300_000) => {
      const began = clock.now();
      while (!holds() && clock.now() - began < limitMs) clock.advance(10);
      return clock.now() - began;
    };
    return { clock, subject, world, until };
  }

  test("is found at the start", () => {
    const { subject } = path();
    expect(subject).toMatchObject({ mtu: 1500 - OVERHEAD, fragments: true });
  });

  test.each([
    ["in silence", false],
    ["with ICMP", true],
  ] as const)(
    "less than before, %s: at once when told, within seconds in use, before the next packets if not; and more again within a minute",
    (_how, tells) => {
      for (const [use, limit] of [
        [{ carrying: true }, 6_000],
        [{ carrying: false }, 25_000],
      ] as const) {
        const { subject, world, until } = path();
        Object.assign(world, use, { tells, real: 1400 });
        const shrunk = () => subject.mtu === 1400 - OVERHEAD;
        expect(until(shrunk)).toBeLessThan(limit);
        // Fragments as large as our own link takes would be lost, until the kernel knows better.
        expect(subject.fragments && world.remembered > 1400).toBe(false);
        world.real = 1500;
        const grown = () => subject.mtu === 1500 - OVERHEAD && subject.fragments;
        expect(until(grown)).toBeLessThan(60_000);
        expect(world.flushes).toBe(tells ? 1 : 0);
      }
      const { subject, world, until } = path();
      Object.assign(world, { preferred: false, real: 1400 });
      subject.suspect();
      expect(until(() => subject.mtu === 1400 - OVERHEAD)).toBeLessThan(4_000);
    },
  );

  test("that stays less costs little, and one that is not used nothing", () => {
    const { clock, subject, world } = path();
    world.sent = 0;
    world.preferred = false;
    clock.advance(240_000);
    expect(world.sent).toBe(0);
    Object.assign(world, { preferred: true, real: 1400 });
    clock.advance(30_000);
    expect(subject.mtu).toBe(1400 - OVERHEAD);
    world.sent = 0;
    clock.advance(240_000);
    // Bytes a second.
    expect(world.sent / 240).toBeLessThan(750);
  });
});

describe("a forwarder of sleeve", () => {
  const REMOTE = { address: 0x0a630002, port: 6783 };

  function forwarder(outbound = true) {
    const clock = new SimulatedClock(1000);
    const seen = {
      specials: [] as [boolean, number, bigint | undefined][],
      control: [] as [number, string][],
      settings: [] as LinkSettings[],
      health: [] as (string | undefined)[],
      established: 0,
      heard: 0,
      carried: 0,
      /** Errno. */
      refusal: 0,
    };
    const subject = new SleeveForwarder({
      clock,
      connectionUid: 7n,
      encrypted: false,
      remote: outbound ? REMOTE : undefined,
      local: 0x0a630001,
      port: 6783,
      sendSpecial: (df, size, uid) => seen.specials.push([df, size, uid]),
      sendControl: (tag, message) => seen.control.push([tag, message.toHex()]),
      established: () => seen.established++,
      health: (trouble) => seen.health.push(trouble?.reason),
      changed: (settings) => seen.settings.push(settings),
      log: () => {},
      preferred: () => true,
      outgrown: () => {},
      heard: () => seen.heard,
      carried: () => seen.carried,
      frames: () => ({ received: 0, sent: 0 }),
      refusal: () => seen.refusal,
    });
    every(clock, 500, () => subject.tick());
    const heartbeat = { length: HEARTBEAT_SIZE, from: REMOTE, uid: 7n, zeros: false };
    const sizes = () => seen.specials.splice(0).map(([, size]) => size);
    return { clock, seen, subject, heartbeat, sizes };
  }

  test("the end that connected speaks first; the other waits until it knows where to", () => {
    const connecting = forwarder();
    connecting.subject.confirm();
    expect(connecting.seen.specials).toEqual([[true, HEARTBEAT_SIZE, 7n]]);
    const accepting = forwarder(false);
    accepting.subject.confirm();
    accepting.clock.advance(3000);
    expect(accepting.seen.specials).toEqual([]);
    expect(accepting.subject.usable).toBe(false);
    accepting.subject.special(accepting.heartbeat);
    expect(accepting.seen.specials).toEqual([[true, HEARTBEAT_SIZE, 7n]]);
    expect(accepting.seen.control).toEqual([[CONTROL.established, ""]]);
    expect(accepting.subject.usable).toBe(true);
    expect(accepting.seen.settings.at(-1)?.remote).toEqual(REMOTE);
  });

  test("once heartbeats arrive: established, and fragments and the MTU are tried", () => {
    const { subject, seen, clock, sizes } = forwarder();
    subject.confirm();
    clock.advance(2000);
    expect(sizes()).toEqual(Array(6).fill(HEARTBEAT_SIZE));
    subject.control(CONTROL.established, new Uint8Array());
    subject.control(CONTROL.established, new Uint8Array());
    expect(seen.established).toBe(1);
    expect(sizes()).toEqual([FRAGMENT_TEST_SIZE, 60_000]);
    subject.control(CONTROL.fragmentsReceived, new Uint8Array());
    expect(seen.settings.at(-1)?.fragments).toBe(true);
    subject.tooBig(1500);
    expect(subject.attributes()).toMatchObject({ mtu: 1500 - overhead(false) });
    expect(sizes()).toEqual([mtuTestSize(1438)]);
    subject.control(CONTROL.mtuVerified, Uint8Array.of(1438 >> 8, 1438 & 0xff));
    subject.control(CONTROL.mtuVerified, Uint8Array.of(5));
    expect(subject.attributes()).toEqual({ name: "sleeve", mtu: 1438 });
  });

  test("answers the tests of the peer", () => {
    const { subject, seen, heartbeat } = forwarder();
    subject.confirm();
    subject.special({ ...heartbeat, length: FRAGMENT_TEST_SIZE, zeros: true });
    subject.special({ ...heartbeat, length: mtuTestSize(1438), zeros: true });
    subject.special({ ...heartbeat, length: FRAGMENT_TEST_SIZE, zeros: false });
    subject.special({ ...heartbeat, uid: 8n });
    expect(seen.control).toEqual([
      [CONTROL.fragmentsReceived, ""],
      [CONTROL.mtuVerified, "059e"],
    ]);
  });

  test("follows a peer whose address changes, behind NAT or on the move", () => {
    const { subject, seen, heartbeat } = forwarder();
    subject.confirm();
    const moved = { address: 0x0a630009, port: 40_000 };
    subject.special({ ...heartbeat, from: moved });
    expect(seen.settings.at(-1)?.remote).toEqual(moved);
  });

  test("a path that takes less than before, in silence, is noticed", () => {
    const { subject, seen, clock } = forwarder();
    let real = 1438;
    const answer = () => {
      for (const [, size] of seen.specials.splice(0)) {
        if (size === HEARTBEAT_SIZE || size - 14 > real) continue;
        subject.control(CONTROL.mtuVerified, Uint8Array.of((size - 14) >> 8, (size - 14) & 0xff));
      }
    };
    const pass = (ms: number) => {
      for (let i = 0; i < ms; i += 10) {
        clock.advance(10);
        seen.heard = clock.now();
        seen.carried = clock.now();
        answer();
      }
    };
    subject.confirm();
    subject.control(CONTROL.established, new Uint8Array());
    seen.specials.length = 0;
    subject.tooBig(1500);
    pass(1000);
    expect(subject.attributes()).toMatchObject({ mtu: 1438 });
    real = 1218;
    pass(8_000);
    expect(subject.attributes()).toMatchObject({ mtu: 1218 });
    pass(60_000);
    expect(subject.attributes()).toMatchObject({ mtu: 1218 });
    expect(seen.health).toEqual([]);
  });

  test("datagrams that our own kernel refuses are trouble within seconds, and over with the first that it takes", () => {
    const { subject, seen, clock } = forwarder();
    subject.confirm();
    subject.control(CONTROL.established, new Uint8Array());
    seen.refusal = 1;
    clock.advance(1_000);
    seen.refusal = 0;
    clock.advance(5_000);
    expect(seen.health).toEqual([]);
    seen.refusal = 1;
    clock.advance(3_000);
    expect(seen.health).toEqual([
      expect.stringMatching(/^datagrams cannot be sent: EPERM; a firewall .*UDP 6783/),
    ]);
    expect(subject.hurried).toBe(true);
    seen.refusal = 0;
    clock.advance(1_000);
    expect(seen.health).toEqual([expect.anything(), undefined]);
    expect(subject.hurried).toBe(false);
  });

  test("a minute of silence is trouble, and over with the first sign of life", () => {
    const { subject, seen, clock } = forwarder();
    subject.confirm();
    clock.advance(60_000);
    expect(seen.health).toEqual([]);
    clock.advance(1_000);
    expect(seen.health).toEqual([expect.stringContaining("UDP 6783")]);
    seen.heard = clock.now();
    clock.advance(1_000);
    expect(seen.health).toEqual([expect.anything(), undefined]);
  });
});

describe("messages that wait for the engine", () => {
  test("are few for each link, however long it takes none", () => {
    const waiting: ToEngine[] = [];
    const settings = { remote: undefined, local: 0, mtu: 1438, fragments: false };
    const params = { kind: "sleeve", peer: 2, name: bytesOf(2), key: undefined, outbound: true } as const;
    const tables = { self: 1, names: new Map(), next: new Map(), nextBySleeve: new Map() };
    for (let i = 0; i < 20_000; i++) {
      const index = i % 100;
      queueForEngine(waiting, { type: "remove", index });
      queueForEngine(waiting, { type: "add", params: { ...params, index } });
      queueForEngine(waiting, { type: "set", index, settings });
      queueForEngine(waiting, { type: "set", index, settings: { ...settings, mtu: i } });
      queueForEngine(waiting, { type: "special", index, df: true, size: 22, uid: 7n, probe: false });
      queueForEngine(waiting, {
        type: "tables",
        tables: { ...tables, broadcast: new Map(), origins: new Map() },
      });
    }
    expect(waiting.length).toBeLessThanOrEqual(4 * 100 + 1);
    const ofOne = waiting.filter((each) => ("index" in each ? each.index : undefined) === 7);
    expect(ofOne.map(({ type }) => type)).toEqual(["remove", "set", "special"]);
    expect(waiting.filter(({ type }) => type === "add").length).toBe(100);
  });

  test("one that nobody reads does not hold up who writes it", () => {
    const pipe = openPipe();
    try {
      const writer = new MessageWriter(pipe.writeFd);
      const message = { bytes: new Uint8Array(1 << 20).fill(7) };
      writer.write(message);
      expect(writer.backlog).toBeGreaterThan(900_000);
      const reader = new MessageReader();
      const buffer = new Uint8Array(65_536);
      const read: unknown[] = [];
      while (read.length === 0) {
        read.push(...readMessages(pipe.readFd, reader, buffer));
        writer.flush();
      }
      expect(writer.backlog).toBe(0);
      expect(read).toEqual([message]);
    } finally {
      closePipe(pipe);
    }
  });
});

test("a file whose other end is gone is waited for no more until it is resumed", () => {
  const { readFd, writeFd } = openPipe();
  try {
    closeSync(readFd);
    const files = new PolledFiles(new Arena(65_536), [writeFd]);
    files.wait(false);
    expect(files.failed(0)).toBe(true);
    files.pause(0);
    files.wait(true);
    expect(files.failed(0)).toBe(false);
    files.resume(0);
    files.wait(false);
    expect(files.failed(0)).toBe(true);
  } finally {
    closeSync(writeFd);
  }
});

describe("the tables", () => {
  const names = new Map([1, 2, 3, 4, 5000].map((id) => [id, bytesOf(id)]));
  const tables = makeTables({
    self: 1,
    names,
    neighbours: [
      { id: 2, fastdp: { address: 0x0a630002, link: 12 }, sleeve: 2 },
      { id: 3, fastdp: undefined, sleeve: 3 },
      { id: 5000, fastdp: undefined, sleeve: 5 },
    ],
    vxlanSources: new Set([0x0a630002]),
    unicast: new Map([
      [2, 2],
      [3, 3],
      [4, 2],
      [5000, 5000],
      [5001, 2],
      [6, 9],
    ]),
    broadcast: new Map([
      [1, { from: undefined, to: [2, 3] }],
      [2, { from: 2, to: [3] }],
      [3, { from: 3, to: [2] }],
      [5000, { from: 5000, to: [2] }],
      [4, { from: 2, to: [9] }],
    ]),
  });

  test("send frames by the fast datapath where it works, else by sleeve", () => {
    expect([...tables.kernel.routes]).toEqual([
      [2, 0x0a630002],
      [3, SLEEVE],
      [4, 0x0a630002],
      [5000, SLEEVE],
      // Behind the fast datapath, but VXLAN has no name for it.
      [5001, SLEEVE],
    ]);
    expect([...tables.engine.next]).toEqual([
      [2, 12],
      [3, 3],
      [4, 12],
      [5000, 5],
      [5001, 2],
    ]);
    expect([...tables.engine.nextBySleeve]).toEqual([
      [2, 2],
      [3, 3],
      [4, 2],
      [5000, 5],
      [5001, 2],
    ]);
  });

  test("broadcast along the trees, by both", () => {
    const hop = { shortId: 2, address: 0x0a630002 };
    expect(Object.fromEntries(tables.kernel.hops)).toEqual({
      1: { vxlan: [hop], sleeve: true },
      // It comes from the peer itself, by VXLAN.
      2: { from: 0x0a630002, vxlan: [], sleeve: true },
      3: { from: SLEEVE, vxlan: [hop], sleeve: false },
      // VXLAN has no name for the source.
      5000: { from: SLEEVE, vxlan: [], sleeve: true },
    });
    expect(Object.fromEntries(tables.engine.broadcast)).toEqual({ 1: [3], 2: [3], 5000: [2] });
  });
});
