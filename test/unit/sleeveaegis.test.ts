// AEGIS-256 in sleeve: the bytes on the wire, what is refused, and between whom it is used.
import { describe, expect, test } from "bun:test";
import { createHmac } from "node:crypto";
import sodium from "libsodium-wrappers";
import { concat } from "../../lib/bytes/concat.ts";
import { TAG_LENGTH } from "../../lib/overlay/sleeve/engine.ts";
import {
  type Cipher,
  FRAME_HEADER,
  MAX_DATAGRAM,
  overhead,
  packetOverhead,
} from "../../lib/overlay/sleeve/format.ts";
import { GSO_TCP4, NEEDS_CHECKSUM, VIRTIO_HEADER } from "../../lib/overlay/sleeve/virtio.ts";
import { EngineHarness } from "../support/engine.ts";
import { checksum, ipv4Frame, isSound, tcpFrame } from "../support/frames.ts";
import { overlayNetwork } from "../support/overlaynetwork.ts";
import { bytesOf, chance, completed, KEY, name, pair, random, virtio } from "../support/sleevepair.ts";

await sodium.ready;
const HEAD = 14;
const TAG = 32;

/** HKDF-SHA256 (RFC 5869) without a salt, 32 bytes. */
function hkdf(secret: Uint8Array, info: string): Uint8Array {
  const pseudorandom = createHmac("sha256", new Uint8Array(32)).update(secret).digest();
  return createHmac("sha256", pseudorandom).update(info).update(Uint8Array.of(1)).digest();
}

/** Open a datagram as the text in format.ts says; throws where it is not authentic. */
function openedByHand(datagram: Uint8Array, direction: "dialled" | "accepted"): Uint8Array {
  const nonce = new Uint8Array(32);
  nonce.set(datagram.subarray(6, HEAD), 24);
  const [tag, text] = [datagram.subarray(HEAD, HEAD + TAG), datagram.subarray(HEAD + TAG)];
  const key = hkdf(KEY, `weave sleeve aegis-256 ${direction}`);
  return sodium.crypto_aead_aegis256_decrypt_detached(
    null,
    text,
    tag,
    datagram.subarray(0, HEAD),
    nonce,
    key,
  );
}

/** Peers 1, 2 and 3 in a row: the first link is sealed by AEGIS-256, the second by `cipher` with another key. */
async function relay(cipher: Cipher | undefined) {
  const [a] = await pair("aegis-256");
  const [b, c] = [await EngineHarness.create(name(2)), await EngineHarness.create(name(3))];
  const names = new Map([1, 2, 3].map((peer) => [peer, bytesOf(peer)]));
  b.configure({ self: 2, names, next: new Map([[3, 1]]), nextBySleeve: new Map([[3, 1]]) });
  c.configure({ self: 3, names });
  b.link({ index: 0, peer: 1, name: bytesOf(1), key: KEY, cipher: "aegis-256", outbound: false });
  const sealing = cipher ? { key: random(32), cipher } : { key: undefined };
  b.link({ index: 1, peer: 3, name: bytesOf(3), ...sealing, outbound: true });
  c.link({ index: 0, peer: 2, name: bytesOf(2), ...sealing, outbound: false });
  return [a, b, c] as const;
}

/** Put a frame of peer 1 for 2 where the engine takes it; returns its place and length. */
function staged(harness: EngineHarness, frame: Uint8Array, header: Uint8Array): [number, number] {
  const at = harness.arena.reserve(VIRTIO_HEADER + TAG_LENGTH + frame.length) + 2;
  harness.arena.bytes.set(concat([header, Uint8Array.of(1, 0, 2, 0), frame]), at);
  return [at, VIRTIO_HEADER + TAG_LENGTH + frame.length];
}

