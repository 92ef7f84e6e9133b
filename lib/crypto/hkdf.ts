// HKDF with SHA-256 (RFC 5869).

/** Return `length` bytes of key material; `info` tells keys of one secret apart. */
export function hkdf(
  secret: Uint8Array,
  salt: Uint8Array,
  info: string | Uint8Array,
  length: number,
): Uint8Array {
  // Loaded for the first key: without a password there is none, and the module takes 2 ms of a start.
  const { hkdfSync } = process.getBuiltinModule("node:crypto");
  return new Uint8Array(hkdfSync("sha256", secret, salt, info, length));
}
