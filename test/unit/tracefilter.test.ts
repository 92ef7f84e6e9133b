// The filter of packet sockets, run by a machine of classic BPF, and the classification of frames: both let through what a
// plain reading of the headers calls a part of the probe, and nothing else.
import { expect, test } from "bun:test";
import { probeFilter } from "../../lib/trace/filter.ts";
import {
  PROTOCOL_NUMBER,
  type Probe,
  type ProbeProtocol,
  probePayload,
  signOf,
} from "../../lib/trace/probe.ts";
import { checksum } from "../support/frames.ts";
import { randomOf } from "../support/seed.ts";

/** Return how many bytes of a frame pass (linux/filter.h). */
function bpf(program: Uint8Array, frame: Uint8Array): number {
  const code = new DataView(program.buffer, program.byteOffset, program.byteLength);
  const view = new DataView(frame.buffer, frame.byteOffset, frame.byteLength);
  let [a, x] = [0, 0];
  for (let pc = 0; pc * 8 < program.length; ) {
    const [op, yes, no, k] = [
      code.getUint16(pc * 8, true),
      code.getUint8(pc * 8 + 2),
      code.getUint8(pc * 8 + 3),
      code.getUint32(pc * 8 + 4, true),
    ];
    pc++;
    const load = (at: number, size: number) => {
      if (at + size > frame.length) return false;
      a = size === 4 ? view.getUint32(at) : size === 2 ? view.getUint16(at) : view.getUint8(at);
      return true;
    };
    switch (op) {
      case 0x20:
        if (!load(k, 4)) return 0;
        break;
      case 0x28:
        if (!load(k, 2)) return 0;
        break;
      case 0x30:
        if (!load(k, 1)) return 0;
        break;
      case 0x40:
        if (!load(k + x, 4)) return 0;
        break;
      case 0x48:
        if (!load(k + x, 2)) return 0;
        break;
      case 0x50:
        if (!load(k + x, 1)) return 0;
        break;
      case 0xb1:
        if (k >= frame.length) return 0;
        x = (view.getUint8(k) & 15) * 4;
        break;
      case 0x15:
        pc += a === k ? yes : no;
        break;
      case 0x45:
        pc += a & k ? yes : no;
        break;
      case 0x06:
        return k;
      default:
        throw new Error(`no such instruction: ${op}`);
    }
  }
  throw new Error("no answer");
}

const [A, B, C] = [0x0a200001, 0x0a200002, 0x0a200003];
const ETHERNET = 14;

function ipPacket(
  source: number,
  destination: number,
  protocol: number,
  payload: Uint8Array,
  options = 0,
  fragment = 0,
) {
  const header = 20 + options;
  const bytes = new Uint8Array(header + payload.length);
  const view = new DataView(bytes.buffer);
  bytes[0] = 0x40 | (header / 4);
  view.setUint16(6, fragment);
  bytes[9] = protocol;
  view.setUint32(12, source);
  view.setUint32(16, destination);
  bytes.set(payload, header);
  return bytes;
}

function frame(type: number, body: Uint8Array, tag: number) {
  const bytes = new Uint8Array(tag + ETHERNET + body.length);
  new DataView(bytes.buffer).setUint16(tag + 12, type);
  bytes.set(body, tag + ETHERNET);
  return bytes;
}