describe("on the wire", () => {
  test("name, sequence, tag and sealed frames, with a key of each direction", async () => {
    const [a, b] = await pair("aegis-256");
    for (const [from, self, other, direction] of [
      [a, 1, 2, "dialled"],
      [b, 2, 1, "accepted"],
    ] as const) {
      const frame = ipv4Frame(random(100));
      from.capture(self, other, frame);
      from.capture(self, other, frame);
      const [first = new Uint8Array(), second = new Uint8Array()] = from.sent.map(({ bytes }) => bytes);
      expect(first.subarray(0, 6).toHex()).toBe(bytesOf(self).toHex());
      // The numbers of datagrams with DF and of those without are apart by their first bit.
      expect(first.subarray(6, HEAD).toHex()).toMatch(/^[08]0{15}$/);
      expect(second.subarray(6, HEAD).toHex()).toMatch(/^[08]0{14}1$/);
      const header = concat([bytesOf(self), bytesOf(other), Uint8Array.of(0, frame.length)]);
      expect(openedByHand(first, direction).toHex()).toBe(concat([header, frame]).toHex());
      expect(first.length).toBe(packetOverhead("aegis-256") + FRAME_HEADER + frame.length);
      expect(() => openedByHand(first, direction === "dialled" ? "accepted" : "dialled")).toThrow();
    }
  });

  test("the largest datagram is no longer than UDP takes", async () => {
    const [a, b] = await pair("aegis-256");
    const link = a.engine.link(0);
    const largest = MAX_DATAGRAM - packetOverhead("aegis-256") - FRAME_HEADER;
    for (const [size, sent] of [
      [largest, 1],
      [largest + 1, 0],
    ] as const) {
      a.sent.length = 0;
      if (link) a.engine.sendSpecial(link, false, size, undefined);
      expect(a.sent.length).toBe(sent);
    }
    if (link) a.engine.sendSpecial(link, false, largest, undefined);
    b.receive(...a.sent.map(({ bytes }) => bytes));
    expect(b.specials.map(({ length }) => length)).toEqual([largest]);
  });

  test("a datagram of the path's MTU is full, and the next frame goes into the next one", async () => {
    const [a] = await pair("aegis-256");
    const mtu = 1500 - overhead("aegis-256");
    a.capture(1, 2, ipv4Frame(random(mtu - 20)));
    expect(a.sent.map(({ bytes }) => bytes.length)).toEqual([1500 - 28]);
  });
});

describe("refused", () => {
  test("any other bit, any end that is missing, and any that is added: nothing of it arrives", async () => {
    const [a, b] = await pair("aegis-256");
    const datagrams = () => {
      a.sent.length = 0;
      a.capture(1, 2, ipv4Frame(random(1 + chance.below(300))));
      return a.sent[0]?.bytes ?? new Uint8Array();
    };
    const whole = datagrams();
    // Another name is another peer's; each other bit is authenticated.
    for (let bit = 6 * 8; bit < whole.length * 8; bit += bit < (HEAD + TAG) * 8 ? 1 : 13) {
      const other = whole.slice();
      other[bit >> 3] = (other[bit >> 3] ?? 0) ^ (1 << (bit & 7));
      b.receive(other);
    }
    for (let length = 6; length < whole.length; length++) b.receive(whole.slice(0, length));
    b.receive(concat([whole, Uint8Array.of(0)]));
    expect([b.frames.length, b.counters.all()["received"]]).toEqual([0, 0]);
    b.receive(whole);
    expect(b.frames.length).toBe(1);
    // What was refused has not moved the window: a number far ahead, forged, does not block what follows.
    const forged = datagrams().slice();
    forged.fill(0xff, 7, HEAD);
    b.receive(forged);
    b.receive(datagrams());
    expect(b.frames.length).toBe(2);
  });

  test("lost, reordered and repeated datagrams: each frame of the others arrives once", async () => {
    const [a, b] = await pair("aegis-256");
    const frames = Array.from({ length: 200 }, (_, id) => ipv4Frame(random(40), { id }));
    for (const frame of frames) a.capture(1, 2, frame);
    const arriving = a.sent.flatMap(({ bytes }, i) => (i % 5 === 0 ? [] : [bytes, bytes]));
    for (let i = arriving.length - 1; i > 0; i--) {
      const j = chance.below(i + 1);
      [arriving[i], arriving[j]] = [arriving[j] ?? new Uint8Array(), arriving[i] ?? new Uint8Array()];
    }
    for (const bytes of arriving) b.receive(bytes.slice());
    const want = frames.filter((_, i) => i % 5 !== 0).map((frame) => frame.toHex());
    expect(b.frames.map((frame) => frame.toHex()).toSorted()).toEqual(want.toSorted());
    expect(b.counters.all()["replayed"]).toBe(want.length);
  });

  test("what one cipher has sealed with a session key, the other does not open", async () => {
    const [oldA, oldB] = await pair("secretbox");
    const [newA, newB] = await pair("aegis-256");
    for (const [from, to] of [
      [oldA, newB],
      [newA, oldB],
    ] as const) {
      from.capture(1, 2, ipv4Frame(random(200)));
      to.receive(...from.sent.map(({ bytes }) => bytes));
      expect(to.counters.all()).toMatchObject({ undecryptable: 1, received: 0 });
    }
  });

  test("an engine without the cipher takes no link that needs it", async () => {
    const without = await EngineHarness.create(name(1), undefined, async () => undefined);
    const link = { index: 0, peer: 2, name: bytesOf(2), key: KEY } as const;
    expect(() => without.link({ ...link, cipher: "aegis-256" })).toThrow("cannot seal by AEGIS-256");
    without.link(link);
    const link2 = without.engine.link(0);
    if (link2) without.engine.sendSpecial(link2, true, 22, 1n);
    expect(without.sent.length).toBe(1);
  });
});

