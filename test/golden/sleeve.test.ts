// Sleeve as the original spoke it: its own datagrams go through our engine, and ours are made of the same frames.
import { describe, expect, test } from "bun:test";
import { nameFromNumber, nameToBytes } from "../../lib/mesh/name.ts";
import {
  FRAGMENT_TEST_SIZE,
  FRAME_HEADER,
  HEARTBEAT_SIZE,
  mtuTestSize,
  packetOverhead,
} from "../../lib/overlay/sleeve/format.ts";
import { EngineHarness } from "../support/engine.ts";
import { capture, type RecordedDatagram, unhex } from "../support/vectors.ts";

const HOSTS = [1, 2, 3];
const name = (host: number) => nameFromNumber(BigInt(host));
const names = new Map(HOSTS.map((host) => [host, nameToBytes(name(host))]));
const hostOf = (address: string) => Number(address.split(":")[0]?.split(".").at(-1));

/** An engine for one host, with links to its neighbours in the chain; `keys` by the other host. */
async function engineOf(host: number, keys: ReadonlyMap<number, { key: Uint8Array; outbound: boolean }>) {
  const harness = await EngineHarness.create(name(host));
  const neighbours = HOSTS.filter((other) => Math.abs(other - host) === 1);
  const next = new Map(
    HOSTS.filter((other) => other !== host).map((other) => [other, host === 2 ? other : 2]),
  );
  harness.configure({
    self: host,
    names,
    next,
    broadcast: new Map(
      HOSTS.map((source) => [source, neighbours.filter((other) => Math.abs(other - source) > 0)]),
    ),
  });
  for (const other of neighbours) {
    const secret = keys.get(other);
    harness.link({
      index: other,
      peer: other,
      name: nameToBytes(name(other)),
      key: secret?.key,
      outbound: secret?.outbound ?? true,
    });
  }
  return harness;
}

/** Whether 2 connected to 1, and 3 to 2. */
const outbound = (host: number, other: number) => host > other;

