// Messages over TCP: each with its length in front, two bytes, high one first (RFC 1035, 4.2.2; RFC 7766).
import { ReceiveBuffer } from "../mesh/receivebuffer.ts";

const LENGTH = 2;

/** A message as it goes over TCP. */
export function frame(message: Uint8Array): Uint8Array {
  const framed = new Uint8Array(message.length + LENGTH);
  framed[0] = message.length >> 8;
  framed[1] = message.length & 255;
  framed.set(message, LENGTH);
  return framed;
}

/** Puts messages together that come over TCP in pieces. */
export class Frames {
  readonly #received = new ReceiveBuffer();

  constructor(private readonly message: (bytes: Uint8Array) => void) {}

  push(chunk: Uint8Array): void {
    this.#received.push(chunk);
    for (;;) {
      const { waiting } = this.#received;
      const [high = 0, low = 0] = waiting;
      const end = LENGTH + ((high << 8) | low);
      if (waiting.length < LENGTH || waiting.length < end) return;
      this.#received.take(end);
      this.message(waiting.slice(LENGTH, end));
    }
  }
}
