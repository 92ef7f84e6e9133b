// Messages that arrive on a connection, handled one after the other in time slices, however many arrive at once: a peer that
// floods us takes no more of the event loop than one long message does. Where much waits meanwhile, the stream is paused.
import { noteGarbage } from "../bytes/garbage.ts";
import { finish, type Slices, type Work } from "../clock/slices.ts";
import { type Framing, takeMessage } from "./framing.ts";
import { ReceiveBuffer } from "./receivebuffer.ts";
import type { Stream } from "./transport.ts";

/**
 * While a message is handled, more bytes than this are left to the kernel. A pause costs turns of the event loop, as Bun
 * hands out what it has read meanwhile in as many pieces as it came in.
 */
const MAX_WAITING = 256 * 1024;

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
  /** Gives up what is being handled. */
  #giveUp: (() => void) | undefined;
  #paused = false;
  #stopped = false;

  constructor(
    private readonly framing: Framing,
    private readonly stream: Pick<Stream, "pause" | "resume">,
    private readonly host: ReceiverHost,
  ) {}

  stop(): void {
    this.#stopped = true;
    this.#giveUp?.();
    this.#buffer.clear();
  }

  /** Take bytes of the stream, after a message that was received before them. */
  data(bytes: Uint8Array, first?: Uint8Array): void {
    if (this.#stopped) return;
    this.#buffer.push(bytes);
    if (this.#giveUp) return this.#pauseIfFull();
    let ended = false;
    const giveUp = this.host.slices.run(this.#handleAll(first), (error) => {
      ended = true;
      this.#giveUp = undefined;
      if (error) return this.host.failed(error);
      if (!this.#paused || this.#stopped) return;
      this.#paused = false;
      this.stream.resume();
    });
    if (ended || this.#stopped) return;
    this.#giveUp = giveUp;
    this.#pauseIfFull();
  }

  #pauseIfFull(): void {
    if (this.#paused || this.#buffer.length <= MAX_WAITING) return;
    this.#paused = true;
    this.stream.pause();
  }

  /** Handle the whole messages in the buffer, with a step after each. */
  *#handleAll(first?: Uint8Array): Work {
    if (first) yield* finish(this.host.message(first));
    let handled = 0;
    while (!this.#stopped) {
      const message = yield* takeMessage(this.framing, this.#buffer);
      if (!message || this.#stopped) break;
      handled++;
      yield* finish(this.host.message(message));
      noteGarbage(message.length);
      yield;
    }
    if (this.#stopped) return;
    // The next message begins to wait only now.
    if (handled > 0) this.host.buffered(0);
    if (!this.#stopped) this.host.buffered(this.#buffer.length);
  }
}