test.each<ProbeProtocol>(["icmp", "tcp", "udp"])("%s: in random traffic", (protocol) => {
  const random = randomOf(`trace filter ${protocol}`);
  const probe: Probe = {
    source: A,
    destination: B,
    protocol,
    port: protocol === "icmp" ? 0 : 80,
    id: 40_000,
  };
  const filter = probeFilter(probe);
  const seen = new Map<string, number>();
  for (let i = 0; i < 1_500; i++) {
    const tag = random.pick([0, 0, 4]);
    const options = random.pick([0, 0, 4]);
    const [source, destination] = random.pick([
      [A, B],
      [A, B],
      [B, A],
      [B, A],
      [A, C],
      [C, A],
      [B, C],
    ]) as [number, number];
    const number = random.pick([1, 6, 17, PROTOCOL_NUMBER[protocol], PROTOCOL_NUMBER[protocol]]);
    const payload = new Uint8Array(40);
    const view = new DataView(payload.buffer);
    const flags = random.pick([0x02, 0x12, 0x14, 0x04]);
    const icmpType = random.pick([0, 3, 3, 8, 11]);
    const icmpCode = random.pick([1, 4]);
    const ports = random.pick([
      [40_000, 80],
      [80, 40_000],
      [40_000, 81],
      [81, 40_000],
      [1, 80],
    ]) as [number, number];
    const echoId = random.pick([40_000, 40_000, 1]);
    // What an ICMP error quotes: the probe, or something else.
    const quoted = random.pick(["probe", "other"]);
    let rest = payload;
    if (number === 1) {
      payload[0] = icmpType;
      payload[1] = icmpCode;
      view.setUint16(4, echoId);
      if (icmpType === 3) {
        view.setUint16(4, 0);
        const inner = ipPacket(
          A,
          quoted === "probe" ? B : C,
          PROTOCOL_NUMBER[protocol],
          probePayload(probe, 1).subarray(0, 8),
        );
        rest = new Uint8Array(8 + inner.length);
        rest.set(payload.subarray(0, 8));
        rest.set(inner, 8);
      }
    } else {
      view.setUint16(0, ports[0]);
      view.setUint16(2, ports[1]);
      payload[13] = flags;
    }
    const fragment = random.pick([0, 0, 0, 0, 0x2000, 1]);
    const arp = random.below(10) === 0;
    const arpSender = random.pick([A, B, C]);
    const arpBody = new Uint8Array(28);
    new DataView(arpBody.buffer).setUint32(14, arpSender);
    const bytes = arp
      ? frame(0x0806, arpBody, tag)
      : frame(0x0800, ipPacket(source, destination, number, rest, options, fragment), tag);

    const forth = source === A && destination === B;
    const back = source === B && destination === A;
    const own = number === PROTOCOL_NUMBER[protocol];
    let expected: string | undefined;
    if (
      forth &&
      own &&
      (protocol === "icmp" ? icmpType === 8 && echoId === 40_000 : ports[0] === 40_000 && ports[1] === 80)
    )
      expected = "probe";
    else if (source === B && number === 1 && icmpType === 3)
      expected = quoted === "probe" ? (icmpCode === 4 ? "too-large" : "refused") : undefined;
    else if (
      source === B &&
      own &&
      (protocol === "icmp" ? icmpType === 0 && echoId === 40_000 : ports[0] === 80 && ports[1] === 40_000)
    )
      expected = protocol === "tcp" && flags & 4 ? "refused" : "answer";
    if (arp) expected = "arp";
    expect(signOf(bytes, probe)).toBe(expected as ReturnType<typeof signOf>);
    const between = forth || back;
    const interesting =
      number === 1 && icmpType === 3
        ? true
        : own &&
          (protocol === "icmp"
            ? (icmpType === 0 || icmpType === 8) && echoId === 40_000
            : ports.join() === "40000,80" || ports.join() === "80,40000");
    const passes = arp ? arpSender !== C : between && (fragment & 0x1fff) === 0 && interesting;
    expect(bpf(filter, bytes)).toBe(passes ? 0xffff : 0);
    // All that belongs to the probe is let through.
    if (expected !== undefined && !arp && between && fragment !== 1) expect(passes).toBe(true);
    const key = `${expected} ${passes}`;
    seen.set(key, (seen.get(key) ?? 0) + 1);
  }
  expect([...seen.keys()].some((key) => key.startsWith("answer"))).toBe(true);
  for (const type of [0x86dd, 0x8100]) expect(bpf(filter, frame(type, new Uint8Array(60), 0))).toBe(0);
  expect(bpf(filter, new Uint8Array(10))).toBe(0);
  expect(signOf(new Uint8Array(33), probe)).toBeUndefined();
});

test("the probe itself: checksums, number, mark and size", () => {
  const probe = (protocol: ProbeProtocol): Probe => ({
    source: A,
    destination: B,
    protocol,
    port: 80,
    id: 40_000,
  });
  const read = (protocol: ProbeProtocol, size = 0) => {
    const bytes = probePayload(probe(protocol), 7, size);
    return { bytes, view: new DataView(bytes.buffer) };
  };
  const icmp = read("icmp");
  expect([icmp.bytes[0], icmp.view.getUint16(4), icmp.view.getUint16(6), checksum(icmp.bytes)]).toEqual([
    8, 40_000, 7, 0xffff,
  ]);
  expect(new TextDecoder().decode(icmp.bytes.subarray(8))).toBe("weave trace ");
  const pseudo = (protocol: number, length: number) => {
    const bytes = new Uint8Array(12);
    const view = new DataView(bytes.buffer);
    view.setUint32(0, A);
    view.setUint32(4, B);
    bytes[9] = protocol;
    view.setUint16(10, length);
    return bytes;
  };
  const udp = read("udp", 1_000);
  expect([udp.bytes.length, udp.view.getUint16(0), udp.view.getUint16(2), udp.view.getUint16(4)]).toEqual([
    980, 40_000, 80, 980,
  ]);
  expect(checksum(new Uint8Array([...pseudo(17, 980), ...udp.bytes]))).toBe(0xffff);
  const tcp = read("tcp");
  expect([
    tcp.bytes.length,
    tcp.view.getUint32(4),
    tcp.bytes[12],
    tcp.bytes[13],
    tcp.view.getUint16(14),
  ]).toEqual([20, 7, 0x50, 2, 1024]);
  expect(checksum(new Uint8Array([...pseudo(6, 20), ...tcp.bytes]))).toBe(0xffff);
});
