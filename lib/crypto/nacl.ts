// NaCl's box and secretbox as Weave Net uses them: Curve25519 key agreement, XSalsa20-Poly1305 for messages.
import type { Sliced } from "../clock/slices.ts";
import { openInPlace, sealInPlace } from "./longbox.ts";
import { loadNative, type NativeSodium } from "./native.ts";
import { MAC_LENGTH } from "./secretbox.ts";

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
  /** Undefined if the message was not sealed with this key and nonce. */
  open(sealed: Uint8Array, nonce: Uint8Array, key: Uint8Array): Uint8Array | undefined;
  /** As seal, of the message behind MAC_LENGTH bytes of room, in place and in steps. */
  sealInPlace(box: Uint8Array, nonce: Uint8Array, key: Uint8Array): Sliced<void>;
  /** As open, in place and in steps: the message is a part of `box`. */
  openInPlace(box: Uint8Array, nonce: Uint8Array, key: Uint8Array): Sliced<Uint8Array | undefined>;
}

/** Load libsodium, its native build where there is one; only networks with a password need it. */
export async function loadNacl(): Promise<Nacl> {
  const native = await loadNative();
  return native ? nativeNacl(native) : await wasmNacl();
}

function nativeNacl(sodium: NativeSodium): Nacl {
  return {
    generateKeyPair() {
      const keys = { publicKey: new Uint8Array(KEY_LENGTH), privateKey: new Uint8Array(KEY_LENGTH) };
      sodium.crypto_box_keypair(keys.publicKey, keys.privateKey);
      return keys;
    },
    sharedKey(remotePublicKey, privateKey) {
      const product = new Uint8Array(KEY_LENGTH);
      sodium.crypto_scalarmult(product, privateKey, remotePublicKey);
      return hsalsa20(sodium, product);
    },
    seal(message, nonce, key) {
      const sealed = new Uint8Array(MAC_LENGTH + message.length);
      sodium.crypto_secretbox_easy(sealed, message, nonce, key);
      return sealed;
    },
    open(sealed, nonce, key) {
      if (sealed.length < MAC_LENGTH) return undefined;
      const message = new Uint8Array(sealed.length - MAC_LENGTH);
      return sodium.crypto_secretbox_open_easy(message, sealed, nonce, key) ? message : undefined;
    },
    sealInPlace: (box, nonce, key) => sealInPlace(sodium, box, nonce, key),
    openInPlace: (box, nonce, key) => openInPlace(sodium, box, nonce, key),
  };
}

/** "expand 32-byte k", the constant of Salsa20. */
const SIGMA = [0x61707865, 0x3320646e, 0x79622d32, 0x6b206574];

/**
 * HSalsa20 of a key and zeros: Salsa20 without its final addition, of which the diagonal words (SIGMA) and the middle ones
 * (nonce and counter 0) are kept (Bernstein, "Extending the Salsa20 nonce", 2011).
 */
function hsalsa20(sodium: NativeSodium, key: Uint8Array): Uint8Array {
  const block = new Uint8Array(64);
  sodium.crypto_stream_salsa20(block, new Uint8Array(8), key);
  const words = new DataView(block.buffer);
  const out = new DataView(new ArrayBuffer(KEY_LENGTH));
  for (const [i, constant] of SIGMA.entries()) {
    out.setUint32(4 * i, words.getUint32(4 * 5 * i, true) - constant, true);
    out.setUint32(16 + 4 * i, words.getUint32(4 * (6 + i), true), true);
  }
  return new Uint8Array(out.buffer);
}

/** Exported for tests. */
export async function wasmNacl(): Promise<Nacl> {
  const { default: sodium } = await import("libsodium-wrappers");
  await sodium.ready;
  const open: Nacl["open"] = (sealed, nonce, key) => {
    try {
      return sodium.crypto_secretbox_open_easy(sealed, nonce, key);
    } catch {
      return undefined;
    }
  };
  return {
    generateKeyPair() {
      const { publicKey, privateKey } = sodium.crypto_box_keypair();
      return { publicKey, privateKey };
    },
    sharedKey: (remotePublicKey, privateKey) => sodium.crypto_box_beforenm(remotePublicKey, privateKey),
    seal: (message, nonce, key) => sodium.crypto_secretbox_easy(message, nonce, key),
    open,
    // This build has no streams: at once.
    sealInPlace(box, nonce, key) {
      box.set(sodium.crypto_secretbox_easy(box.subarray(MAC_LENGTH), nonce, key));
    },
    openInPlace: open,
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
  return new Uint8Array(new Bun.CryptoHasher("sha256").update(shared).update(password).digest());
}
