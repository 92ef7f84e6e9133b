// Messages over TCP: each with its length in front, two bytes, high one first (RFC 1035, 4.2.2; RFC 7766).
import { be16, readBe16 } from "../bytes/bigendian.ts";
import { concat } from "../bytes/concat.ts";
import { ReceiveBuffer } from "../mesh/receivebuffer.ts";

const LENGTH = 2;

/** A message as it goes over TCP. */
export function frame(message: Uint8Array): Uint8Array {
  return concat([be16(message.length), message]);
}

/**
 * Puts messages together that come over TCP in pieces. Each is made when it is taken: as an object, a message of two bytes
 * has fifty times as many.
 */
export class Frames {
  readonly #received = new ReceiveBuffer();

  push(chunk: Uint8Array): void {
    this.#received.push(chunk);
  }

  /** A whole message waits to be taken. */
  get waits(): boolean {
    return this.#received.length >= this.#end;
  }

  /** Take the next message; undefined where none is whole. */
  next(): Uint8Array | undefined {
    if (!this.waits) return undefined;
    return this.#received.take(this.#end).subarray(LENGTH);
  }

  /** Take all messages that are whole. */
  *[Symbol.iterator](): Generator<Uint8Array, void, void> {
    for (let message = this.next(); message; message = this.next()) yield message;
  }

  /** Bytes up to the end of the next message. */
  get #end(): number {
    const head = this.#received.peek(LENGTH);
    return head.length < LENGTH ? LENGTH : LENGTH + readBe16(head, 0);
  }
}
