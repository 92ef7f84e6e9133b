// The handshake of a connection, in time slices: agreeing on a key takes longer than anything else that strangers can ask for,
// and hundreds of them may ask in one turn of the event loop. A stream whose bytes wait is paused.
import { concat } from "../bytes/concat.ts";
import { free } from "../bytes/free.ts";
import type { Slices, Work } from "../clock/slices.ts";
import type { Agreement, Handshake } from "./handshake.ts";
import type { Stream } from "./transport.ts";

export interface HandshakeHost {
  /** Of all handshakes of the same kind: those that we dialled do not wait for those of strangers. */
  readonly slices: Slices;
  begin(): Handshake;
  /** Record the bytes that it holds in memory. May stop it. */
  buffered(bytes: number): void;
  agreed(agreement: Agreement): void;
  failed(error: Error): void;
}

export class SlicedHandshake {
  #handshake: Handshake | undefined;
  /** Received bytes that wait. */
  readonly #waiting: Uint8Array[] = [];
  #waitingBytes = 0;
  /** Gives up what waits for its turn. */
  #giveUp: (() => void) | undefined;
  #stopped = false;

  constructor(
    private readonly stream: Pick<Stream, "pause" | "resume">,
    private readonly host: HandshakeHost,
  ) {}

  start(): void {
    this.#continue();
  }

  /** Return why it failed where the stream ends now. */
  refusal(closed: Error): Error {
    return this.#handshake?.refusal(closed) ?? closed;
  }

  stop(): void {
    this.#stopped = true;
    this.#giveUp?.();
    for (const bytes of this.#waiting.splice(0)) free(bytes);
    this.#handshake?.clear();
  }

  /** Take bytes of the peer; they are valid during this call only. */
  data(bytes: Uint8Array): void {
    if (this.#stopped) return;
    this.#waiting.push(new Uint8Array(bytes));
    this.#waitingBytes += bytes.length;
    this.#account();
    if (!this.#stopped && !this.#giveUp) this.#continue();
  }

  #account(): void {
    this.host.buffered(this.#waitingBytes + (this.#handshake?.held ?? 0));
  }

  #continue(): void {
    let ended = false;
    const giveUp = this.host.slices.run(this.#work(), (error) => {
      ended = true;
      if (error) return this.host.failed(error);
      this.#resume();
    });
    if (ended || this.#stopped) return;
    this.#giveUp = giveUp;
    this.stream.pause();
  }

  /** Bytes are delivered later, not during this call. */
  #resume(): void {
    if (!this.#giveUp || this.#stopped) return;
    this.#giveUp = undefined;
    this.stream.resume();
  }

  *#work(): Work {
    this.#handshake ??= this.host.begin();
    for (let bytes = this.#waiting.shift(); bytes; bytes = this.#waiting.shift()) {
      this.#waitingBytes -= bytes.length;
      const agreement = this.#handshake.receive(bytes);
      free(bytes);
      if (agreement) {
        this.#handshake.clear();
        // From now on, the receiver of messages pauses the stream.
        this.#resume();
        return this.host.agreed({ ...agreement, rest: concat([agreement.rest, ...this.#waiting.splice(0)]) });
      }
      this.#account();
      if (this.#stopped) return;
      if (this.#waiting.length > 0) yield;
    }
  }
}
