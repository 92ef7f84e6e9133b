// The programs of the flow cache on frames of our own (BPF_PROG_TEST_RUN): which take the fast path, and with what bytes.
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import { liftMemoryLimit } from "../../lib/bpf/bpf.ts";
import { loadProgram, type Program, testRun as runOnce } from "../../lib/bpf/program.ts";
import { closePortMaps, createPortMaps, type PortMaps } from "../../lib/host/ports/maps.ts";
import { portProgram } from "../../lib/host/ports/program.ts";
import { closeMaps, createMaps, type DatapathMaps, NEW_NEIGHBOUR } from "../../lib/overlay/datapath/maps.ts";
import { egressProgram } from "../../lib/overlay/datapath/programs/egress.ts";
import { arrivalProgram } from "../../lib/overlay/flowcache/arrival.ts";
import { LIFETIME_NS } from "../../lib/overlay/flowcache/flow.ts";
import { leaveFast } from "../../lib/overlay/flowcache/leave.ts";
import {
  CONTROL,
  closeFlowMaps,
  createFlowMaps,
  FLOW,
  type FlowMaps,
  FROM,
  IN,
  MODE,
  OUT,
  PATH,
} from "../../lib/overlay/flowcache/maps.ts";
import { networkIdentifier } from "../../lib/overlay/vxlan.ts";
import { monotonicNow } from "../../lib/sys/clocks.ts";
import { checksum } from "../support/frames.ts";
import { isRoot } from "../support/newnetns.ts";

/** Test runs have the loopback link. */
const LINK = 1;
const REDIRECT = 7;
const GENERATION = 5;
const [SELF, PEER] = [9, 300];
const NEIGHBOUR = 0x0a63_0002;
const OUTER = 50;
/** The programs read the time of the last tick of the kernel. */
const TICK_NS = 11_000_000n;

let maps: FlowMaps;
let datapath: DatapathMaps;
let portMaps: PortMaps;
let leave: Program;
let arrive: Program;
let egress: Program;

