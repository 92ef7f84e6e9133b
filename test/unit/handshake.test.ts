// Handshakes between two routers, in both versions of the protocol, and messages after them.
import { describe, expect, test } from "bun:test";
import { loadNacl, wasmNacl } from "../../lib/crypto/nacl.ts";
import { GobEncoder } from "../../lib/gob/encoder.ts";
import { map, string } from "../../lib/gob/type.ts";
import { type Agreement, type Encryption, Handshake } from "../../lib/mesh/handshake.ts";
import { unframeAll } from "../support/vectors.ts";

const nacl = await loadNacl();
const withPassword = (text: string): Encryption => ({ nacl, password: new TextEncoder().encode(text) });

interface Side {
  readonly encryption?: Encryption | undefined;
  readonly maxVersion?: number;
  readonly minVersion?: number;
}

/** Runs both ends of a handshake against each other; bytes travel in pieces of `piece`. */
function shake(client: Side, server: Side, piece: number): [Agreement, Agreement] {
  const wires: [Uint8Array[], Uint8Array[]] = [[], []];
  const features = (name: string) =>
    new Map([
      ["Name", name],
      ["NickName", "n"],
      ["UID", "1"],
      ["ConnID", "2"],
      ["PeerNameFlavour", "mac"],
      ["Extra", "x"],
    ]);
  const ends = [
    new Handshake({ outbound: true, features: features("client"), ...client }, (bytes) =>
      wires[1].push(bytes),
    ),
    new Handshake({ outbound: false, features: features("server"), ...server }, (bytes) =>
      wires[0].push(bytes),
    ),
  ] as const;
  const agreed: [Agreement | undefined, Agreement | undefined] = [undefined, undefined];
  for (let turn = 0; turn < 1000 && !(agreed[0] && agreed[1]); turn++) {
    for (const side of [0, 1] as const) {
      const pending = Buffer.concat(wires[side].splice(0));
      if (pending.length > piece) wires[side].unshift(pending.subarray(piece));
      if (agreed[side]) wires[side].unshift(pending.subarray(0, piece));
      else agreed[side] = ends[side].receive(pending.subarray(0, piece));
    }
  }
  const [one, two] = agreed;
  if (!one || !two) throw new Error("no agreement");
  return [one, two];
}

describe.each([1, 2])("protocol version %d", (maxVersion) => {
  describe.each([undefined, withPassword("s3cr3t")])("encryption %#", (encryption) => {
    test.each([1, 7, 10_000])("in pieces of %d bytes", (piece) => {
      const [client, server] = shake({ encryption, maxVersion }, { encryption }, piece);
      expect([client.version, server.version]).toEqual([maxVersion, maxVersion]);
      expect(client.features.get("Name")).toBe("server");
      expect(server.features.get("Name")).toBe("client");
      // Version 1 knows a few features only.
      expect(server.features.has("Extra")).toBe(maxVersion === 2);
      expect(client.sessionKey).toEqual(server.sessionKey as Uint8Array);
      expect(client.sessionKey === undefined).toBe(encryption === undefined);
      for (const [from, to] of [
        [client, server],
        [server, client],
      ] as const) {
        for (const text of ["one", "two", ""]) {
          const wire = from.framing.frame(new TextEncoder().encode(text));
          expect(unframeAll(to.framing, wire.subarray(0, wire.length - 1))).toEqual([]);
          expect(to.framing.lengthOf(wire)).toBe(wire.length);
          expect(unframeAll(to.framing, wire).map((message) => new TextDecoder().decode(message))).toEqual([
            text,
          ]);
        }
      }
    });
  });
});

test("different passwords do not agree", () => {
  expect(() => shake({ encryption: withPassword("a") }, { encryption: withPassword("b") }, 1000)).toThrow(
    "Unable to decrypt TCP msg",
  );
});