describe("super-frames", () => {
  // No two of them share a datagram.
  const SIZE = 900;
  const header = virtio({ flags: NEEDS_CHECKSUM, gsoType: GSO_TCP4, gsoSize: SIZE });
  const partial = (datagram: Uint8Array) => ((datagram[6] ?? 0) & 0x40) !== 0;
  const checksumOf = (frame: Uint8Array) => ((frame[50] ?? 0) << 8) | (frame[51] ?? 0);

  test("go as segments without checksums, apart from frames that have theirs", async () => {
    const [a, b] = await pair("aegis-256");
    const frame = tcpFrame(random(2 * SIZE + 10));
    // Both before the engine sends: they could share a datagram.
    for (const [each, head] of [
      [frame, header],
      [ipv4Frame(random(20)), new Uint8Array(VIRTIO_HEADER)],
      [frame, header],
    ] as const)
      a.engine.captured(...staged(a, each, head));
    a.engine.flush();
    const datagrams = a.sent.map(({ bytes }) => bytes);
    expect(datagrams.map(partial)).toEqual([true, true, false, true, true]);
    const text = openedByHand(datagrams[0] ?? new Uint8Array(), "dialled");
    const first = text.subarray(FRAME_HEADER, FRAME_HEADER + 66 + SIZE);
    const pseudo = checksum(
      first.subarray(26, 34),
      Uint8Array.of(0, 6, (SIZE + 32) >> 8, (SIZE + 32) & 0xff),
    );
    expect(checksumOf(first)).toBe(pseudo);
    b.receive(...datagrams);
    expect(b.written.length).toBe(3);
    expect(b.frames[0]?.subarray(66).toHex()).toBe(frame.subarray(66).toHex());
    for (const bytes of datagrams) b.receive(bytes.slice());
    expect(b.counters.all()).toMatchObject({ received: 5, replayed: 5 });
  });

  test("one segment alone: the kernel is told to complete its checksum", async () => {
    const [a, b] = await pair("aegis-256");
    a.capture(1, 2, tcpFrame(random(3 * SIZE)), header);
    for (const { bytes } of a.sent) b.receive(bytes);
    expect(b.written.length).toBe(a.sent.length);
    for (const written of b.written) {
      expect([isSound(written.subarray(VIRTIO_HEADER)), isSound(completed(written))]).toEqual([false, true]);
    }
  });

  test("are merged with segments whose checksums are right, and with no others", async () => {
    for (const [damaged, count] of [
      [false, 1],
      [true, 2],
    ] as const) {
      const [a, b] = await pair("aegis-256");
      const payload = random(3 * SIZE);
      const next = tcpFrame(payload.subarray(2 * SIZE), { sequence: 1000 + 2 * SIZE, id: 9 });
      if (damaged) next[100] = (next[100] ?? 0) ^ 1;
      a.capture(1, 2, tcpFrame(payload.subarray(0, 2 * SIZE)), header);
      a.capture(1, 2, next);
      b.receive(...a.sent.map(({ bytes }) => bytes));
      expect(b.written.length).toBe(count);
    }
  });

  test.each(["secretbox", "aegis-256", undefined] as const)(
    "relayed to a neighbour (%s), their segments have checksums",
    async (cipher) => {
      const [a, b, c] = await relay(cipher);
      const payload = random(3 * SIZE);
      a.capture(1, 3, tcpFrame(payload), header);
      b.receive(...a.sent.map(({ bytes }) => bytes));
      expect(b.counters.all()).toMatchObject({ received: a.sent.length, malformed: 0 });
      for (const { bytes } of b.sent) c.receive(bytes.slice());
      const frames = c.written.map(completed);
      expect(Buffer.concat(frames.map((frame) => frame.subarray(66))).toString("hex")).toBe(payload.toHex());
      for (const frame of c.frames) expect(isSound(frame)).toBe(true);
    },
  );

  test("a peer that marks anything else so: it is malformed, and harms nothing", async () => {
    const [a, b] = await pair("aegis-256");
    const link = a.engine.link(0);
    if (!link) throw new Error("no link");
    const send = (frame: Uint8Array) => {
      const names = a.arena.reserve(12);
      a.arena.bytes.set([...bytesOf(1), ...bytesOf(2)], names);
      a.arena.bytes.set(frame, a.engine.batch.frame(link.df, names, names + 6, frame.length, true));
      a.engine.flush();
      b.receive(...a.sent.splice(0).map(({ bytes }) => bytes));
    };
    const segment = tcpFrame(random(100));
    const longer = concat([segment, Uint8Array.of(0)]);
    const wrongs = [ipv4Frame(random(100)), longer, segment.slice(0, 60), random(14), random(200)];
    for (const frame of wrongs) send(frame);
    for (let i = 0; i < 2_000; i++) {
      const frame = segment.slice(0, i % 3 === 0 ? 14 + chance.below(segment.length - 14) : segment.length);
      for (let k = 0; k < 3; k++) frame[12 + chance.below(frame.length - 12)] = chance.below(256);
      send(frame);
    }
    const { malformed = 0, errors } = b.counters.all();
    expect([malformed >= wrongs.length, errors]).toEqual([true, 0]);
    b.written.length = 0;
    send(segment);
    expect(b.written.length).toBe(1);
  });
});

