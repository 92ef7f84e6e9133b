// The engine of sleeve from kernel to kernel: frames, super-frames, fragments, relays, and damage of all of them.
import { describe, expect, test } from "bun:test";
import { BROADCAST } from "../../lib/overlay/peerid.ts";
import { fold, sum, swap16 } from "../../lib/overlay/sleeve/checksum.ts";
import { FRAGMENT_TEST_SIZE, HEARTBEAT_SIZE } from "../../lib/overlay/sleeve/format.ts";
import { GSO_TCP4, NEEDS_CHECKSUM, VIRTIO, VIRTIO_HEADER } from "../../lib/overlay/sleeve/virtio.ts";
import { Arena } from "../../lib/sys/arena.ts";
import { EngineHarness } from "../support/engine.ts";
import { fc } from "../support/fastcheck.ts";
import { checksum, ipv4Frame, isSound, MAC_A, MAC_B, tcpFrame } from "../support/frames.ts";
import {
  bytesOf,
  chance,
  completed,
  datagram,
  KEY,
  name,
  pair,
  random,
  virtio,
} from "../support/sleevepair.ts";

test("a broadcast that comes round by another way than its tree's is dropped, what is for us alone is not", async () => {
  const [, b] = await pair(undefined);
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

test("a frame for a third peer goes on, but not back to the neighbour that it came from", async () => {
  const [, b] = await pair(undefined);
  const names = new Map([1, 2, 3, 4].map((peer) => [peer, bytesOf(peer)]));
  b.link({ index: 1, peer: 4, name: bytesOf(4) }, { mtu: 1400 });
  /** Send a frame of a neighbour to peer 3, to which link `next` leads; return the links that it goes on by. */
  const goesOn = (neighbour: number, source: number, next: number) => {
    b.configure({ self: 2, names, next: new Map([[3, next]]) });
    const frame = ipv4Frame(random(40));
    b.receive(datagram(bytesOf(neighbour), bytesOf(source), bytesOf(3), [0, frame.length], frame));
    return b.sent.splice(0).map(({ link }) => link);
  };
  expect(goesOn(1, 1, 1)).toEqual([1]);
  expect(goesOn(4, 1, 0)).toEqual([0]);
  expect(goesOn(1, 1, 0)).toEqual([]);
  // Peers that do not agree on the way from 4 to 3: 1 sends it to us, and we would send it to 1.
  expect(goesOn(1, 4, 0)).toEqual([]);
  expect(b.counters.all()["astray"]).toBe(2);
});

describe("checksums", () => {
  test("are those of RFC 1071, wherever the bytes lie", () => {
    const arena = new Arena(1 << 17);
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), fc.nat(40), (bytes, at) => {
        arena.bytes.set(bytes, at);
        const found = sum(arena, at, bytes.length);
        expect(found).toBeWithin(0, 0x1_0000);
        expect(swap16(found)).toBe(checksum(bytes));
      }),
    );
    arena.bytes.fill(0xff);
    expect(sum(arena, 0, 65_536)).toBe(0xffff);
  });

  test("are folded until they have 16 bits: each sum stays the same modulo 0xffff, and 0 alone is 0", () => {
    const folded = (total: number) => (total === 0 ? 0 : ((total - 1) % 0xffff) + 1);
    // The first of these carry again as their halves are added.
    for (const total of [
      0xffff_0001, 0x1_ffff, 0xffff_ffff, 0x8000_8000, 0, 1, 0xffff, 0x1_0000, 0xfffe_0001,
    ])
      expect([total, fold(total)]).toEqual([total, folded(total)]);
    fc.assert(
      fc.property(fc.nat(0xffff_ffff), (total) => {
        expect(fold(total)).toBe(folded(total));
      }),
    );
  });

  test("of bytes that carry into a 17th bit, and again, are those of RFC 1071", () => {
    const arena = new Arena(1 << 17);
    // Their sums end in little less than 16 ones, or little more: what is carried out of them carries again.
    const ones = { weight: 6, arbitrary: fc.constant([0xff, 0xff]) };
    const few = { weight: 1, arbitrary: fc.constantFrom([1, 0], [0, 1], [2, 0], [0, 2]) };
    const halves = fc.array(fc.oneof(ones, few), { minLength: 2, maxLength: 40 });
    fc.assert(
      fc.property(halves, fc.nat(5), (some, at) => {
        const bytes = Uint8Array.from(some.flat());
        arena.bytes.set(bytes, at);
        expect(swap16(sum(arena, at, bytes.length))).toBe(checksum(bytes));
      }),
    );
  });
});

