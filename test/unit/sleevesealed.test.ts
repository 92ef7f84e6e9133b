// What sleeve seals, by each cipher: nonces that are used once, replays, both builds of libsodium.
import { type Pointer, toArrayBuffer } from "bun:ffi";
import { describe, expect, test } from "bun:test";
import { viewOf } from "../../lib/bytes/view.ts";
import { AEGIS_NONCE, type Aegis } from "../../lib/crypto/aegis.ts";
import { type Secretbox, wasmSecretbox } from "../../lib/crypto/secretbox.ts";
import { ReplayWindow, WINDOW } from "../../lib/overlay/sleeve/replay.ts";
import { EngineHarness } from "../support/engine.ts";
import { fc } from "../support/fastcheck.ts";
import { ipv4Frame } from "../support/frames.ts";
import { bytesOf, KEY, name, pair, random } from "../support/sleevepair.ts";

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

const CIPHERS = ["secretbox", "aegis-256"] as const;

describe.each(CIPHERS)("sealed by %s", (cipher) => {
  test("replayed datagrams are counted and dropped, late ones are not", async () => {
    const [a, b] = await pair(cipher);
    for (let i = 0; i < 50; i++) a.capture(1, 2, ipv4Frame(random(50), { id: i }));
    const datagrams = a.sent.map(({ bytes }) => bytes).reverse();
    for (const datagram of datagrams) b.receive(datagram.slice());
    expect(b.frames.length).toBe(50);
    for (const datagram of datagrams) b.receive(datagram.slice());
    expect(b.frames.length).toBe(50);
    expect(b.counters.all()["replayed"]).toBe(50);
  });

  test("what another end of the same connection sealed is not taken for the peer's: each direction has its own nonces", async () => {
    const [a] = await pair(cipher);
    a.capture(1, 2, ipv4Frame(random(50)));
    const own = a.sent[0]?.bytes.slice() ?? new Uint8Array();
    own.set(bytesOf(2), 0);
    a.receive(own);
    expect(a.counters.all()).toMatchObject({ undecryptable: 1, received: 0 });
  });
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

/** 40,000 frames: the edges below are tested whatever the volume. */
const GIGABYTES = Number(process.env["GIGABYTES"] ?? 0.05);
/** Sequence numbers at which a byte or a field overflows: frames are sent on both sides of each. */
const EDGES = [2 ** 16, 2 ** 24, 2 ** 31, 2 ** 32, 2 ** 48];
const AROUND = 1_000;

test.each(CIPHERS)(
  `${GIGABYTES} gigabytes through one connection use no nonce of %s twice`,
  async (cipher) => {
    const last = new Map<string, number>();
    let repeated = 0;
    /** Take the last 8 bytes of a nonce. */
    const note = (view: DataView, at: number) => {
      const stream = view.getUint8(at) & 0x80 ? "df" : "fragmentable";
      const sequence = (view.getUint32(at) & 0x7fff_ffff) * 2 ** 32 + view.getUint32(at + 4);
      if (sequence <= (last.get(stream) ?? -1)) repeated++;
      last.set(stream, sequence);
    };
    const box = async (): Promise<Secretbox> => ({
      kind: "none",
      seal: (_at, _length, nonce) => note(viewOf(nonce), nonce.length - 8),
      open: () => false,
    });
    const aegis = async (): Promise<Aegis> => ({
      seal: (_text, _length, _tag, _head, _headLength, nonce) =>
        note(new DataView(toArrayBuffer(nonce as Pointer, 0, AEGIS_NONCE)), AEGIS_NONCE - 8),
      open: () => false,
    });
    const harness = await EngineHarness.create(name(1), box, aegis);
    harness.configure({
      self: 1,
      names: new Map([1, 2].map((peer) => [peer, bytesOf(peer)])),
      next: new Map([[2, 0]]),
    });
    const link = harness.link({ index: 0, peer: 2, name: bytesOf(2), key: KEY, cipher });
    harness.keepsSent = false;
    const { batch } = harness.engine;
    const names = harness.arena.reserve(64);
    const send = (frames: number) => {
      for (let i = 0; i < frames; i++) {
        batch.frame(i % 4 === 0 ? link.fragmentable : link.df, names, names, 1400);
        if (i % 400 === 0) batch.flush();
      }
      batch.flush();
    };
    send((GIGABYTES * 2 ** 30) / 1400);
    const sum = () => (last.get("df") ?? 0) + (last.get("fragmentable") ?? 0);
    expect(sum()).toBeGreaterThan(700_000 * GIGABYTES);
    for (const edge of EDGES) {
      // Numbers only grow: what is behind an edge already goes on.
      for (const stream of [link.df, link.fragmentable])
        stream.sequence = Math.max(stream.sequence, edge - AROUND / 2);
      send(8 * AROUND);
      for (const stream of ["df", "fragmentable"]) expect(last.get(stream)).toBeGreaterThan(edge);
    }
    expect(repeated).toBe(0);
  },
  300_000,
);