test("a relay opens what one neighbour has sealed by one cipher, and seals it by the other's", async () => {
  const [a, b, c] = await relay("secretbox");
  const frame = tcpFrame(random(900));
  a.capture(1, 3, frame);
  b.receive(...a.sent.map(({ bytes }) => bytes));
  c.receive(...b.sent.map(({ bytes }) => bytes));
  expect(c.frames.map((bytes) => bytes.toHex())).toEqual([frame.toHex()]);
});

describe("used between peers that both offer it", () => {
  const SESSION = new Uint8Array(32).fill(3);
  const OFFER = ["SleeveCipher", "aegis-256"] as const;

  /** The cipher of a new connection, and what status says of it. */
  function connected(here: boolean, there: readonly (readonly [string, string])[], key?: Uint8Array) {
    const network = overlayNetwork(undefined, { aegis: here });
    const connection = network.connect({ sessionKey: key, features: [["Overlays", "sleeve"], ...there] });
    const added = network.engines[0]?.told.find((message) => message.type === "add");
    return { ...network, connection, params: added?.type === "add" ? added.params : undefined };
  }

  test("and by no others", () => {
    for (const [here, there, key, cipher] of [
      [true, [OFFER], SESSION, "aegis-256"],
      [false, [OFFER], SESSION, "secretbox"],
      [true, [], SESSION, "secretbox"],
      [true, [["SleeveCipher", "aegis-512"]], SESSION, "secretbox"],
      [true, [OFFER], undefined, undefined],
    ] as const) {
      const { params, connection, overlay } = connected(here, there, key);
      expect([params?.cipher, params?.key]).toEqual([cipher, key]);
      expect(overlay.features()["SleeveCipher"]).toBe(here ? "aegis-256" : undefined);
      expect(connection.attributes()["cipher"]).toBe(cipher === "aegis-256" ? cipher : undefined);
    }
  });

  test("from the next connection on, where the peer is restarted with or without it", () => {
    const network = overlayNetwork(undefined, { aegis: true });
    const ciphers = [[], [OFFER], []].map((offer) => {
      const connection = network.connect({
        sessionKey: SESSION,
        features: [["Overlays", "sleeve"], ...offer],
      });
      const added = network.engines[0]?.told.findLast((message) => message.type === "add");
      connection.stop();
      return added?.type === "add" ? added.params.cipher : undefined;
    });
    expect(ciphers).toEqual(["secretbox", "aegis-256", "secretbox"]);
  });

  test("an engine that lacks it, against expectation: it is offered no more", () => {
    const { overlay, engines } = overlayNetwork(undefined, { aegis: true });
    engines[0]?.say({ type: "ready", crypto: "native", aegis: true });
    expect(overlay.features()["SleeveCipher"]).toBe("aegis-256");
    engines[0]?.say({ type: "ready", crypto: "wasm", aegis: false });
    expect(overlay.features()["SleeveCipher"]).toBeUndefined();
  });
});
