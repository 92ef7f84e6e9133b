import { nameFromNumber, nameToBytes } from "../../lib/mesh/name.ts";
import { type Cipher, overhead } from "../../lib/overlay/sleeve/format.ts";
import type { LinkSettings } from "../../lib/overlay/sleeve/link.ts";
import { GSO_NONE, NEEDS_CHECKSUM, VIRTIO, VIRTIO_HEADER } from "../../lib/overlay/sleeve/virtio.ts";
import { EngineHarness } from "./engine.ts";
import { checksum } from "./frames.ts";
import { randomOf } from "./seed.ts";

export const name = (peer: number) => nameFromNumber(BigInt(peer));
export const bytesOf = (peer: number) => nameToBytes(name(peer));
export const KEY = new Uint8Array(32).fill(9);

/** Peers 1 and 2, linked to each other by a path of 1500 bytes; 3 behind either. */
export async function pair(cipher: Cipher | undefined, settings: Partial<LinkSettings> = {}) {
  const names = new Map([1, 2, 3, 4].map((peer) => [peer, bytesOf(peer)]));
  const make = async (self: number, other: number) => {
    const harness = await EngineHarness.create(name(self));
    const next = new Map([
      [other, 0],
      [3, 0],
    ]);
    harness.configure({
      self,
      names,
      next,
      nextBySleeve: next,
      broadcast: new Map([[self, [0]]]),
      origins: new Map(),
    });
    const sealing = cipher ? { key: KEY, cipher } : { key: undefined };
    harness.link(
      { index: 0, peer: other, name: bytesOf(other), ...sealing, outbound: self === 1 },
      { mtu: 1500 - overhead(cipher), ...settings },
    );
    return harness;
  };
  return [await make(1, 2), await make(2, 1)] as const;
}

export const chance = randomOf("sleeve");
export const random = (length: number) => chance.bytes(length);

/** The virtio header of a super-frame or of one whose checksum is still to be computed, as the kernel writes it. */
export function virtio(fields: Partial<Record<keyof typeof VIRTIO, number>>): Uint8Array {
  const header = new Uint8Array(VIRTIO_HEADER);
  const view = new DataView(header.buffer);
  for (const [field, value] of Object.entries(fields)) {
    const at = VIRTIO[field as keyof typeof VIRTIO];
    if (at < 2) view.setUint8(at, value);
    else view.setUint16(at, value, true);
  }
  return header;
}

/** The frame behind a virtio header, with the checksum that the kernel completes where the header says so. */
export function completed(written: Uint8Array): Uint8Array {
  const header = new DataView(written.buffer, written.byteOffset);
  const frame = written.slice(VIRTIO_HEADER);
  if (header.getUint8(VIRTIO.flags) !== NEEDS_CHECKSUM || header.getUint8(VIRTIO.gsoType) !== GSO_NONE)
    return frame;
  const start = header.getUint16(VIRTIO.checksumStart, true);
  const at = start + header.getUint16(VIRTIO.checksumOffset, true);
  new DataView(frame.buffer).setUint16(at, ~checksum(frame.subarray(start)) & 0xffff);
  return frame;
}

export const datagram = (...parts: (Uint8Array | number[])[]) =>
  new Uint8Array(Buffer.concat(parts.map((part) => Uint8Array.from(part))));
