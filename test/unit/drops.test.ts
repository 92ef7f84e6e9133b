// Blocked packets as they are told of: read from their headers, once for each attempt, not too many.
import { describe, expect, test } from "bun:test";
import { SimulatedClock } from "../../lib/clock/simulated.ts";
import { type Drop, Drops, dropLine } from "../../lib/npc/drops.ts";
import { readPacket } from "../../lib/npc/packet.ts";
import { Resets, resetPacket, resetsFor } from "../../lib/npc/reset.ts";
import { checksum } from "../support/frames.ts";
import { randomOf } from "../support/seed.ts";

/** An IPv4 packet from 10.32.0.7 to 10.32.0.11; `flags` are TCP's. */
function packet(protocol: number, source: number, port: number, flags = 2): Uint8Array {
  const bytes = new Uint8Array(40);
  const view = new DataView(bytes.buffer);
  bytes[0] = 0x45;
  bytes[9] = protocol;
  bytes.set([10, 32, 0, 7, 10, 32, 0, 11], 12);
  view.setUint16(20, source);
  view.setUint16(22, port);
  bytes[33] = flags;
  return bytes;
}

function drops() {
  const clock = new SimulatedClock(1_000_000);
  const seen = { blocked: [] as Drop[], written: [] as string[], leftOut: 0 };
  const subject = new Drops(clock, {
    blocked: (drop) => seen.blocked.push(drop),
    write: (drop) => seen.written.push(dropLine(drop)),
    leftOut: (count) => {
      seen.leftOut += count;
    },
  });
  const take = (payload: Uint8Array, prefix = "ingress") =>
    subject.packet({ payload, prefix, frame: undefined });
  return { clock, seen, subject, take };
}

const TCP = 6;
const UDP = 17;

describe("a blocked attempt", () => {
  test("is told of word for word", () => {
    const { seen, take } = drops();
    take(packet(TCP, 56648, 80));
    take(packet(UDP, 56648, 80));
    take(packet(132, 1, 2), "egress");
    expect(seen.written).toEqual([
      "TCP connection from 10.32.0.7:56648 to 10.32.0.11:80 blocked by Weave NPC.",
      "UDP connection from 10.32.0.7:56648 to 10.32.0.11:80 blocked by Weave NPC.",
      "SCTP connection from 10.32.0.7:1 to 10.32.0.11:2 blocked by Weave NPC.",
    ]);
    expect(seen.blocked.map(({ why }) => why)).toEqual(["ingress", "ingress", "egress"]);
  });

  test("is one, however often its packet is sent again; a minute later it is another", () => {
    const { clock, seen, take } = drops();
    for (const pause of [0, 1_000, 2_000, 4_000, 8_000]) {
      clock.advance(pause);
      take(packet(TCP, 5, 80));
    }
    expect(seen.blocked.length).toBe(1);
    clock.advance(60_000);
    take(packet(TCP, 5, 80));
    take(packet(TCP, 6, 80));
    expect(seen.blocked.length).toBe(3);
  });

  test("begins with a SYN; other protocols have no ports; other rules are not ours", () => {
    const { seen, take } = drops();
    take(packet(TCP, 5, 80, 0x12));
    take(packet(TCP, 5, 80, 0x10));
    take(packet(1, 5, 80));
    take(packet(TCP, 5, 80), "somebody else's");
    take(new Uint8Array());
    take(packet(TCP, 5, 80).subarray(0, 10));
    expect(seen.blocked).toEqual([]);
  });

  test("is counted, but not written, when there are too many; how many that were is written", () => {
    const { clock, seen, subject, take } = drops();
    for (let i = 0; i < 1_000; i++) take(packet(UDP, 1 + i, 80));
    expect([seen.blocked.length, seen.written.length]).toEqual([1_000, 100]);
    subject.lost();
    subject.tick();
    expect(seen.leftOut).toBe(901);
    clock.advance(2_000);
    for (let i = 0; i < 100; i++) take(packet(UDP, 2_000 + i, 80));
    expect(seen.written.length).toBe(120);
  });

  test("is one of 10,000 remembered; one more evicts the oldest, which then counts as new", () => {
    const { seen, take } = drops();
    for (let i = 0; i < 10_000; i++) take(packet(UDP, i, 80));
    take(packet(UDP, 0, 80));
    expect(seen.blocked.length).toBe(10_000);
    take(packet(UDP, 10_000, 80));
    take(packet(UDP, 0, 80));
    take(packet(UDP, 9_999, 80));
    expect(seen.blocked.length).toBe(10_002);
  });
});

