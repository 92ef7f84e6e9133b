// Two of ours shake hands, in both versions of the protocol, and go on talking.
import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { loadNacl } from "../../lib/crypto/nacl.ts";
import { type Agreement, type Encryption, Handshake } from "../../lib/mesh/handshake.ts";
import { ReceiveBuffer } from "../../lib/mesh/receivebuffer.ts";

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
          expect(to.framing.unframe(wire.subarray(0, wire.length - 1))).toBeUndefined();
          const next = to.framing.unframe(wire);
          expect(new TextDecoder().decode(next?.message)).toBe(text);
          expect(next?.length).toBe(wire.length);
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

describe("the receive buffer", () => {
  test("gives back what was put in, whatever the pieces", () => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.uint8Array({ maxLength: 9000 }), fc.nat(9000)), { maxLength: 30 }),
        (steps) => {
          const buffer = new ReceiveBuffer();
          let model = new Uint8Array();
          for (const [piece, taken] of steps) {
            buffer.push(piece);
            model = new Uint8Array(Buffer.concat([model, piece]));
            const length = Math.min(taken, model.length);
            expect(Buffer.compare(buffer.waiting, model)).toBe(0);
            buffer.take(length);
            model = model.slice(length);
          }
          expect(Buffer.compare(buffer.waiting, model)).toBe(0);
        },
      ),
    );
  });

  test("copies a long message a few times, not once for each of its pieces", () => {
    const buffer = new ReceiveBuffer();
    const seen = new Set<ArrayBufferLike>();
    for (let i = 0; i < 10_000; i++) {
      buffer.push(new Uint8Array(1000));
      seen.add(buffer.waiting.buffer);
    }
    expect(buffer.waiting.length).toBe(10_000_000);
    expect(seen.size).toBeLessThan(16);
  });
});