/** For each cipher; others each time, and far more by `npm run test:fuzz -- sleeve`. */
const DAMAGED = 2_500;

describe.each([
  ["plain", undefined],
  ["secretbox", "secretbox"],
  ["aegis-256", "aegis-256"],
] as const)("the engine, %s", (_kind, cipher) => {
  test("carries frames from kernel to kernel, small ones together", async () => {
    const [a, b] = await pair(cipher);
    const frame = ipv4Frame(random(100));
    a.capture(1, 2, frame);
    expect(a.sent.length).toBe(1);
    b.receive(...a.sent.map(({ bytes }) => bytes));
    expect(b.frames.map((bytes) => bytes.toHex())).toEqual([frame.toHex()]);
    expect(b.learned).toEqual([{ mac: MAC_A, peer: 1 }]);
    expect(b.counters.all()).toMatchObject({ received: 1, malformed: 0 });
  });

  test("a super-frame arrives as one, and is sound as the segments it travels as", async () => {
    const [a, b] = await pair(cipher);
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
    const segments = b.written.map(completed);
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
    const [c, d] = await pair(cipher);
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
      const [a, b] = await pair(cipher);
      for (const frame of [first, second]) a.capture(1, 2, frame);
      b.receive(...a.sent.map(({ bytes }) => bytes));
      expect(`${what}: ${b.written.length}`).toBe(`${what}: ${count}`);
      if (count === 2) expect(b.frames[1]?.toHex()).toBe(second.toHex());
    }
  });

  test("completes a checksum that the kernel left to us", async () => {
    const [a, b] = await pair(cipher);
    const frame = tcpFrame(random(100));
    const partial = frame.slice();
    new DataView(partial.buffer).setUint16(50, checksum(frame.subarray(26, 34), Uint8Array.of(0, 6, 0, 132)));
    a.capture(1, 2, partial, virtio({ flags: NEEDS_CHECKSUM, checksumStart: 38, checksumOffset: 16 }));
    b.receive(...a.sent.map(({ bytes }) => bytes));
    expect(b.frames.map((bytes) => bytes.toHex())).toEqual([frame.toHex()]);
  });

  test("tells the sender of a packet that is too big and must not be fragmented what fits", async () => {
    const [a] = await pair(cipher, { mtu: 1000 });
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
    const [a, b] = await pair(cipher, { mtu: 1000, fragments: false });
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
    const [c, d] = await pair(cipher, { mtu: 1000, fragments: true });
    c.capture(1, 2, ipv4Frame(payload, { df: false }));
    expect(c.sent.map(({ df }) => df)).toEqual([false]);
    d.receive(...c.sent.map(({ bytes }) => bytes));
    expect(d.frames.length).toBe(1);
  });

  test("cuts a fragment into fragments: the last one has more behind it where the whole had", async () => {
    for (const [more, first] of [
      [0x2000, 0],
      [0x2000, 100],
      [0, 100],
    ] as const) {
      const [a, b] = await pair(cipher, { mtu: 1000, fragments: false });
      const payload = random(1600);
      const packet = ipv4Frame(payload, { df: false });
      const view = new DataView(packet.buffer);
      view.setUint16(20, more | first);
      view.setUint16(24, 0);
      view.setUint16(24, ~checksum(packet.subarray(14, 34)) & 0xffff);
      a.capture(1, 2, packet);
      b.receive(...a.sent.map(({ bytes }) => bytes));
      expect(b.frames.map(isSound)).toEqual([true, true]);
      expect(b.frames.map((frame) => new DataView(frame.buffer, frame.byteOffset).getUint16(20))).toEqual([
        0x2000 | first,
        more | (first + (976 >> 3)),
      ]);
      expect(Buffer.concat(b.frames.map((frame) => frame.subarray(34))).toString("hex")).toBe(
        payload.toHex(),
      );
    }
  });

  test("lets the kernel cut the datagrams of large frames that are not IPv4, whatever gets through", async () => {
    // IPv6, and a packet that only looks like IPv4 behind another EtherType.
    for (const type of [0x86dd, 0x88cc])
      for (const fragments of [true, false]) {
        const [a, b] = await pair(cipher, { mtu: 1000, fragments });
        const frame = ipv4Frame(random(1200), { df: false });
        new DataView(frame.buffer).setUint16(12, type);
        a.capture(1, 2, frame);
        expect(a.sent.map(({ df }) => df)).toEqual([false]);
        b.receive(...a.sent.map(({ bytes }) => bytes));
        expect(b.frames.map((bytes) => bytes.toHex())).toEqual([frame.toHex()]);
      }
  });

  test("passes on what is for another peer, by sleeve and by VXLAN", async () => {
    const [a, b] = await pair(cipher);
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
    const [a, b] = await pair(cipher);
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
    const [a, b] = await pair(undefined);
    a.capture(1, 2, ipv4Frame(random(100)));
    const [sent] = a.sent;
    b.receive(new Uint8Array(Buffer.concat([sent?.bytes ?? new Uint8Array(), random(5)])));
    expect(b.frames.length).toBe(1);
    expect(b.counters.all()["malformed"]).toBe(1);
  });

  test("frames that cannot be are counted and dropped: as if from us, of peers nobody knows, too short", async () => {
    const [a, b] = await pair(cipher);
    a.capture(2, 2, ipv4Frame(random(50)));
    b.receive(...a.sent.splice(0).map(({ bytes }) => bytes));
    expect(b.counters.all()).toMatchObject({ received: 1, unroutable: 1 });
    const [, c] = await pair(undefined);
    c.receive(datagram(bytesOf(1), bytesOf(1), bytesOf(2), [0, 5], random(5)));
    expect(c.counters.all()).toMatchObject({ received: 1, malformed: 1 });
    c.receive(datagram(bytesOf(1), bytesOf(77), bytesOf(2), [0, 20], random(20)));
    expect(c.counters.all()).toMatchObject({ received: 2, unroutable: 1 });
    expect([b.written.length, c.written.length]).toEqual([0, 0]);
  });

  test("of two links to one peer, the older goes on when the newer goes", async () => {
    const [a, b] = await pair(cipher);
    for (const count of [1, 2]) {
      b.link({ index: 1, peer: 1, name: bytesOf(1), key: cipher ? random(32) : undefined });
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
    const [a, b] = await pair(cipher);
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
    const sealing = cipher ? { key: KEY, cipher } : { key: undefined };
    const link = a.link({ index: 0, peer: 5000, name: bytesOf(2), ...sealing, outbound: true });
    b.link({ index: 0, peer: 5000, name: bytesOf(1), ...sealing, outbound: false });
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

  test(`${DAMAGED} damaged datagrams and as many of nonsense are counted and dropped`, async () => {
    const [a, b] = await pair(cipher);
    const make = () => {
      a.sent.length = 0;
      const count = 1 + chance.below(3);
      for (let i = 0; i < count; i++) a.engine.captured(...stage(a, ipv4Frame(random(chance.below(400)))));
      a.engine.flush();
      return a.sent[0]?.bytes ?? new Uint8Array();
    };
    let tried = 0;
    for (let i = 0; i < DAMAGED; i++) {
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
    if (cipher) expect(received).toBe(0);
    else expect(malformed + unroutable).toBeGreaterThan(DAMAGED / 2);
    // And it still works.
    b.written.length = 0;
    b.receive(make());
    expect(b.written.length).toBeGreaterThan(0);
  });

  test(`${DAMAGED} damaged frames from the kernel do no harm`, async () => {
    const [a] = await pair(cipher);
    const whole = tcpFrame(random(3000));
    for (let i = 0; i < DAMAGED; i++) {
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
