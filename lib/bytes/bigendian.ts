// Numbers in network byte order, most significant octet first.

/** Two octets; higher bits of `value` are cut off. */
export function be16(value: number): Uint8Array {
  return Uint8Array.of(value >> 8, value);
}

/** Eight octets; higher bits of `value` are cut off. */
export function be64(value: bigint): Uint8Array {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigUint64(0, value);
  return bytes;
}

/** Read the two octets at `at`; octets after the end count as 0. */
export function readBe16(bytes: Uint8Array, at: number): number {
  return ((bytes[at] ?? 0) << 8) | (bytes[at + 1] ?? 0);
}
