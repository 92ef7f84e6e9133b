// Messages over TCP: each with its length in front, two bytes, high one first (RFC 1035, 4.2.2; RFC 7766).
import { be16, readBe16 } from "../bytes/bigendian.ts";
import { concat } from "../bytes/concat.ts";
import { ReceiveBuffer } from "../mesh/receivebuffer.ts";

const LENGTH = 2;

/** A message as it goes over TCP. */
export function frame(message: Uint8Array): Uint8Array {
  return concat([be16(message.length), message]);
}

/** Puts messages together that come over TCP in pieces. */
export class Frames {
  readonly #received = new ReceiveBuffer();

  constructor(private readonly message: (bytes: Uint8Array) => void) {}

  push(chunk: Uint8Array): void {
    this.#received.push(chunk);
    for (;;) {
      const { waiting } = this.#received;
      const end = LENGTH + readBe16(waiting, 0);
      if (waiting.length < LENGTH || waiting.length < end) return;
      this.#received.take(end);
      this.message(waiting.slice(LENGTH, end));
    }
  }
}
