// HKDF with SHA-256 (RFC 5869).

/** Return `length` bytes of key material; keys of one secret differ by `info`. */
export function hkdf(
  secret: Uint8Array,
  salt: Uint8Array,
  info: string | Uint8Array,
  length: number,
): Uint8Array {
  // Load the module at the first key only: it takes 2 ms, and without a password no key is derived.
  const { hkdfSync } = process.getBuiltinModule("node:crypto");
  return new Uint8Array(hkdfSync("sha256", secret, salt, info, length));
}
