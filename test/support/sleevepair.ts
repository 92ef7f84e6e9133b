import { nameFromNumber, nameToBytes } from "../../lib/mesh/name.ts";
import type { LinkSettings } from "../../lib/overlay/sleeve/link.ts";
import { VIRTIO, VIRTIO_HEADER } from "../../lib/overlay/sleeve/virtio.ts";
import { EngineHarness } from "./engine.ts";
import { randomOf } from "./seed.ts";

export const name = (peer: number) => nameFromNumber(BigInt(peer));
export const bytesOf = (peer: number) => nameToBytes(name(peer));
export const KEY = new Uint8Array(32).fill(9);

/** Peers 1 and 2, linked to each other; 3 behind either. */
export async function pair(encrypted: boolean, settings: Partial<LinkSettings> = {}) {
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
    const key = encrypted ? KEY : undefined;
    harness.link(
      { index: 0, peer: other, name: bytesOf(other), key, outbound: self === 1 },
      { mtu: encrypted ? 1414 : 1438, ...settings },
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

export const datagram = (...parts: (Uint8Array | number[])[]) =>
  new Uint8Array(Buffer.concat(parts.map((part) => Uint8Array.from(part))));
