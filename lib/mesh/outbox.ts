// Messages on their way to the wire of one connection, in order: a long one is framed and written in steps, and those after it
// wait, as each has the next nonce.
import { concat } from "../bytes/concat.ts";
import { free } from "../bytes/free.ts";
import { PART } from "../bytes/parts.ts";
import type { Slices, Work } from "../clock/slices.ts";
import { type Framing, LONG_FRAME, totalOf } from "./framing.ts";
import type { Stream } from "./transport.ts";

/** A message in pieces, which must not change until it is written. */
export type Pieces = readonly Uint8Array[];

export interface OutboxHost {
  readonly slices: Slices;
  /** The number of bytes that wait has changed. */
  changed(): void;
  /** All that waited is with the stream, which has room. */
  emptied(): void;
  failed(error: Error): void;
}

export class Outbox {
  readonly #waiting: Pieces[] = [];
  #waitingBytes = 0;
  /** The frame that is being written, and from where. */
  #frame: Uint8Array | undefined;
  #at = 0;
  /** Bytes of the message that is being framed, or what is left of its frame. */
  #current = 0;
  #isFull = false;
  #isBusy = false;
  #giveUp: (() => void) | undefined;
  #stopped = false;

  constructor(
    private readonly framing: Framing,
    private readonly stream: Pick<Stream, "write">,
    private readonly host: OutboxHost,
  ) {}

  /** Bytes that wait here. */
  get bytes(): number {
    return this.#waitingBytes + this.#current;
  }

  stop(): void {
    this.#stopped = true;
    this.#giveUp?.();
    this.#waiting.length = 0;
    this.#frame = undefined;
    this.#waitingBytes = this.#current = 0;
  }

  /** Send a message, at once if it is short and none waits. Returns false where others should wait for `emptied` or `drained`. */
  send(pieces: Pieces): boolean {
    const length = totalOf(pieces);
    if (!this.#isBusy && length <= LONG_FRAME) return this.stream.write(this.#framed(pieces));
    this.#waiting.push(pieces);
    this.#waitingBytes += length;
    if (!this.#isBusy) this.#begin();
    return !this.#isBusy;
  }

  /** The stream has room again. Returns whether nothing waits. */
  drained(): boolean {
    if (this.#isFull) {
      this.#isFull = false;
      this.#begin();
    }
    return !this.#isBusy;
  }

  #begin(): void {
    this.#isBusy = true;
    let ended = false;
    const giveUp = this.host.slices.run(this.#write(), (error) => {
      ended = true;
      this.#giveUp = undefined;
      if (this.#stopped) return;
      if (error) return this.host.failed(error);
      this.host.changed();
      if (this.#isBusy || this.#stopped) return;
      this.host.emptied();
    });
    if (!ended) this.#giveUp = giveUp;
  }

  /** Write all that waits, or as much as the stream takes. */
  *#write(): Work {
    for (;;) {
      while (this.#frame) {
        const part = this.#frame.subarray(this.#at, this.#at + PART);
        // What the stream was given last is its own now.
        if (part.length === 0) {
          if (this.#frame.length > LONG_FRAME) free(this.#frame);
          this.#frame = undefined;
          break;
        }
        this.#at += part.length;
        this.#current -= part.length;
        if (!this.stream.write(part)) {
          this.#isFull = true;
          return;
        }
        yield;
      }
      const pieces = this.#waiting.shift();
      if (!pieces) {
        this.#isBusy = false;
        return;
      }
      const length = totalOf(pieces);
      this.#waitingBytes -= length;
      this.#current = length;
      this.#at = 0;
      this.#frame = length > LONG_FRAME ? yield* this.framing.frameSliced(pieces) : this.#framed(pieces);
      this.#current = this.#frame.length;
      this.host.changed();
      if (this.#stopped) return;
    }
  }

  #framed(pieces: Pieces): Uint8Array {
    const [only, ...more] = pieces;
    if (only && more.length === 0) return this.framing.frame(only);
    const message = concat(pieces);
    const framed = this.framing.frame(message);
    free(message);
    return framed;
  }
}
