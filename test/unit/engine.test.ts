// The sleeve engine over hours and at its bounds: what it learns, and super-frames as long as a packet may be.
import { describe, expect, test } from "bun:test";
import { nameFromNumber, nameToBytes } from "../../lib/mesh/name.ts";
import { GroCoalescer } from "../../lib/overlay/sleeve/gro.ts";
import { Segmenter } from "../../lib/overlay/sleeve/segments.ts";
import { Arena } from "../../lib/sys/arena.ts";
import { EngineHarness } from "../support/engine.ts";
import { ipv4Frame, isSound, MAC_A, tcpFrame } from "../support/frames.ts";
import { randomOf } from "../support/seed.ts";

const MINUTE = 60_000;
const random = randomOf("engine");
const bytesOf = (peer: number) => nameToBytes(nameFromNumber(BigInt(peer)));

describe("where an Ethernet address is", () => {
  /** The engine of peer 2, and how peer 1 (or another behind it) sends it a frame. */
  async function receiver() {
    const harness = await EngineHarness.create(nameFromNumber(2n));
    harness.configure({ self: 2, names: new Map([1, 2, 3].map((peer) => [peer, bytesOf(peer)])) });
    harness.link({ index: 0, peer: 1, name: bytesOf(1) });
    const send = (source = MAC_A, from = 1) => {
      const frame = ipv4Frame(new Uint8Array(40), { source });
      const header = [...bytesOf(1), ...bytesOf(from), ...bytesOf(2), frame.length >> 8, frame.length & 255];
      harness.receive(Uint8Array.from([...header, ...frame]));
      return harness.learned.splice(0).map(({ peer }) => peer);
    };
    return { harness, send };
  }

  test("is told once a second while its frames come, over an hour, and not more often", async () => {
    const { harness, send } = await receiver();
    let told = 0;
    for (let s = 0; s < 3_600; s += 0.5) {
      harness.now = s * 1_000;
      told += send().length;
    }
    expect(told).toBe(3_600);
  });

  test.each([1_100, 11 * MINUTE])("is told again after %d ms without a frame", async (pause) => {
    const { harness, send } = await receiver();
    expect(send()).toEqual([1]);
    harness.now += 900;
    expect(send()).toEqual([]);
    harness.now += pause;
    expect(send()).toEqual([1]);
    expect(send()).toEqual([]);
  });

  test("is told again while frames of another address come in between", async () => {
    const { harness, send } = await receiver();
    for (const [at, expected] of [
      [0, [1]],
      [500, []],
      [1_100, [1]],
      [1_500, []],
    ] as const) {
      harness.now = at;
      expect(send()).toEqual([...expected]);
      expect(send("02000000000b")).toEqual([...expected]);
    }
  });

  test("is told at once where it moves to another peer, and back", async () => {
    const { send } = await receiver();
    expect([send(), send(MAC_A, 3), send(MAC_A, 3), send(), send()]).toEqual([[1], [3], [], [1], []]);
  });
});

test("of several connections of a peer the latest takes its datagrams, until it ends, whatever ends before", async () => {
  const harness = await EngineHarness.create(nameFromNumber(2n));
  harness.configure({ self: 2, names: new Map([1, 2].map((peer) => [peer, bytesOf(peer)])) });
  const datagram = Uint8Array.from([...bytesOf(1), ...bytesOf(1), ...bytesOf(2), 0, 0]);
  /** The connection that the next datagram of the peer counts for. */
  const heard = () => {
    harness.now++;
    harness.receive(datagram);
    return [0, 1, 2, 3].filter((index) => harness.counters.lastHeard(index) === harness.now);
  };
  for (const index of [0, 1, 2, 3]) {
    harness.link({ index, peer: 1, name: bytesOf(1) });
    expect(heard()).toEqual([index]);
  }
  for (const [ends, left] of [
    [1, [3]],
    [0, [3]],
    [3, [2]],
    [2, []],
  ] as const) {
    harness.engine.remove(ends);
    expect([ends, heard()]).toEqual([ends, [...left]]);
  }
});

describe("super-frames", () => {
  /** Bytes behind the Ethernet header of each frame that these segments of one flow are written as. */
  function written(sizes: readonly number[]): number[] {
    const arena = new Arena(1 << 20);
    const lengths: number[] = [];
    const coalescer = new GroCoalescer(arena, (iovecs, pieces) => {
      let length = 0;
      for (let i = 1; i < pieces; i++) length += Number(arena.view.getBigUint64(iovecs + i * 16 + 8, true));
      lengths.push(length - 14);
    });
    let sequence = 1_000;
    for (const [i, size] of sizes.entries()) {
      const frame = tcpFrame(new Uint8Array(size), { sequence, id: i });
      const at = arena.reserve(frame.length + (frame.length & 1));
      arena.bytes.set(frame, at);
      coalescer.deliver(at, frame.length);
      sequence += size;
    }
    coalescer.flush();
    return lengths;
  }

  test("are as long as an IPv4 packet may be, and no longer", () => {
    const headers = 20 + 32;
    const fits = [...Array(65).fill(1_000), 65_535 - headers - 65_000];
    expect(written(fits)).toEqual([65_535]);
    expect(written([...fits.slice(0, -1), 65_536 - headers - 65_000])).toEqual([
      65_000 + headers,
      65_536 - 65_000,
    ]);
    const twice = written(Array(130).fill(1_000));
    expect(twice).toEqual([65_000 + headers, 65_000 + headers]);
  });

  /** Segments of a super-frame with all flags set. */
  function segmentsOf(payload: number, size: number, id: number): Uint8Array[] {
    const arena = new Arena(1 << 18);
    const segmenter = new Segmenter(arena);
    const frame = tcpFrame(random.bytes(payload), {
      flags: 0x80 | 0x40 | 0x10 | 0x08 | 0x01,
      sequence: 0xffff_ff00,
      id,
    });
    const at = arena.reserve(70_000);
    const to = arena.reserve(70_000);
    arena.bytes.set(frame, at);
    expect(segmenter.start(at, frame.length, size)).toBe(true);
    const segments: Uint8Array[] = [];
    for (let length = segmenter.next(); length > 0; length = segmenter.next()) {
      segmenter.write(to);
      segments.push(arena.bytes.slice(to, to + length));
    }
    return segments;
  }

  test.each([0, 7, 0x00ff, 0x7fff, 0xfffc, 0xfffe, 0xffff])(
    "with the IP id %d are cut so that each segment has the header bits that are its own (Linux: tcp_gso_segment)",
    (id) => {
      for (const payload of [1_000, 1_001, 3_999, 4_000, 4_001]) {
        const segments = segmentsOf(payload, 1_000, id);
        const last = segments.length - 1;
        expect(segments.length).toBe(Math.ceil(payload / 1_000));
        for (const [i, segment] of segments.entries()) {
          const view = new DataView(segment.buffer);
          const [cwr, end] = [i === 0 ? 0x80 : 0, i === last ? 0x08 | 0x01 : 0];
          expect(`${payload} ${i}: ${segment[47]}`).toBe(`${payload} ${i}: ${cwr | 0x40 | 0x10 | end}`);
          expect(view.getUint32(38)).toBe((0xffff_ff00 + i * 1_000) % 2 ** 32);
          expect(view.getUint16(18)).toBe((id + i) % 2 ** 16);
          expect(isSound(segment)).toBe(true);
        }
      }
    },
  );
});
