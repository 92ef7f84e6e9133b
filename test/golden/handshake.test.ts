// The original's control connections, replayed: our handshake has to say what the original said, byte for byte.
import { describe, expect, test } from "bun:test";
import { createHash } from "node:crypto";
import { formSessionKey, type KeyPair, loadNacl, type Nacl } from "../../lib/crypto/nacl.ts";
import { GobReader } from "../../lib/gob/decoder.ts";
import { GobEncoder } from "../../lib/gob/encoder.ts";
import { map, string } from "../../lib/gob/type.ts";
import { parseFeatures } from "../../lib/mesh/features.ts";
import { lengthPrefixed, sealed } from "../../lib/mesh/framing.ts";
import { type Agreement, Handshake } from "../../lib/mesh/handshake.ts";
import { capture, hex, plainMessages, unframeAll, unhex } from "../support/vectors.ts";

const nacl = await loadNacl();
const plain = await capture("plain");
const password = await capture("password");
const FEATURES = map(string, string);

function replay(options: {
  outbound: boolean;
  theirs: Uint8Array;
  features: Map<string, string>;
  keys?: KeyPair;
}): {
  sent: Uint8Array;
  agreement: Agreement | undefined;
} {
  const sent: Uint8Array[] = [];
  const { keys } = options;
  const fixed: Nacl | undefined = keys && { ...nacl, generateKeyPair: () => keys };
  const handshake = new Handshake(
    {
      outbound: options.outbound,
      features: options.features,
      encryption: fixed && { nacl: fixed, password: new TextEncoder().encode(password.password ?? "") },
    },
    (bytes) => sent.push(bytes),
  );
  // Byte by byte: however the network cuts the stream, nothing may change.
  let agreement: Agreement | undefined;
  for (let i = 0; i < options.theirs.length && !agreement; i++) {
    agreement = handshake.receive(options.theirs.subarray(i, i + 1));
  }
  return { sent: Buffer.concat(sent), agreement };
}

/** A recorded connection as each of its ends saw it. */
const bothEnds = ({ client, server }: { client: Uint8Array; server: Uint8Array }) => [
  { outbound: true, ours: client, theirs: server },
  { outbound: false, ours: server, theirs: client },
];

describe("plain", () => {
  test.each(plain.connections.map((connection, i) => [i, connection] as const))(
    "connection %d",
    (_i, connection) => {
      for (const { outbound, ours, theirs } of bothEnds(connection)) {
        const features = new GobReader(plainMessages(ours)[0] ?? new Uint8Array()).read(FEATURES);
        const { sent, agreement } = replay({ outbound, theirs, features });
        expect(agreement?.version).toBe(2);
        expect(agreement?.sessionKey).toBeUndefined();
        expect(parseFeatures(agreement?.features ?? new Map()).peer.name).toMatch(/^00:00:00:00:00:0[123]$/);
        // Header, flag, and the features in the order that the original's process chose, but for gob's type ids.
        expect(hex(sent.subarray(0, 8))).toBe(hex(ours.subarray(0, 8)));
        const again = new GobEncoder(74).encode(FEATURES, features);
        expect(hex(again)).toBe(hex(plainMessages(ours)[0] ?? new Uint8Array()));
        expect(new GobReader(plainMessages(sent)[0] ?? new Uint8Array()).read(FEATURES)).toEqual(features);
      }
    },
  );
});

describe("with a password", () => {
  test("session keys are those that the original's routers computed", () => {
    for (const key of password.keys) {
      const keys = { privateKey: unhex(key.private), publicKey: new Uint8Array(32) };
      const secret = new TextEncoder().encode(password.password ?? "");
      expect(hex(formSessionKey(nacl, unhex(key.remotePublic), keys, secret))).toBe(key.session);
    }
  });

  const publicKeyOf = (side: Uint8Array) => hex(side.subarray(8, 40));

  test.each(password.connections.map((connection, i) => [i, connection] as const))(
    "connection %d",
    (_i, connection) => {
      for (const { outbound, ours, theirs } of bothEnds(connection)) {
        const key = password.keys.find(({ remotePublic }) => remotePublic === publicKeyOf(theirs));
        if (!key) throw new Error("no key recorded for this connection");
        const keys = { privateKey: unhex(key.private), publicKey: unhex(publicKeyOf(ours)) };
        const reading = () => sealed(lengthPrefixed(), nacl, unhex(key.session), !outbound);
        const messages = unframeAll(reading(), ours.subarray(40));
        const features = new GobReader(messages[0] ?? new Uint8Array()).read(FEATURES);
        const { sent, agreement } = replay({ outbound, theirs, features, keys });
        expect(hex(agreement?.sessionKey ?? new Uint8Array())).toBe(key.session);
        // Header, flag and public key.
        expect(hex(sent.subarray(0, 40))).toBe(hex(ours.subarray(0, 40)));
        expect(parseFeatures(agreement?.features ?? new Map()).trustsUs).toBe(false);

        // Sealing what they had said again gives the recorded bytes.
        const sealing = sealed(lengthPrefixed(), nacl, unhex(key.session), outbound);
        const again = Buffer.concat(messages.map((message) => sealing.frame(message)));
        expect(messages.length).toBeGreaterThan(3);
        expect(digest(again)).toBe(digest(ours.subarray(40, 40 + again.length)));
      }
    },
  );
});

function digest(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}