describe("protocol version 1 with a password", () => {
  const features = new Map([
    ["Name", "00:00:00:00:00:01"],
    ["ConnID", "2"],
  ]);
  const encryption = withPassword("a");
  /** Ours, and what it has sent; theirs offers version 1 alone. */
  function meet(theirs: Encryption) {
    const toOurs: Uint8Array[] = [];
    const toTheirs: Uint8Array[] = [];
    const ours = new Handshake({ outbound: false, features, encryption }, (bytes) => toTheirs.push(bytes));
    const other = new Handshake({ outbound: true, features, encryption: theirs, maxVersion: 1 }, (bytes) =>
      toOurs.push(bytes),
    );
    const turn = () => ours.receive(Buffer.concat(toOurs.splice(0)));
    return { ours, other, turn, toOurs, toTheirs };
  }

  test("features prove nothing; the first message that opens does", () => {
    const { other, turn, toTheirs } = meet(encryption);
    expect(turn()).toBeUndefined();
    other.receive(Buffer.concat(toTheirs.splice(0, 2)));
    // A heartbeat comes behind the features.
    expect(turn()).toMatchObject({ version: 1, first: Uint8Array.of(0) });
  });

  test("whoever has another password gets no further than its features", () => {
    const { other, turn, toTheirs } = meet(withPassword("b"));
    expect(turn()).toBeUndefined();
    other.receive(Buffer.concat(toTheirs.splice(0, 2)));
    expect(turn).toThrow("Unable to decrypt TCP msg");
  });

  test("the first message may be a topology of 200 KiB, which arrives in pieces", () => {
    const topology = new Uint8Array(200 * 1024).fill(3);
    const seal: typeof nacl.seal = (_heartbeat, nonce, key) => nacl.seal(topology, nonce, key);
    const { other, toTheirs, toOurs, ours } = meet({ ...encryption, nacl: { ...nacl, seal } });
    ours.receive(Buffer.concat(toOurs.splice(0)));
    other.receive(Buffer.concat(toTheirs.splice(0, 2)));
    const wire = Buffer.concat(toOurs.splice(0));
    for (let at = 0; at + 4_096 < wire.length; at += 4_096)
      expect(ours.receive(wire.subarray(at, at + 4_096))).toBeUndefined();
    const last = wire.subarray(wire.length - (wire.length % 4_096));
    expect(ours.receive(last)?.first?.length).toBe(topology.length);
  });

  test("a first message without end is refused", () => {
    const ours = new Handshake({ outbound: false, features, encryption }, () => {});
    ours.receive(Uint8Array.of(...new TextEncoder().encode("weave"), 1, 1));
    const clear = new GobEncoder().encode(
      map(string, string),
      new Map([...features, ["PublicKey", nacl.generateKeyPair().publicKey.toHex()]]),
    );
    expect(ours.receive(clear)).toBeUndefined();
    expect(ours.receive(Uint8Array.of(0xfd, 0x9f, 0, 0, 0x0a, 0, 0xfd, 0x9e, 0, 0))).toBeUndefined();
    expect(() => ours.receive(new Uint8Array(2 * 1024 * 1024))).toThrow("handshake too long");
  });
});

test("no key is made for whoever has not said anything", () => {
  let made = 0;
  const counting = {
    ...nacl,
    generateKeyPair() {
      made++;
      return nacl.generateKeyPair();
    },
  };
  const encryption = { nacl: counting, password: new Uint8Array(1) };
  const handshake = new Handshake({ outbound: false, features: new Map(), encryption }, () => {});
  expect(made).toBe(0);
  handshake.receive(Uint8Array.of(...new TextEncoder().encode("weave"), 1, 2));
  expect(made).toBe(1);
});

test("between messages of protocol 1 nothing but messages is taken, and refused by its first bytes", () => {
  const [, server] = shake({ maxVersion: 1 }, {}, 1000);
  // A description of 9 MB begins.
  expect(() => server.framing.lengthOf(Uint8Array.of(0xfd, 0x89, 0x54, 0x40, 0xff, 0x81))).toThrow(
    "not a byte slice",
  );
});

test("descriptions before the features are taken once each, and not without end", () => {
  const handshake = new Handshake({ outbound: false, features: new Map() }, () => {});
  handshake.receive(Uint8Array.of(...new TextEncoder().encode("weave"), 1, 1));
  const description = Uint8Array.of(7, 0xff, 0x81, 2, 2, 2, 0, 0);
  let sent = 0;
  expect(() => {
    for (; sent < 1000; sent++) for (const byte of description) handshake.receive(Uint8Array.of(byte));
  }).toThrow("gob describes too many types");
  expect(sent).toBe(100);
});

test.each([
  [withPassword("a"), undefined, /password specified/],
  [undefined, withPassword("a"), /password specified/],
] as const)("one with a password, one without %#", (client, server, text) => {
  expect(() => shake({ encryption: client }, { encryption: server }, 1000)).toThrow(text);
});

test("a lower bound on versions is kept", () => {
  expect(() => shake({ maxVersion: 1 }, { minVersion: 2 }, 1000)).toThrow("incompatible with ours");
});

test("a message that was tampered with is noticed", () => {
  const encryption = withPassword("s3cr3t");
  const [client, server] = shake({ encryption }, { encryption }, 1000);
  const wire = client.framing.frame(Uint8Array.of(1, 2, 3));
  wire[wire.length - 1] = (wire.at(-1) ?? 0) ^ 1;
  expect(() => server.framing.unframe(wire)).toThrow("Unable to decrypt TCP msg");
});

test("both builds of libsodium agree", async () => {
  const wasm = await wasmNacl();
  for (let i = 0; i < 20; i++) {
    const [ours, theirs] = [nacl.generateKeyPair(), wasm.generateKeyPair()];
    const key = nacl.sharedKey(theirs.publicKey, ours.privateKey);
    expect(key).toEqual(wasm.sharedKey(ours.publicKey, theirs.privateKey));
    const nonce = new Uint8Array(24).fill(i);
    const message = new Uint8Array(i * 100).fill(i);
    expect(nacl.open(wasm.seal(message, nonce, key), nonce, key)).toEqual(message);
    expect(wasm.open(nacl.seal(message, nonce, key), nonce, key)).toEqual(message);
    for (const one of [nacl, wasm]) {
      expect(one.open(one.seal(message, nonce, key), new Uint8Array(24).fill(99), key)).toBeUndefined();
      expect(one.open(new Uint8Array(3), nonce, key)).toBeUndefined();
      // A key of low order is no key.
      expect(() => one.sharedKey(new Uint8Array(32), ours.privateKey)).toThrow();
    }
  }
});
