// Which TCP segments become one frame for the kernel, which end the burst, and which stay alone.
import { describe, expect, test } from "bun:test";
import { GroCoalescer, IOVEC } from "../../lib/overlay/sleeve/gro.ts";
import { VIRTIO, VIRTIO_HEADER } from "../../lib/overlay/sleeve/virtio.ts";
import { Arena } from "../../lib/sys/arena.ts";
import { checksum, ipv4Frame, isSound, MAC_A, type SegmentOptions, tcpFrame } from "../support/frames.ts";

const SIZE = 100;
const HEADERS = 66;
const PSH = 0x18;

/** Payloads of what was written for frames, in order; each with the segment size that the kernel cuts it by, 0 for none. */
function deliver(frames: readonly Uint8Array[], flush = true) {
  const arena = new Arena(1 << 20);
  const written: { payload: number; size: number; frame: Uint8Array }[] = [];
  const gro = new GroCoalescer(arena, (iovecs, pieces) => {
    const parts = Array.from({ length: pieces }, (_, i) => {
      const entry = iovecs + i * IOVEC;
      const at = Number(arena.view.getBigUint64(entry, true)) - arena.address;
      return arena.bytes.slice(at, at + arena.view.getUint32(entry + 8, true));
    });
    const all = new Uint8Array(Buffer.concat(parts));
    const frame = all.subarray(VIRTIO_HEADER);
    const size = new DataView(all.buffer).getUint16(VIRTIO.gsoSize, true);
    written.push({ payload: frame.length - HEADERS, size, frame });
  });
  let at = arena.reserve(frames.reduce((sum, { length }) => sum + length + 2, 0));
  for (const frame of frames) {
    arena.bytes.set(frame, at);
    gro.deliver(at, frame.length);
    at += frame.length + (frame.length & 1);
  }
  const waiting = written.length;
  if (flush) gro.flush();
  return { written, waiting, sizes: written.map(({ payload, size }) => [payload, size]) };
}

/** A segment of a flow: its number, and what is other about it. */
const segment = (number: number, change: SegmentOptions = {}, length = SIZE) =>
  tcpFrame(new Uint8Array(length).fill(number + 1), { sequence: 1_000 + number * SIZE, ...change });

/** The same frame with another byte at a place, and right checksums. */
function with_(frame: Uint8Array, at: number, value: number): Uint8Array {
  const copy = frame.slice();
  copy[at] = value;
  const view = new DataView(copy.buffer);
  view.setUint16(24, 0);
  view.setUint16(24, ~checksum(copy.subarray(14, 34)) & 0xffff);
  view.setUint16(50, 0);
  const tcp = copy.subarray(34);
  const pseudo = Uint8Array.of(0, 6, tcp.length >> 8, tcp.length & 255);
  view.setUint16(50, ~checksum(copy.subarray(26, 34), pseudo, tcp) & 0xffff);
  return copy;
}

const MERGED = [[2 * SIZE, SIZE]];
const APART = [
  [SIZE, 0],
  [SIZE, 0],
];

test("segments of a flow are one frame, which bears their payload and a right header", () => {
  const { written, sizes } = deliver([segment(0), segment(1), segment(2)]);
  expect(sizes).toEqual([[3 * SIZE, SIZE]]);
  const frame = written[0]?.frame ?? new Uint8Array();
  expect([...new Set(frame.subarray(HEADERS))]).toEqual([1, 2, 3]);
  expect(new DataView(frame.buffer, frame.byteOffset).getUint16(16)).toBe(frame.length - 14);
  expect(checksum(frame.subarray(14, 34))).toBe(0xffff);
});

describe("the last of a burst is written at once", () => {
  test("a shorter segment", () => {
    const { sizes, waiting } = deliver([segment(0), segment(1, {}, 40), segment(2, { sequence: 1_140 })]);
    expect([waiting, sizes]).toEqual([
      1,
      [
        [SIZE + 40, SIZE],
        [SIZE, 0],
      ],
    ]);
  });

  test("one of PSH, whose flag the whole frame gets", () => {
    const { written, waiting } = deliver([segment(0), segment(1, { flags: PSH }), segment(2)]);
    expect([waiting, written.length]).toEqual([1, 2]);
    expect(written.map(({ frame }) => (frame[47] ?? 0) & 8)).toEqual([8, 0]);
  });

  test("a first one of PSH, alone", () => {
    expect(deliver([segment(0, { flags: PSH }), segment(1)]).sizes).toEqual(APART);
  });

  test("others wait for more, until the flush", () => {
    const { waiting, sizes } = deliver([segment(0), segment(1)]);
    expect([waiting, sizes]).toEqual([0, MERGED]);
    expect(deliver([segment(0)], false).written).toEqual([]);
  });
});