describe.each(["plain", "password"])("%s", async (kind) => {
  const recorded = await capture(kind);
  const datagrams = recorded.datagrams.filter(({ firstFragmentOnly }) => !firstFragmentOnly);
  const encrypted = recorded.password !== null;
  const cipher = encrypted ? "secretbox" : undefined;

  /** The session key between two hosts: the one that opens their datagrams. */
  async function keyOf({ src, dst, bytes }: RecordedDatagram): Promise<Uint8Array | undefined> {
    const [from, to] = [hostOf(src), hostOf(dst)];
    for (const { session } of recorded.keys) {
      const key = unhex(session);
      const harness = await engineOf(to, new Map([[from, { key, outbound: outbound(to, from) }]]));
      harness.receive(bytes);
      if (harness.counters.all()["undecryptable"] === 0) return key;
    }
    return undefined;
  }

  async function keysOf(host: number) {
    const keys = new Map<number, { key: Uint8Array; outbound: boolean }>();
    if (!encrypted) return keys;
    for (const datagram of datagrams) {
      const [from, to] = [hostOf(datagram.src), hostOf(datagram.dst)];
      if (to !== host || keys.has(from)) continue;
      const key = await keyOf(datagram);
      if (key) keys.set(from, { key, outbound: outbound(host, from) });
    }
    return keys;
  }

  test("every datagram is understood, and none twice", async () => {
    for (const host of HOSTS) {
      const harness = await engineOf(host, await keysOf(host));
      const incoming = datagrams.filter(({ dst }) => hostOf(dst) === host);
      for (const { bytes } of incoming) harness.receive(bytes);
      const counted = harness.counters.all();
      expect(counted).toMatchObject({
        malformed: 0,
        foreign: 0,
        undecryptable: 0,
        replayed: 0,
        unroutable: 0,
        received: incoming.length,
      });
      const lengths = new Set(harness.specials.map(({ length }) => length));
      expect(lengths.has(HEARTBEAT_SIZE)).toBe(true);
      expect(lengths.has(mtuTestSize(encrypted ? 1414 : 1438))).toBe(true);
      if (encrypted) {
        const before = harness.written.length;
        for (const { bytes } of incoming) harness.receive(bytes);
        expect(harness.counters.all()["replayed"]).toBe(incoming.length);
        expect(harness.written.length).toBe(before);
      }
    }
  });

  test("the host in the middle passes on what the original passed on, byte for byte", async () => {
    const harness = await engineOf(2, await keysOf(2));
    for (const from of [1, 3]) {
      const to = 4 - from;
      for (const { bytes, src, dst } of datagrams) {
        if (hostOf(src) === from && hostOf(dst) === 2) harness.receive(bytes);
      }
      const passedOn = new Set(
        datagrams
          .filter(({ src, dst }) => hostOf(src) === 2 && hostOf(dst) === to)
          .map(({ bytes }) => bytes.toHex()),
      );
      const ours = harness.sent.splice(0);
      expect(ours.length).toBeGreaterThan(0);
      // Sealed with sequence numbers of its own, a datagram is another; its length is not.
      const lengths = new Set([...passedOn].map((text) => text.length));
      for (const { bytes } of ours) {
        if (encrypted) expect(lengths.has(bytes.toHex().length)).toBe(true);
        else expect(passedOn.has(bytes.toHex())).toBe(true);
      }
    }
  });

  test("our datagrams of the same frames are the same", async () => {
    for (const { src, dst, bytes } of datagrams) {
      const [from, to] = [hostOf(src), hostOf(dst)];
      const key = encrypted ? await keyOf({ src, dst, bytes, firstFragmentOnly: false }) : undefined;
      const receiver = await engineOf(
        to,
        new Map(key ? [[from, { key, outbound: outbound(to, from) }]] : []),
      );
      const sender = await engineOf(from, new Map(key ? [[to, { key, outbound: outbound(from, to) }]] : []));
      const link = sender.engine.link(to);
      if (!link) throw new Error("no link");
      // Opened in place, the frames of the datagram are there to be read.
      const at = receiver.arena.reserve(bytes.length);
      receiver.arena.bytes.set(bytes, at);
      receiver.engine.received(at, bytes.length, 0, 0);
      const plain = receiver.arena.bytes.slice(at + packetOverhead(cipher), at + bytes.length);
      const df = !encrypted || ((bytes[6] ?? 0) & 0x80) !== 0;
      const stream = df ? link.df : link.fragmentable;
      if (encrypted)
        stream.sequence = Number(
          new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(6) & 0xffff_ffff_ffffn,
        );
      const place = sender.arena.reserve(70_000);
      sender.arena.bytes.set(plain, place);
      for (let p = 0; p < plain.length; ) {
        const length = ((plain[p + 12] ?? 0) << 8) | (plain[p + 13] ?? 0);
        const to = sender.engine.batch.frame(stream, place + p, place + p + 6, length);
        sender.arena.bytes.copyWithin(to, place + p + FRAME_HEADER, place + p + FRAME_HEADER + length);
        p += FRAME_HEADER + length;
      }
      sender.engine.flush();
      expect(sender.sent.map((datagram) => datagram.bytes.toHex())).toEqual([bytes.toHex()]);
    }
  });

  test("our heartbeats and tests are those of the original", async () => {
    const heartbeat = datagrams.find(
      ({ bytes }) => bytes.length === packetOverhead(cipher) + FRAME_HEADER + HEARTBEAT_SIZE,
    );
    if (!heartbeat) throw new Error("not recorded");
    const [from, to] = [hostOf(heartbeat.src), hostOf(heartbeat.dst)];
    const key = encrypted ? await keyOf(heartbeat) : undefined;
    const receiver = await engineOf(to, new Map(key ? [[from, { key, outbound: outbound(to, from) }]] : []));
    receiver.receive(heartbeat.bytes);
    const [seen] = receiver.specials;
    const sender = await engineOf(from, new Map(key ? [[to, { key, outbound: outbound(from, to) }]] : []));
    const link = sender.engine.link(to);
    if (!link || !seen) throw new Error("nothing seen");
    if (encrypted) {
      const view = new DataView(heartbeat.bytes.buffer, heartbeat.bytes.byteOffset);
      link.df.sequence = Number(view.getBigUint64(6) & 0xffff_ffff_ffffn);
    }
    sender.engine.sendSpecial(link, true, HEARTBEAT_SIZE, seen.uid);
    expect(sender.sent[0]?.bytes.toHex()).toBe(heartbeat.bytes.toHex());
    sender.engine.sendSpecial(link, false, FRAGMENT_TEST_SIZE, undefined);
    expect(sender.sent[1]).toMatchObject({ df: false });
    expect(sender.sent[1]?.bytes.length).toBe(packetOverhead(cipher) + FRAME_HEADER + FRAGMENT_TEST_SIZE);
  });
});
