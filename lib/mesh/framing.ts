// Framing of messages on a control connection: length-prefixed (protocol 2) or gob byte slices (protocol 1), sealed or
// plain (mesh: protocol_crypto.go).
import { concat } from "../bytes/concat.ts";
import { free } from "../bytes/free.ts";
import { PART, partsOf } from "../bytes/parts.ts";
import { viewOf } from "../bytes/view.ts";
import { finish, type Sliced, type Work } from "../clock/slices.ts";
import type { Nacl } from "../crypto/nacl.ts";
import { NONCE_LENGTH } from "../crypto/nacl.ts";
import { MAC_LENGTH } from "../crypto/secretbox.ts";
import { MAX_PREFIX, messageLength } from "../gob/cursor.ts";
import { GobReader } from "../gob/decoder.ts";
import { bytesPrefix } from "../gob/encoder.ts";
import { BASIC_ID, bytesView } from "../gob/type.ts";
import type { ReceiveBuffer } from "./receivebuffer.ts";

/** The longest message, in bytes. */
export const MAX_MESSAGE = 10 * 1024 * 1024;

/** A breach of the protocol by the peer; the connection cannot go on. */
export class ProtocolError extends Error {
  override readonly name = "ProtocolError";
}

/** A sealed message that does not open: another key, or it was changed. */
export class UnopenedError extends ProtocolError {}

/** Bytes of a frame that suffice to know its length: the length prefix and, in protocol 1, a type id. */
const HEAD = MAX_PREFIX + 1;

/** Frames above this, in bytes, are made and opened in steps. */
export const LONG_FRAME = PART;

/** The framing of one connection, in both directions. */
export interface Framing {
  frame(message: Uint8Array): Uint8Array;
  /** As frame, of a message in pieces, in steps; the next message has to wait until it ends. */
  frameSliced(pieces: readonly Uint8Array[]): Work<Uint8Array>;
  /**
   * Return the length on the wire, in bytes, of the frame that begins with `head`, its first HEAD bytes; undefined while
   * `head` is too short. Throws ProtocolError or GobError.
   */
  lengthOf(head: Uint8Array): number | undefined;
  /** Return the message of a frame, perhaps as a view of it. Throws ProtocolError or GobError. */
  unframe(frame: Uint8Array): Uint8Array;
  /** As unframe, in steps; the message may take the place of its frame. */
  unframeSliced(frame: Uint8Array): Sliced<Uint8Array>;
}

/** A framing that puts bytes in front of what it frames. */
interface Prefixing extends Framing {
  /** Return what is in front of so many bytes. Throws ProtocolError where they are too many. */
  prefix(length: number): Uint8Array;
}

/** Take the next message from a buffer; undefined, in constant time, while it is incomplete. Throws ProtocolError or GobError. */
export function* takeMessage(framing: Framing, buffer: ReceiveBuffer): Work<Uint8Array | undefined> {
  const length = framing.lengthOf(buffer.peek(HEAD));
  if (length === undefined || buffer.length < length) return undefined;
  const frame = yield* buffer.takeSliced(length);
  const message = length > LONG_FRAME ? yield* finish(framing.unframeSliced(frame)) : framing.unframe(frame);
  if (message.buffer !== frame.buffer) free(frame);
  return message;
}

/** Return the length of pieces, in bytes. */
export const totalOf = (pieces: readonly Uint8Array[]) => pieces.reduce((sum, { length }) => sum + length, 0);

/** Return a new array with `room` bytes, then the pieces, copied in steps. */
function* gathered(room: number, pieces: readonly Uint8Array[]): Work<Uint8Array> {
  const all = new Uint8Array(room + totalOf(pieces));
  let to = room;
  for (const piece of pieces) {
    for (const part of partsOf(piece)) {
      all.set(part, to);
      to += part.length;
      yield;
    }
  }
  return all;
}

type Simple = Pick<Prefixing, "prefix" | "lengthOf" | "unframe">;

/** Complete a framing that has no state and makes nothing new of a message. */
function prefixing({ prefix, lengthOf, unframe }: Simple): Prefixing {
  return {
    prefix,
    lengthOf,
    unframe,
    frame: (message) => concat([prefix(message.length), message]),
    frameSliced: (pieces) => gathered(0, [prefix(totalOf(pieces)), ...pieces]),
    unframeSliced: unframe,
  };
}

/** Protocol 2: four bytes of length, big-endian. */
export function lengthPrefixed(): Prefixing {
  return prefixing({
    prefix(length) {
      if (length > MAX_MESSAGE) {
        throw new ProtocolError(`outgoing message exceeds maximum size: ${length} > ${MAX_MESSAGE}`);
      }
      const prefix = new Uint8Array(4);
      viewOf(prefix).setUint32(0, length, false);
      return prefix;
    },
    lengthOf(head) {
      if (head.length < 4) return undefined;
      const length = viewOf(head).getUint32(0, false);
      if (length > MAX_MESSAGE) {
        throw new ProtocolError(`incoming message exceeds maximum size: ${length} > ${MAX_MESSAGE}`);
      }
      return 4 + length;
    },
    unframe: (frame) => frame.subarray(4),
  });
}

/** The gob type id of byte slices on the wire, in one byte. */
const BYTES_ID = 2 * BASIC_ID.bytes;

/**
 * Protocol 1: a gob stream of byte slices, which continues the one of the features. Byte slices need no type description,
 * so anything else is refused before its end.
 */
export function gobFramed(): Prefixing {
  return prefixing({
    prefix: bytesPrefix,
    lengthOf(head) {
      const first = head[0] ?? 0;
      const id = head[first < 128 ? 1 : 1 + 256 - first];
      if (id !== undefined && id !== BYTES_ID) {
        throw new ProtocolError("not a byte slice between messages of protocol 1");
      }
      return messageLength(head, 0, MAX_MESSAGE);
    },
    unframe: (frame) => new GobReader(frame).read(bytesView),
  });
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
export function sealed(inner: Prefixing, nacl: Nacl, sessionKey: Uint8Array, outbound: boolean): Framing {
  const sending = new NonceSequence(outbound);
  const receiving = new NonceSequence(!outbound);
  const received = (message: Uint8Array | undefined): Uint8Array => {
    if (!message) throw new UnopenedError("Unable to decrypt TCP msg");
    receiving.advance();
    return message;
  };
  return {
    frame(message) {
      const box = nacl.seal(message, sending.nonce, sessionKey);
      sending.advance();
      const framed = inner.frame(box);
      free(box);
      return framed;
    },
    *frameSliced(pieces) {
      const prefix = inner.prefix(MAC_LENGTH + totalOf(pieces));
      const framed = yield* gathered(prefix.length + MAC_LENGTH, pieces);
      framed.set(prefix);
      yield* finish(nacl.sealInPlace(framed.subarray(prefix.length), sending.nonce, sessionKey));
      sending.advance();
      return framed;
    },
    lengthOf: (head) => inner.lengthOf(head),
    unframe: (frame) => received(nacl.open(inner.unframe(frame), receiving.nonce, sessionKey)),
    *unframeSliced(frame) {
      return received(yield* finish(nacl.openInPlace(inner.unframe(frame), receiving.nonce, sessionKey)));
    },
  };
}