describe("a connection that is cut", () => {
  test("is logged once, by who opened it, whichever end has sent the packet", () => {
    const { seen, take } = drops();
    take(packet(UDP, 80, 56648), "ingress target");
    take(packet(TCP, 56648, 80, 0x10), "egress opener");
    take(packet(TCP, 56648, 80, 0x10), "egress opener");
    expect(seen.written).toEqual([
      "UDP connection from 10.32.0.11:56648 to 10.32.0.7:80 cut by Weave NPC: no longer allowed.",
      "TCP connection from 10.32.0.7:56648 to 10.32.0.11:80 cut by Weave NPC: no longer allowed.",
    ]);
    expect(seen.blocked.map(({ cut, why }) => [cut, why])).toEqual([
      [true, "ingress"],
      [true, "egress"],
    ]);
    // A new attempt with the same ports is another matter.
    take(packet(TCP, 56648, 80), "egress");
    expect(seen.written.length).toBe(3);
  });

  test("is reset at both ends, with the numbers that they expect; a reset is not answered", () => {
    const segment = packet(TCP, 5, 80, 0x10);
    new DataView(segment.buffer).setUint32(24, 1000);
    new DataView(segment.buffer).setUint32(28, 0xffff_fff0);
    const ends = { source: "10.32.0.7", sourcePort: 5, destination: "10.32.0.11", port: 80 };
    const back = { source: "10.32.0.11", sourcePort: 80, destination: "10.32.0.7", port: 5 };
    const read = readPacket(segment);
    expect(read && resetsFor(read)).toEqual([
      { ...ends, sequence: 1000 },
      { ...back, sequence: 0xffff_fff0 },
    ]);
    const reset = readPacket(packet(TCP, 5, 80, 0x14));
    expect(reset && resetsFor(reset)).toEqual([]);
  });

  test.each([
    ["10.32.0.7", "10.32.0.11", 20, 12],
    ["fd00::7", "2001:db8::ffff", 40, 8],
  ])("a reset from %s to %s is well-formed", (source, destination, header, addresses) => {
    const bytes = resetPacket({ source, sourcePort: 65_535, destination, port: 80, sequence: 0xdead_beef });
    expect(readPacket(bytes)).toEqual({
      ...{ source, destination, protocol: "TCP", sourcePort: 65_535, port: 80 },
      segment: {
        ...{ sequence: 0xdead_beef, acknowledgement: 0 },
        ...{ opens: false, acknowledges: false, resets: true },
      },
    });
    const pseudo = Buffer.concat([bytes.subarray(addresses, header), Uint8Array.of(0, TCP, 0, 20)]);
    expect(checksum(pseudo, bytes.subarray(header))).toBe(0xffff);
  });

  test("packets of no cut connection are not answered; what cannot be sent is told once", () => {
    const errors: string[] = [];
    let sent = 0;
    const clock = new SimulatedClock(1_000_000);
    const resets = new Resets(clock, {
      isPod: () => true,
      sent: () => sent++,
      failed: ({ message }) => errors.push(message),
      send: () => {
        throw new Error("no privilege");
      },
    });
    const payload = packet(TCP, 5, 80, 0x10);
    for (const prefix of ["ingress", "untracked", "unknown"])
      resets.packet({ prefix, payload, frame: undefined });
    expect(errors).toEqual([]);
    for (let i = 0; i < 3; i++) resets.packet({ prefix: "ingress opener", payload, frame: undefined });
    expect([sent, errors]).toEqual([0, ["no privilege"]]);
  });

  test("resets have a rate", () => {
    let sent = 0;
    const clock = new SimulatedClock(1_000_000);
    const resets = new Resets(clock, {
      ...{ isPod: () => true, failed: () => {}, send: () => {} },
      sent: () => sent++,
    });
    for (let i = 0; i < 1_000; i++)
      resets.packet({ prefix: "midstream", payload: packet(TCP, 1 + i, 80, 0x10), frame: undefined });
    expect(sent).toBe(400);
    clock.advance(1_000);
    for (let i = 0; i < 1_000; i++)
      resets.packet({ prefix: "midstream", payload: packet(TCP, 1 + i, 80, 0x10), frame: undefined });
    expect(sent).toBe(600);
  });
});

describe("a packet", () => {
  test("of IPv6, behind extension headers", () => {
    const bytes = new Uint8Array(40 + 8 + 16 + 20);
    const view = new DataView(bytes.buffer);
    bytes[0] = 0x60;
    bytes[6] = 0;
    bytes.set(Uint8Array.fromHex("fd000000000000000000000000000001"), 8);
    bytes.set(Uint8Array.fromHex("fd000000000000000000000000000002"), 24);
    bytes[40] = 60;
    bytes[48] = TCP;
    bytes[49] = 1;
    view.setUint16(64, 4711);
    view.setUint16(66, 443);
    bytes[64 + 13] = 2;
    expect(readPacket(bytes)).toEqual({
      source: "fd00::1",
      destination: "fd00::2",
      protocol: "TCP",
      sourcePort: 4711,
      port: 443,
      segment: { sequence: 0, acknowledgement: 0, opens: true, acknowledges: false, resets: false },
    });
  });

  test("cut off anywhere is no accident", () => {
    const whole = packet(TCP, 5, 80);
    for (let length = 0; length < whole.length; length++)
      expect(() => readPacket(whole.subarray(0, length))).not.toThrow();
    const random = randomOf("packets cut off");
    for (let i = 0; i < 2_000; i++) {
      const bytes = random.bytes(i % 120);
      if (bytes.length > 0) bytes[0] = i % 2 ? 0x45 : 0x60;
      expect(() => readPacket(bytes)).not.toThrow();
    }
  });
});
