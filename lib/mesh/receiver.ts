// Messages that arrive on a connection, handled one after the other: while one is handled, the stream is paused.
import type { Slices, Work } from "../clock/slices.ts";
import type { Framing } from "./framing.ts";
import { ReceiveBuffer } from "./receivebuffer.ts";
import type { Stream } from "./transport.ts";

export interface ReceiverHost {
  readonly slices: Slices;
  /** Handle a message; work that it returns is done in slices. What either throws ends the connection. */
  message(message: Uint8Array): Work | undefined;
  /** So many bytes of an unfinished message are buffered. */
  buffered(bytes: number): void;
  failed(error: Error): void;
}

export class MessageReceiver {
  readonly #buffer = new ReceiveBuffer();
  /** Gives up the work for the last message. */
  #giveUp: (() => void) | undefined;
  #stopped = false;

  constructor(
    private readonly framing: Framing,
    private readonly stream: Pick<Stream, "pause" | "resume">,
    private readonly host: ReceiverHost,
  ) {}

  stop(): void {
    this.#stopped = true;
    this.#giveUp?.();
  }

  /** Take bytes of the stream; throws what framing and handling throw. */
  data(bytes: Uint8Array): void {
    if (this.#stopped) return;
    if (this.#giveUp) return this.#buffer.push(bytes);
    if (this.#buffer.length > 0) {
      this.#buffer.push(bytes);
      return this.#continue();
    }
    // Mostly whole messages arrive, and nothing is buffered.
    const length = this.#unframe(bytes);
    if (length === bytes.length) return;
    this.#buffer.push(bytes.subarray(length));
    if (!this.#stopped) this.host.buffered(this.#buffer.length);
  }

  /** Handle one message. */
  handle(message: Uint8Array): void {
    if (this.#stopped) return;
    const work = this.host.message(message);
    if (!work) return;
    let ended = false;
    const giveUp = this.host.slices.run(work, (error) => {
      ended = true;
      const waited = this.#giveUp !== undefined;
      this.#giveUp = undefined;
      if (error) return this.host.failed(error);
      if (!waited || this.#stopped) return;
      this.stream.resume();
      try {
        this.#continue();
      } catch (failure) {
        this.host.failed(failure instanceof Error ? failure : new Error(String(failure)));
      }
    });
    if (ended) return;
    this.#giveUp = giveUp;
    this.stream.pause();
  }

  /** Handle the whole messages in the buffer. */
  #continue(): void {
    const length = this.#unframe(this.#buffer.waiting);
    this.#buffer.take(length);
    // The next message begins to wait only now.
    if (length > 0) this.host.buffered(0);
    if (!this.#stopped) this.host.buffered(this.#buffer.length);
  }

  /** Handle the whole messages in these bytes; returns their length on the wire. */
  #unframe(bytes: Uint8Array): number {
    let at = 0;
    while (!this.#stopped && !this.#giveUp) {
      const next = this.framing.unframe(at === 0 ? bytes : bytes.subarray(at));
      if (!next) break;
      at += next.length;
      this.handle(next.message);
    }
    return at;
  }
}
