// NaCl's secretbox of long messages, in place and in steps: XSalsa20, whose first 32 bytes are the key of Poly1305, over the rest
// of its stream (Bernstein, "Cryptography in NaCl", 2009, section 9).
import { timingSafeEqual } from "node:crypto";
import { partsOf } from "../bytes/parts.ts";
import type { Work } from "../clock/slices.ts";
import type { NativeSodium } from "./native.ts";
import { MAC_LENGTH } from "./secretbox.ts";

const ONE_TIME_KEY = 32;

/** The stream of a nonce, behind the key of the authenticator; and that, to be fed with the sealed message. */
function begin(sodium: NativeSodium, nonce: Uint8Array, key: Uint8Array) {
  const stream = new Uint8Array(sodium.crypto_stream_xor_STATEBYTES);
  sodium.crypto_stream_xor_init(stream, nonce, key);
  const oneTimeKey = new Uint8Array(ONE_TIME_KEY);
  sodium.crypto_stream_xor_update(stream, oneTimeKey, oneTimeKey);
  const authenticator = new Uint8Array(sodium.crypto_onetimeauth_STATEBYTES);
  sodium.crypto_onetimeauth_init(authenticator, oneTimeKey);
  return {
    /** Encrypt or decrypt in place. */
    xor: (part: Uint8Array) => sodium.crypto_stream_xor_update(stream, part, part),
    authenticate: (part: Uint8Array) => sodium.crypto_onetimeauth_update(authenticator, part),
    tag() {
      const tag = new Uint8Array(MAC_LENGTH);
      sodium.crypto_onetimeauth_final(authenticator, tag);
      return tag;
    },
  };
}

/** Seal what is behind the first MAC_LENGTH bytes of `box`, and write the authenticator there. */
export function* sealInPlace(
  sodium: NativeSodium,
  box: Uint8Array,
  nonce: Uint8Array,
  key: Uint8Array,
): Work {
  const { xor, authenticate, tag } = begin(sodium, nonce, key);
  for (const part of partsOf(box.subarray(MAC_LENGTH))) {
    xor(part);
    authenticate(part);
    yield;
  }
  box.set(tag());
}

/** Open a box, and return the message, which is a part of it; undefined, with the box unchanged, if it is not authentic. */
export function* openInPlace(
  sodium: NativeSodium,
  box: Uint8Array,
  nonce: Uint8Array,
  key: Uint8Array,
): Work<Uint8Array | undefined> {
  if (box.length < MAC_LENGTH) return undefined;
  const { xor, authenticate, tag } = begin(sodium, nonce, key);
  const message = box.subarray(MAC_LENGTH);
  for (const part of partsOf(message)) {
    authenticate(part);
    yield;
  }
  if (!timingSafeEqual(tag(), box.subarray(0, MAC_LENGTH))) return undefined;
  for (const part of partsOf(message)) {
    xor(part);
    yield;
  }
  return message;
}