describe.if(isRoot)("the programs of the flow cache", () => {
  beforeAll(() => {
    liftMemoryLimit();
    [maps, datapath, portMaps] = [createFlowMaps(), createMaps(), createPortMaps()];
    const remote = { fd: datapath.macs.fd, peerAt: 0, timeAt: 8, self: SELF };
    const { instructions } = portProgram(portMaps, remote, false, (asm) =>
      leaveFast(asm, maps, datapath.neighbours),
    );
    leave = loadProgram("leave", instructions);
    arrive = loadProgram("arrive", arrivalProgram(maps, datapath, { port: 6784, self: SELF }));
    const links = { self: SELF, port: LINK, tap: LINK };
    egress = loadProgram("egress", egressProgram(datapath, { ...links, callbacks: true, flow: maps }));
    datapath.macs.set("02:00:00:00:00:02", { peer: PEER, seen: 0n });
    datapath.routes.set(PEER, NEIGHBOUR);
    maps.control.set(CONTROL.overlay, LINK);
    maps.control.set(CONTROL.generation, GENERATION);
    maps.control.set(CONTROL.mode, MODE.on);
    maps.ports.set(LINK, { sentPackets: 0n, sentBytes: 0n, receivedPackets: 0n, receivedBytes: 0n });
    datapath.neighbours.set(NEIGHBOUR, NEW_NEIGHBOUR);
  });

  afterAll(() => {
    for (const program of [leave, arrive, egress]) program.close();
    closeFlowMaps(maps);
    closeMaps(datapath);
    closePortMaps(portMaps);
  });

  interface Changes {
    readonly tos?: number;
    readonly flags?: number;
    readonly ttl?: number;
    readonly fragment?: number;
    readonly protocol?: number;
    readonly ihl?: number;
    readonly length?: number;
    readonly mac?: number;
  }

  /** A frame of a container: TCP 10.32.0.1:1000 -> 10.40.0.1:2000. */
  function packet(changes: Changes = {}): Uint8Array {
    const {
      tos = 0,
      flags = 0x10,
      ttl = 64,
      fragment = 0x4000,
      protocol = 6,
      ihl = 5,
      length = 20,
      mac = 2,
    } = changes;
    const bytes = new Uint8Array(14 + 20 + 20 + length);
    const view = new DataView(bytes.buffer);
    bytes.set([mac, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0, 0x40 | ihl, tos]);
    view.setUint16(16, bytes.length - 14);
    view.setUint16(20, fragment);
    bytes.set([ttl, protocol], 22);
    bytes.set([10, 32, 0, 1, 10, 40, 0, 1], 26);
    view.setUint16(34, 1000);
    view.setUint16(36, 2000);
    view.setUint8(46, 0x50);
    view.setUint8(47, flags);
    return bytes;
  }

  const key = (protocol = 6) => {
    const bytes = new Uint8Array(FLOW.size);
    bytes.set(packet().subarray(26, 38), FLOW.source);
    bytes[FLOW.protocol] = protocol;
    return bytes;
  };

  /** The outer headers of a packet of that length, TOS and destination peer. */
  function outer(inner: Uint8Array, tos: number, from: number, to: number): Uint8Array {
    const bytes = new Uint8Array(OUTER);
    const view = new DataView(bytes.buffer);
    // To the link's own address: other frames are not for this host.
    bytes.set([0, 0, 0, 0, 0, 0, 6, 6, 6, 6, 6, 6, 8, 0, 0x45, tos]);
    view.setUint16(16, 36 + inner.length);
    view.setUint16(20, 0x4000);
    bytes.set([64, 17], 22);
    bytes.set(from === SELF ? [10, 99, 0, 1, 10, 99, 0, 2] : [10, 99, 0, 2, 10, 99, 0, 1], 26);
    view.setUint16(24, ~checksum(bytes.subarray(14, 34)) & 0xffff);
    view.setUint16(34, 40_000);
    view.setUint16(36, 6784);
    view.setUint16(38, 16 + inner.length);
    view.setUint32(42, 0x0800_0000);
    view.setUint32(46, networkIdentifier(from, to) * 256);
    return bytes;
  }

  const encapsulated = (inner: Uint8Array, tos = 0, from = SELF, to = PEER) =>
    new Uint8Array([...outer(inner, tos, from, to), ...inner]);

  /** The packet with another byte, and the sum of its outer IP header right again. */
  function altered(bytes: Uint8Array, at: number, value: number): Uint8Array {
    const frame = bytes.with(at, value);
    const header = frame.subarray(14, 34);
    header.set([0, 0], 10);
    new DataView(frame.buffer).setUint16(24, ~checksum(header) & 0xffff);
    return frame;
  }

  /** Packets that the kernel drops, or mends first. */
  const UNSOUND: readonly [string, (frame: Uint8Array) => Uint8Array][] = [
    ["a wrong sum of the IP header", (frame) => frame.with(25, (frame[25] ?? 0) ^ 1)],
    ["a checksum of UDP", (frame) => frame.with(41, 1)],
    ["a shorter IP packet than the frame", (frame) => altered(frame, 17, (frame[17] ?? 0) - 1)],
    ["a longer IP packet than the frame", (frame) => altered(frame, 17, (frame[17] ?? 0) + 1)],
    ["a shorter UDP datagram than the packet", (frame) => frame.with(39, (frame[39] ?? 0) - 1)],
    ["a longer UDP datagram than the packet", (frame) => frame.with(39, (frame[39] ?? 0) + 1)],
    ["a value in the reserved byte of VXLAN", (frame) => frame.with(49, 1)],
  ];

  /** What is cached, unless it is old on purpose, and when it was. */
  let fresh: { cache: () => void; at: bigint } | undefined;
  const cached = (at: bigint | undefined, cache: () => void) => {
    fresh = at === undefined ? { cache, at: monotonicNow() } : undefined;
  };

  /** Run a program; again where it was so late on a busy machine that the flow was too old. */
  function testRun(program: Program, bytes: Uint8Array): ReturnType<typeof runOnce> {
    for (;;) {
      const result = runOnce(program, bytes);
      const late = fresh && monotonicNow() - fresh.at > BigInt(LIFETIME_NS) - 2n * TICK_NS;
      if (!late || result.verdict === REDIRECT) return result;
      fresh?.cache();
    }
  }

  interface Entry {
    readonly at?: bigint;
    readonly generation?: number;
    readonly limit?: number;
    readonly port?: number;
  }

  /** Cache the flow as the slow path does. */
  function cacheOut(changes: Entry = {}): void {
    maps.out.set(key(), outEntry(changes));
    cached(changes.at, () => cacheOut(changes));
  }

  /** Record the path to the neighbour as the slow path does. */
  function noteTo(changes: Entry = {}): void {
    maps.to.set(NEIGHBOUR, outEntry({ limit: 74, ...changes }));
    cached(changes.at, () => noteTo(changes));
  }

  function outEntry(changes: Entry): Uint8Array {
    const { at = monotonicNow() - TICK_NS, generation = GENERATION, limit = 60, port = LINK } = changes;
    const bytes = new Uint8Array(OUT.size);
    const view = new DataView(bytes.buffer);
    const headers = encapsulated(packet()).slice(0, 64);
    for (const i of [16, 17, 24, 25, 38, 39]) headers[i] = 0;
    bytes.set(headers, OUT.headers);
    let sum = 0;
    for (let i = 14; i < 34; i += 2) sum += new DataView(headers.buffer).getUint16(i, true);
    view.setBigUint64(OUT.at, at, true);
    view.setUint32(OUT.generation, generation, true);
    view.setUint32(OUT.path, PATH.direct, true);
    view.setUint32(OUT.link, LINK, true);
    view.setUint32(OUT.limit, limit, true);
    view.setUint32(OUT.remote, NEIGHBOUR, true);
    view.setUint32(OUT.identifier, networkIdentifier(SELF, PEER), true);
    view.setUint32(OUT.sum, sum, true);
    view.setUint32(OUT.port, port, true);
    return bytes;
  }

  interface Path {
    readonly at?: bigint;
    readonly noted?: bigint;
    readonly generation?: number;
    readonly link?: number;
    readonly to?: number;
    readonly sender?: number;
    readonly ttl?: number;
  }

  /** Note the path from the neighbour as the slow path does. */
  function noteFrom(changes: Path = {}): void {
    const { at = monotonicNow() - TICK_NS, generation = GENERATION, link = LINK, to = 1 } = changes;
    const { noted = at, sender = 6, ttl = 64 } = changes;
    const bytes = new Uint8Array(FROM.size);
    const view = new DataView(bytes.buffer);
    view.setBigUint64(FROM.at, at, true);
    view.setBigUint64(FROM.noted, noted, true);
    view.setUint32(FROM.generation, generation, true);
    view.setUint32(FROM.link, link, true);
    bytes.set([10, 99, 0, to], FROM.destination);
    bytes.set([6, 6, 6, 6, 6, sender], FROM.sender);
    bytes[FROM.ttl] = ttl;
    maps.from.set(NEIGHBOUR, bytes);
    cached(changes.at, () => noteFrom(changes));
  }

  function cacheIn(changes: { at?: bigint; generation?: number } = {}): void {
    const { at = monotonicNow() - TICK_NS, generation = GENERATION } = changes;
    const bytes = new Uint8Array(IN.size);
    const view = new DataView(bytes.buffer);
    const headers = encapsulated(packet(), 0, PEER, SELF);
    view.setBigUint64(IN.at, at, true);
    view.setUint32(IN.generation, generation, true);
    view.setUint32(IN.port, LINK, true);
    view.setUint32(IN.limit, 60, true);
    bytes.set(headers.subarray(46, 50), IN.identifier);
    bytes.set(headers.subarray(26, 30), IN.source);
    bytes.set(headers.subarray(30, 34), IN.destination);
    view.setUint32(IN.link, LINK, true);
    bytes.set(headers.subarray(50, 64), IN.ethernet);
    maps.in.set(key(), bytes);
    cached(changes.at, () => cacheIn(changes));
  }

  const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString("hex");
  const old = () => monotonicNow() - BigInt(LIFETIME_NS) - 20_000_000n;

  describe("a packet of a container", () => {
    test.each([
      [0, 0],
      [1, 1],
      [2, 2],
      [3, 2],
      [0xb9, 1],
    ])("with TOS %i leaves as the kernel would write it, with ECN %i outside", (tos, ecn) => {
      cacheOut();
      const { verdict, frame } = testRun(leave, packet({ tos }));
      expect(verdict).toBe(REDIRECT);
      expect(hex(frame)).toBe(hex(encapsulated(packet({ tos }), ecn)));
    });

    test("is counted for its neighbour and its port", () => {
      cacheOut();
      const before = [datapath.neighbours.get(NEIGHBOUR)?.sent ?? 0n, maps.ports.get(LINK)?.sentBytes ?? 0n];
      testRun(leave, packet());
      const after = [datapath.neighbours.get(NEIGHBOUR)?.sent ?? 0n, maps.ports.get(LINK)?.sentBytes ?? 0n];
      expect(after.map((count, i) => count - (before[i] ?? 0n))).toEqual([74n, 74n]);
    });

    test.each<[string, Changes]>([
      ["SYN", { flags: 0x02 }],
      ["FIN", { flags: 0x11 }],
      ["RST", { flags: 0x04 }],
      ["TTL 1", { ttl: 1 }],
      ["a first fragment", { fragment: 0x2000 }],
      ["a later fragment", { fragment: 0x0010 }],
      ["options", { ihl: 6 }],
      ["ICMP", { protocol: 1 }],
      ["UDP of the same addresses", { protocol: 17 }],
      ["a longer packet", { length: 21 }],
      ["another Ethernet address", { mac: 4 }],
    ])("takes the slow path: %s", (_what, changes) => {
      cacheOut();
      const { verdict, frame } = testRun(leave, packet(changes));
      expect(verdict).not.toBe(REDIRECT);
      expect(hex(frame)).toBe(hex(packet(changes)));
    });

    test.each<[string, Parameters<typeof cacheOut>[0]]>([
      ["an old entry", { at: 1n }],
      ["another generation", { generation: 6 }],
      ["another port", { port: 77 }],
    ])("takes the slow path: %s", (_what, entry) => {
      cacheOut(entry?.at === undefined ? entry : { at: old() });
      expect(testRun(leave, packet()).verdict).not.toBe(REDIRECT);
    });
  });

  describe("a VXLAN packet", () => {
    const from = (inner = packet(), tos = 0) => encapsulated(inner, tos, PEER, SELF);

    test("of a cached flow goes into the container without its outer headers", () => {
      cacheIn();
      const { verdict, frame } = testRun(arrive, from());
      expect(verdict).toBe(REDIRECT);
      expect(hex(frame)).toBe(hex(packet()));
    });

    const changed = (at: number, value: number) => altered(from(), at, value);

    test.each(UNSOUND)("takes the slow path: %s", (_what, change) => {
      cacheIn();
      const { verdict, frame } = testRun(arrive, change(from()));
      expect(verdict).not.toBe(REDIRECT);
      expect(hex(frame)).toBe(hex(change(from())));
    });

    test.each<[string, () => Uint8Array]>([
      ["congestion experienced outside", () => from(packet(), 3)],
      ["from a host that is no neighbour", () => changed(29, 77)],
      ["to another address", () => changed(33, 77)],
      ["of another peer", () => encapsulated(packet(), 0, PEER + 1, SELF)],
      ["for another peer", () => encapsulated(packet(), 0, PEER, SELF + 1)],
      ["to another UDP port", () => changed(37, 1)],
      ["with another flag", () => changed(42, 0x0c)],
      ["for another Ethernet address", () => from(packet({ mac: 4 }))],
      ["a longer packet", () => from(packet({ length: 21 }))],
      ["RST", () => from(packet({ flags: 4 }))],
    ])("takes the slow path: %s", (_what, make) => {
      cacheIn();
      const { verdict, frame } = testRun(arrive, make());
      expect(verdict).not.toBe(REDIRECT);
      expect(hex(frame)).toBe(hex(make()));
    });

    test("takes the slow path where the entry is old, or of another generation", () => {
      cacheIn({ at: old() });
      expect(testRun(arrive, from()).verdict).not.toBe(REDIRECT);
      cacheIn({ generation: 6 });
      expect(testRun(arrive, from()).verdict).not.toBe(REDIRECT);
      // Nor has the packet made it valid: only what gets to the port does.
      expect(testRun(arrive, from()).verdict).not.toBe(REDIRECT);
    });
  });

  const SYN: Changes = { flags: 0x02 };

  describe("a frame of no cached flow", () => {
    beforeEach(() => {
      for (const [mac, peer] of [
        ["02:00:00:00:00:02", PEER],
        ["02:00:00:00:00:01", SELF],
      ] as const)
        datapath.macs.set(mac, { peer, seen: 0n });
      for (const flow of [key(), key(17)]) maps.out.delete(flow);
    });

    const sourcePort = (frame: Uint8Array) => new DataView(frame.buffer).getUint16(34);
    const withoutPort = (frame: Uint8Array) => hex(frame.with(34, 0).with(35, 0));

    test.each([0, 1, 3])("leaves as the kernel would write it, with TOS %i", (tos) => {
      noteTo();
      const { verdict, frame } = testRun(egress, packet({ ...SYN, tos }));
      expect(verdict).toBe(REDIRECT);
      expect(withoutPort(frame)).toBe(
        withoutPort(encapsulated(packet({ ...SYN, tos }), tos === 3 ? 2 : tos)),
      );
      expect(sourcePort(frame)).toBeGreaterThanOrEqual(32_768);
      expect(sourcePort(frame)).toBeLessThan(61_000);
    });

    test("has the source port of its flow, and another flow has another", () => {
      const ports = (source: number) => {
        const frame = packet(SYN);
        frame[34] = source;
        noteTo();
        return sourcePort(testRun(egress, frame).frame);
      };
      expect(ports(1)).toBe(ports(1));
      expect(new Set(Array.from({ length: 20 }, (_, i) => ports(i))).size).toBeGreaterThan(10);
    });

    test("is counted for its neighbour", () => {
      noteTo();
      const before = datapath.neighbours.get(NEIGHBOUR)?.sent ?? 0n;
      testRun(egress, packet(SYN));
      expect((datapath.neighbours.get(NEIGHBOUR)?.sent ?? 0n) - before).toBe(74n);
    });

    test.each<[string, Entry, Changes]>([
      ["an old path", { at: 1n }, SYN],
      ["a path of another generation", { generation: 6 }, SYN],
      ["a longer frame", {}, { ...SYN, length: 21 }],
    ])("takes the slow path: %s", (_what, entry, changes) => {
      noteTo(entry.at === undefined ? entry : { at: old() });
      const { verdict, frame } = testRun(egress, packet(changes));
      expect(verdict).toBe(0);
      expect(hex(frame)).toBe(hex(packet(changes)));
    });

    test("has a source port of the range that the kernel would choose from", () => {
      const narrow = { first: 20_000, count: 3 };
      const links = { self: SELF, port: LINK, tap: LINK, callbacks: true };
      const program = loadProgram(
        "egress",
        egressProgram(datapath, { ...links, flow: maps, sourcePorts: narrow }),
      );
      noteTo();
      const { frame } = testRun(program, packet(SYN));
      program.close();
      expect(sourcePort(frame) - narrow.first).toBeLessThan(narrow.count);
      expect(sourcePort(frame)).toBeGreaterThanOrEqual(narrow.first);
    });

    test("takes the slow path: another type of frame", () => {
      noteTo();
      const arp = packet(SYN).with(13, 6);
      expect(testRun(egress, arp).verdict).toBe(0);
    });
  });

  describe("a VXLAN packet of no cached flow", () => {
    const syn = (inner = packet(SYN), tos = 0) => encapsulated(inner, tos, PEER, SELF);
    beforeEach(() => {
      datapath.macs.set("02:00:00:00:00:02", { peer: SELF, seen: 0n });
      datapath.macs.set("02:00:00:00:00:01", { peer: PEER, seen: 0n });
      for (const flow of [key(), key(17)]) maps.in.delete(flow);
    });

    test("goes to the bridge without its outer headers, and counts as a sign of life", () => {
      noteFrom();
      const before = datapath.neighbours.get(NEIGHBOUR)?.received ?? 0n;
      const { verdict, frame } = testRun(arrive, syn());
      expect(verdict).toBe(REDIRECT);
      expect(hex(frame)).toBe(hex(packet(SYN)));
      expect((datapath.neighbours.get(NEIGHBOUR)?.received ?? 0n) - before).toBe(74n);
      expect(datapath.macs.get("02:00:00:00:00:01")?.seen).toBeGreaterThan(0n);
    });

    test("is recorded for its flow with the time of the path", () => {
      const at = monotonicNow() - TICK_NS;
      noteFrom({ at });
      const { verdict } = runOnce(arrive, encapsulated(packet(), 0, PEER, SELF));
      const entry = maps.in.get(key());
      const field = (offset: number) =>
        new DataView(entry?.buffer ?? new ArrayBuffer(64)).getBigUint64(offset, true);
      expect(field(IN.at)).toBe(0n);
      // Unless the test was held up until the path was too old.
      expect(field(IN.since)).toBe(verdict === REDIRECT ? at : 0n);
    });

    test.each<[string, Path, () => Uint8Array]>([
      ["an old path", { at: 1n }, syn],
      ["a path of another generation", { generation: 6 }, syn],
      ["a path by another link", { link: 77 }, syn],
      ["a path to another address", { to: 77 }, syn],
      ["a path from another Ethernet address", { sender: 77 }, syn],
      ["a path with another TTL", { ttl: 63 }, syn],
      ...UNSOUND.map(
        ([what, change]) => [what, {}, () => change(syn())] satisfies [string, object, () => Uint8Array],
      ),
      ["congestion experienced outside", {}, () => syn(packet(SYN), 3)],
      ["of a host that is no neighbour", {}, () => altered(syn(), 29, 77)],
      ["for another peer", {}, () => encapsulated(packet(SYN), 0, PEER, SELF + 1)],
      ["from an address of another peer", {}, () => encapsulated(packet(SYN), 0, PEER + 1, SELF)],
      ["to an address that is not on this host", {}, () => syn(packet({ ...SYN, mac: 4 }))],
      ["another EtherType", {}, () => syn(packet(SYN).with(13, 6))],
    ])("takes the slow path: %s", (_what, entry, make) => {
      noteFrom(entry.at === undefined ? entry : { at: old() });
      const { verdict, frame } = testRun(arrive, make());
      expect(verdict).not.toBe(REDIRECT);
      expect(hex(frame)).toBe(hex(make()));
    });

    const path = () => {
      const view = new DataView((maps.from.get(NEIGHBOUR) ?? new Uint8Array(FROM.size)).buffer);
      return {
        at: view.getBigUint64(FROM.at, true),
        link: view.getUint32(FROM.link, true),
        noted: view.getBigUint64(FROM.noted, true),
      };
    };

    const flowPath = () => {
      const view = new DataView((maps.in.get(key()) ?? new Uint8Array(IN.size)).buffer);
      return { at: view.getBigUint64(IN.at, true), link: view.getUint32(IN.link, true) };
    };

    test("replaces the path of a stale flow only by a path that the slow path has confirmed", () => {
      const at = old();
      const stale = () => {
        cacheIn({ at });
        const entry = maps.in.get(key()) ?? new Uint8Array(IN.size);
        new DataView(entry.buffer).setUint32(IN.link, 77, true);
        maps.in.set(key(), entry);
      };
      stale();
      maps.from.delete(NEIGHBOUR);
      runOnce(arrive, encapsulated(packet(), 0, PEER, SELF));
      expect(flowPath()).toEqual({ at, link: 77 });
      // Until the test is not held up for so long that the path is too old.
      do {
        stale();
        noteFrom();
      } while (runOnce(arrive, encapsulated(packet(), 0, PEER, SELF)).verdict !== REDIRECT);
      expect(flowPath()).toEqual({ at: 0n, link: LINK });
    });

    test("records an unconfirmed path where none is known", () => {
      maps.from.delete(NEIGHBOUR);
      testRun(arrive, syn());
      expect(path()).toMatchObject({ at: 0n, link: LINK });
    });

    test("replaces a stale path by another link, but not a live one", () => {
      noteFrom({ link: 77 });
      const { at } = path();
      testRun(arrive, syn());
      expect(path()).toMatchObject({ at, link: 77 });
      noteFrom({ link: 77, at: old() });
      testRun(arrive, syn());
      expect(path()).toMatchObject({ at: 0n, link: LINK });
    });

    test("that may confirm a path keeps others from taking it over meanwhile", () => {
      noteFrom({ at: old() });
      const start = monotonicNow() - TICK_NS;
      runOnce(arrive, syn());
      expect(path().noted).toBeGreaterThanOrEqual(start);
      const noted = monotonicNow() - TICK_NS;
      noteFrom({ link: 77, at: old(), noted });
      runOnce(arrive, syn());
      expect(path()).toMatchObject({ link: 77, noted });
    });
  });
});
