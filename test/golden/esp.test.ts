// The encrypted fast datapath of the original: its offers, its keys, and its packets, which open with the keys we derive.
import { beforeAll, describe, expect, test } from "bun:test";
import { createDecipheriv } from "node:crypto";
import { loadNacl } from "../../lib/crypto/nacl.ts";
import { lengthPrefixed, sealed } from "../../lib/mesh/framing.ts";
import { TAG } from "../../lib/mesh/message.ts";
import { nameFromNumber } from "../../lib/mesh/name.ts";
import { decodeOffer, deriveKey, encodeOffer } from "../../lib/overlay/fastdp/esp.ts";
import { CONTROL } from "../../lib/overlay/fastdp/protocol.ts";
import { capture, unframeAll, unhex } from "../support/vectors.ts";

const nacl = await loadNacl();
const recorded = await capture("password-fastdp");
/** Header, flag and public key. */
const FEATURES_AND_KEYS = 40;
/** Its number among the overlays that both ends have. */
const FASTDP = 0;

/** One direction between two of the three hosts: what the receiver offered, and the key for it. */
interface Direction {
  readonly from: number;
  readonly to: number;
  readonly message: Uint8Array;
  readonly spi: number;
  readonly key: Uint8Array;
}

const directions: Direction[] = [];

beforeAll(() => {
  recorded.connections.forEach((connection, i) => {
    // 2 has connected to 1, and 3 to 2.
    const ends = { client: i + 2, server: i + 1 };
    for (const side of ["client", "server"] as const) {
      const bytes = connection[side];
      const other = connection[side === "client" ? "server" : "client"];
      const key = recorded.keys.find(({ remotePublic }) => remotePublic === other.subarray(8, 40).toHex());
      const session = unhex(key?.session ?? "");
      const framing = sealed(lengthPrefixed(), nacl, session, side === "server");
      for (const message of unframeAll(framing, bytes.subarray(FEATURES_AND_KEYS))) {
        if (
          message[0] !== TAG.overlayControl ||
          message[1] !== FASTDP ||
          message[2] !== CONTROL.cryptoInitSaRemote
        )
          continue;
        const to = ends[side];
        const from = ends[side === "client" ? "server" : "client"];
        const offer = decodeOffer(message.subarray(3));
        const receiver = nameFromNumber(BigInt(to));
        directions.push({
          from,
          to,
          message: message.subarray(3),
          spi: offer.spi,
          key: deriveKey(session, offer.nonce, receiver),
        });
      }
    }
  });
});

test("an offer for each direction is read, and written the same", () => {
  expect(directions.map(({ from, to }) => `${from}${to}`).sort()).toEqual(["12", "21", "23", "32"]);
  for (const { message } of directions)
    expect(encodeOffer(decodeOffer(message)).toHex()).toBe(message.toHex());
  expect(() => decodeOffer(new Uint8Array(63))).toThrow("64 bytes");
  expect(() => decodeOffer(new Uint8Array(64))).toThrow("SPI");
});

test("the keys are those that the original gave the kernel", () => {
  for (const { from, to, spi, key } of directions) {
    for (const host of [from, to]) {
      const state = recorded.xfrmState[`h${host}`] ?? "";
      const entry = state.split(/^(?=src )/m).find((text) => text.includes(`spi 0x${spi.toString(16)} `));
      expect(entry).toContain(`src 10.99.0.${from} dst 10.99.0.${to}`);
      expect(entry).toContain(`aead rfc4106(gcm(aes)) 0x${key.toHex()} 128`);
    }
  }
});

describe("packets", () => {
  test("of the original open with our keys, and hold VXLAN", () => {
    let opened = 0;
    for (const { src, dst, bytes } of recorded.esp) {
      const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
      const direction = directions.find(({ spi }) => spi === view.getUint32(0));
      if (!direction) throw new Error(`nobody offered ${view.getUint32(0).toString(16)}`);
      expect([src, dst]).toEqual([`10.99.0.${direction.from}`, `10.99.0.${direction.to}`]);
      // RFC 4106: salt and explicit IV; with extended sequence numbers the authenticated data has eight bytes of them.
      const nonce = Buffer.concat([direction.key.subarray(32), bytes.subarray(8, 16)]);
      const decipher = createDecipheriv("aes-256-gcm", direction.key.subarray(0, 32), nonce);
      decipher.setAAD(Buffer.concat([bytes.subarray(0, 4), new Uint8Array(4), bytes.subarray(4, 8)]));
      decipher.setAuthTag(bytes.subarray(-16));
      const plain = Buffer.concat([decipher.update(bytes.subarray(16, -16)), decipher.final()]);
      expect(plain.readUInt16BE(2)).toBe(6784);
      expect(plain[8]).toBe(0x08);
      opened++;
    }
    expect(opened).toBeGreaterThan(90);
  });
});
