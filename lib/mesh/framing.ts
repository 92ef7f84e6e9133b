// Framing of messages on a control connection: length-prefixed (protocol 2) or gob byte slices (protocol 1), sealed or
// plain (mesh: protocol_crypto.go).
import { viewOf } from "../bytes/view.ts";
import type { Nacl } from "../crypto/nacl.ts";
import { NONCE_LENGTH } from "../crypto/nacl.ts";
import { GobDecoder } from "../gob/decoder.ts";
import type { GobEncoder } from "../gob/encoder.ts";
import { BASIC_ID, bytes as gobBytes } from "../gob/type.ts";

/** The longest message, in bytes. */
export const MAX_MESSAGE = 10 * 1024 * 1024;

/** A breach of the protocol by the peer; the connection cannot go on. */
export class ProtocolError extends Error {
  override readonly name = "ProtocolError";
}

/** A sealed message that does not open: another key, or it was changed. */
export class UnopenedError extends ProtocolError {}

/** The framing of one connection, in both directions. */
export interface Framing {
  frame(message: Uint8Array): Uint8Array;
  /**
   * Return the message at the start of `bytes` (a copy) and its length on the wire; undefined, in constant time, while it
   * is incomplete. Throws ProtocolError or GobError.
   */
  unframe(bytes: Uint8Array): { message: Uint8Array; length: number } | undefined;
}

/** Protocol 2: four bytes of length, big-endian. */
export function lengthPrefixed(): Framing {
  return {
    frame(message) {
      if (message.length > MAX_MESSAGE) {
        throw new ProtocolError(`outgoing message exceeds maximum size: ${message.length} > ${MAX_MESSAGE}`);
      }
      const framed = new Uint8Array(4 + message.length);
      new DataView(framed.buffer).setUint32(0, message.length, false);
      framed.set(message, 4);
      return framed;
    },
    unframe(bytes) {
      if (bytes.length < 4) return undefined;
      const length = viewOf(bytes).getUint32(0, false);
      if (length > MAX_MESSAGE) {
        throw new ProtocolError(`incoming message exceeds maximum size: ${length} > ${MAX_MESSAGE}`);
      }
      if (bytes.length < 4 + length) return undefined;
      return { message: bytes.slice(4, 4 + length), length: 4 + length };
    },
  };
}

/** The gob type id of byte slices on the wire, in one byte. */
const BYTES_ID = 2 * BASIC_ID.bytes;

/**
 * Protocol 1: a gob stream of byte slices, which continues the one of the features. Byte slices need no type description,
 * so anything else is refused before its end.
 */
export function gobFramed(encoder: GobEncoder): Framing {
  return {
    frame: (message) => encoder.encode(gobBytes, message),
    unframe(bytes) {
      const first = bytes[0] ?? 0;
      const id = bytes[first < 128 ? 1 : 1 + 256 - first];
      if (id !== undefined && id !== BYTES_ID) {
        throw new ProtocolError("not a byte slice between messages of protocol 1");
      }
      const next = new GobDecoder().take(gobBytes, bytes, 0);
      return next?.value && { message: next.value, length: next.at };
    },
  };
}

/** The nonces of one direction, from the number of the message and the end that opened the connection. */
class NonceSequence {
  readonly nonce = new Uint8Array(NONCE_LENGTH);
  #count = 0n;

  constructor(byConnector: boolean) {
    this.nonce[0] = (byConnector ? 0x80 : 0) | 0x40;
  }

  advance(): void {
    this.#count++;
    new DataView(this.nonce.buffer).setBigUint64(16, this.#count, false);
  }
}

/** Seal each message with the session key. `outbound`: we opened the connection. */
export function sealed(inner: Framing, nacl: Nacl, sessionKey: Uint8Array, outbound: boolean): Framing {
  const sending = new NonceSequence(outbound);
  const receiving = new NonceSequence(!outbound);
  return {
    frame(message) {
      const box = nacl.seal(message, sending.nonce, sessionKey);
      sending.advance();
      return inner.frame(box);
    },
    unframe(bytes) {
      const next = inner.unframe(bytes);
      if (!next) return undefined;
      const message = nacl.open(next.message, receiving.nonce, sessionKey);
      if (!message) throw new UnopenedError("Unable to decrypt TCP msg");
      receiving.advance();
      return { message, length: next.length };
    },
  };
}
