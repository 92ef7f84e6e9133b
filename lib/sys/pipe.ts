// A pipe with messages in it, from one thread to another: each has its length in front (u32, host order), then what
// bun:jsc makes of it. Unlike a MessagePort it can be waited for together with other files, and has bounds: who writes
// faster than the other reads keeps the rest, or loses what there is no room for.

import { deserialize, serialize } from "bun:jsc";
import { closeSync } from "node:fs";
import { EAGAIN, EINTR } from "./errno.ts";
import { SysError, syscall, trySyscall } from "./syscall.ts";

const O_NONBLOCK = 0x800;
const O_CLOEXEC = 0x80000;
const LENGTH = 4;
/** Bytes of a message: far more than the tables of the largest network take. */
const MAX_MESSAGE = 64 << 20;

export interface Pipe {
  readonly readFd: number;
  readonly writeFd: number;
}

/** Opens one; neither end ever waits. */
export function openPipe(): Pipe {
  const fds = new Int32Array(2);
  syscall("making a pipe", "pipe2", new Uint8Array(fds.buffer), O_CLOEXEC | O_NONBLOCK);
  const [readFd = -1, writeFd = -1] = fds;
  return { readFd, writeFd };
}

export function closePipe({ readFd, writeFd }: Pipe): void {
  closeSync(readFd);
  closeSync(writeFd);
}

/** A message as it travels. */
function encodeMessage(message: unknown): Uint8Array {
  const body = new Uint8Array(serialize(message));
  const bytes = new Uint8Array(LENGTH + body.length);
  new DataView(bytes.buffer).setUint32(0, body.length, true);
  bytes.set(body, LENGTH);
  return bytes;
}

/** Writes messages to a pipe whose reader may be slow or stuck: never waits, and keeps what does not fit. */
export class MessageWriter {
  #rest: Uint8Array = new Uint8Array();

  constructor(private readonly writeFd: number) {}

  /** Bytes of the last message that are not in the pipe yet. */
  get backlog(): number {
    return this.#rest.length;
  }

  /** Writes a message; only where there is no backlog. Throws SysError where nobody can read it any more. */
  write(message: unknown): void {
    this.#rest = encodeMessage(message);
    this.flush();
  }

  /** Writes as much of the backlog as there is room for. Throws as `write`. */
  flush(): void {
    while (this.#rest.length > 0) {
      const written = trySyscall("write", this.writeFd, this.#rest, this.#rest.length);
      if (written === -EAGAIN) return;
      if (written < 0 && written !== -EINTR) throw new SysError("writing to a pipe", -written);
      this.#rest = this.#rest.subarray(Math.max(0, written));
    }
  }
}

/** Writes a short message (less than 4 KiB), whole or, where there is no room, not at all. */
export function offerMessage(writeFd: number, message: unknown): void {
  const bytes = encodeMessage(message);
  trySyscall("write", writeFd, bytes, bytes.length);
}

/** Puts messages together out of the pieces in which they come. */
export class MessageReader {
  #pieces: Uint8Array[] = [];
  #length = 0;

  /** Takes a piece (it is copied) and returns the messages that are complete with it; throws for what is none. */
  take(piece: Uint8Array): unknown[] {
    this.#pieces.push(piece.slice());
    this.#length += piece.length;
    if (this.#length < LENGTH) return [];
    let bytes = new Uint8Array(Buffer.concat(this.#pieces));
    const messages: unknown[] = [];
    for (;;) {
      const length =
        bytes.length < LENGTH ? 0 : new DataView(bytes.buffer, bytes.byteOffset).getUint32(0, true);
      if (length > MAX_MESSAGE) throw new Error(`a message of ${length} bytes in a pipe`);
      if (bytes.length < LENGTH || bytes.length < LENGTH + length) break;
      messages.push(deserialize(bytes.slice(LENGTH, LENGTH + length).buffer));
      bytes = bytes.subarray(LENGTH + length);
    }
    this.#pieces = bytes.length > 0 ? [bytes] : [];
    this.#length = bytes.length;
    return messages;
  }
}

/** Reads what is in a pipe now; the messages that are complete with it. `buffer` is used for the reading. */
export function readMessages(readFd: number, reader: MessageReader, buffer: Uint8Array): unknown[] {
  const messages: unknown[] = [];
  for (;;) {
    const length = trySyscall("read", readFd, buffer, buffer.length);
    if (length === -EAGAIN || length <= 0) return messages;
    messages.push(...reader.take(buffer.subarray(0, length)));
  }
}
