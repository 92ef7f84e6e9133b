// NaCl's box and secretbox as Weave Net uses them: Curve25519 key agreement, XSalsa20-Poly1305 for messages.
import { createHash } from "node:crypto";

/** A Curve25519 key pair, 32 bytes each. */
export interface KeyPair {
  readonly publicKey: Uint8Array;
  readonly privateKey: Uint8Array;
}

export const KEY_LENGTH = 32;
export const NONCE_LENGTH = 24;

export interface Nacl {
  generateKeyPair(): KeyPair;
  /** The key two parties share: HSalsa20 of the Curve25519 product (crypto_box_beforenm). */
  sharedKey(remotePublicKey: Uint8Array, privateKey: Uint8Array): Uint8Array;
  /** 16 bytes of authenticator, then the ciphertext. */
  seal(message: Uint8Array, nonce: Uint8Array, key: Uint8Array): Uint8Array;
  /** Undefined when the message was not sealed with this key and nonce. */
  open(sealed: Uint8Array, nonce: Uint8Array, key: Uint8Array): Uint8Array | undefined;
}

/** Loads libsodium; only networks with a password need it. */
export async function loadNacl(): Promise<Nacl> {
  const { default: sodium } = await import("libsodium-wrappers");
  await sodium.ready;
  return {
    generateKeyPair() {
      const { publicKey, privateKey } = sodium.crypto_box_keypair();
      return { publicKey, privateKey };
    },
    sharedKey: (remotePublicKey, privateKey) => sodium.crypto_box_beforenm(remotePublicKey, privateKey),
    seal: (message, nonce, key) => sodium.crypto_secretbox_easy(message, nonce, key),
    open(sealed, nonce, key) {
      try {
        return sodium.crypto_secretbox_open_easy(sealed, nonce, key);
      } catch {
        return undefined;
      }
    },
  };
}

/** The session key of a connection: SHA-256 over the shared key and the network's password. */
export function formSessionKey(
  nacl: Nacl,
  remotePublicKey: Uint8Array,
  keys: KeyPair,
  password: Uint8Array,
): Uint8Array {
  const shared = nacl.sharedKey(remotePublicKey, keys.privateKey);
  return new Uint8Array(createHash("sha256").update(shared).update(password).digest());
}