test.each<[string, Uint8Array, unknown]>([
  ["goes on", segment(1), MERGED],
  ["leaves a gap", segment(2), APART],
  ["comes again", segment(0), APART],
  ["has another acknowledgement", segment(1, { acknowledgement: 78 }), APART],
  ["has another window", segment(1, { window: 501 }), APART],
  ["comes from another Ethernet address", segment(1, { source: "02000000000c" }), APART],
  ["goes to another Ethernet address", segment(1, { destination: "02000000000d" }), APART],
  ["has another type of service", with_(segment(1), 15, 4), APART],
  ["has another time to live", with_(segment(1), 22, 63), APART],
  ["has another source address", with_(segment(1), 29, 9), APART],
  ["has another destination address", with_(segment(1), 33, 9), APART],
  ["has another source port", with_(segment(1), 35, 9), APART],
  ["has another destination port", with_(segment(1), 37, 9), APART],
  ["has another timestamp", with_(segment(1), 61, 9), APART],
  ["has another reserved bit", with_(segment(1), 46, 0x82), APART],
  ["may be fragmented", segment(1, { df: false, id: 8 }), APART],
])("a segment that %s", (_, second, expected) => {
  expect(isSound(second)).toBe(true);
  expect(deliver([segment(0), second]).sizes).toEqual(expected as number[][]);
});

test.each([
  ["FIN", 0x11],
  ["SYN", 0x12],
  ["RST", 0x14],
  ["URG", 0x30],
  ["CWR", 0x90],
  ["no ACK", 0x00],
])("a segment with %s stays alone, and ends what waits", (_, flags) => {
  expect(deliver([segment(0), segment(1, { flags }), segment(2)]).sizes).toEqual([...APART, [SIZE, 0]]);
});

test("without DF the ids of IP have to follow each other", () => {
  const free = (number: number, id: number) => segment(number, { df: false, id });
  expect(deliver([free(0, 7), free(1, 8)]).sizes).toEqual(MERGED);
  expect(deliver([free(0, 7), free(1, 7)]).sizes).toEqual(APART);
  expect(deliver([free(0, 0xffff), free(1, 0)]).sizes).toEqual(MERGED);
  expect(deliver([segment(0, { id: 7 }), segment(1, { id: 99 })]).sizes).toEqual(MERGED);
});

test("a longer segment begins a frame of its own; sequence numbers wrap round", () => {
  expect(deliver([segment(0, {}, 40), segment(1, { sequence: 1_040 })]).sizes).toEqual([
    [40, 0],
    [SIZE, 0],
  ]);
  const last = 2 ** 32 - SIZE;
  expect(deliver([segment(0, { sequence: last }), segment(1, { sequence: 0 })]).sizes).toEqual(MERGED);
});

test("a damaged header or payload is handed on as it is, alone", () => {
  const damaged = (at: number) => {
    const frame = segment(1);
    frame[at] = (frame[at] ?? 0) ^ 1;
    return frame;
  };
  for (const at of [22, 25, 51, 90])
    expect(deliver([segment(0), damaged(at), segment(2)]).sizes).toEqual([...APART, [SIZE, 0]]);
});

test("what is no TCP, has no payload, has options of IP or padding stays alone", () => {
  const padded = new Uint8Array([...segment(1), 0]);
  const udp = ipv4Frame(new Uint8Array(SIZE), { source: MAC_A });
  for (const frame of [udp, segment(1, {}, 0), padded]) {
    const { written } = deliver([segment(0), frame, segment(2)]);
    expect(written.map(({ size }) => size)).toEqual([0, 0, 0]);
    expect(written[1]?.frame).toEqual(frame);
  }
});

test("a frame holds at most 256 pieces, and no more than an IPv4 packet may", () => {
  const many = Array.from({ length: 300 }, (_, i) => segment(i));
  expect(deliver(many).sizes).toEqual([
    [256 * SIZE, SIZE],
    [44 * SIZE, SIZE],
  ]);
  const large = Array.from({ length: 60 }, (_, i) => segment(0, { sequence: i * 1_400 }, 1_400));
  expect(deliver(large).sizes).toEqual([
    [46 * 1_400, 1_400],
    [14 * 1_400, 1_400],
  ]);
});
