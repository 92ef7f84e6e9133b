// Messages from one thread to another over a pipe: a length (u32, host order), then a value serialized by bun:jsc. Unlike a
// MessagePort, ppoll(2) can wait for it together with other files, and it is bounded: the writer keeps or drops what does not
// fit.

import { deserialize, serialize } from "bun:jsc";
import { closeSync } from "node:fs";
import { EAGAIN, EINTR } from "./errno.ts";
import { SysError, syscall, trySyscall } from "./syscall.ts";

const O_NONBLOCK = 0x800;
const O_CLOEXEC = 0x80000;
const LENGTH = 4;
/** Bound on a message in bytes: far more than the tables of the largest network. */
const MAX_MESSAGE = 64 << 20;

export interface Pipe {
  readonly readFd: number;
  readonly writeFd: number;
}

/** Open a non-blocking pipe. Throws SysError. */
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

/** Return a message with its length. */
function encodeMessage(message: unknown): Uint8Array {
  const body = new Uint8Array(serialize(message));
  const bytes = new Uint8Array(LENGTH + body.length);
  new DataView(bytes.buffer).setUint32(0, body.length, true);
  bytes.set(body, LENGTH);
  return bytes;
}

/** Writes messages to a pipe without blocking, and keeps the rest of one that does not fit. */
export class MessageWriter {
  #rest: Uint8Array = new Uint8Array();

  constructor(private readonly writeFd: number) {}

  /** Bytes of the last message that are not written yet. */
  get backlog(): number {
    return this.#rest.length;
  }

  /** Write a message; only without a backlog. Throws SysError if the pipe has no reader. */
  write(message: unknown): void {
    this.#rest = encodeMessage(message);
    this.flush();
  }

  /** Write as much of the backlog as fits. Throws as `write`. */
  flush(): void {
    while (this.#rest.length > 0) {
      const written = trySyscall("write", this.writeFd, this.#rest, this.#rest.length);
      if (written === -EAGAIN) return;
      if (written < 0 && written !== -EINTR) throw new SysError("writing to a pipe", -written);
      this.#rest = this.#rest.subarray(Math.max(0, written));
    }
  }
}

/** Write a message of less than 4 KiB (PIPE_BUF) whole, or drop it if it does not fit. */
export function offerMessage(writeFd: number, message: unknown): void {
  const bytes = encodeMessage(message);
  trySyscall("write", writeFd, bytes, bytes.length);
}

/** Reassembles messages. */
export class MessageReader {
  #pieces: Uint8Array[] = [];
  #length = 0;

  /** Add a piece, which is copied; returns the messages that it completes. Throws for an impossible length. */
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

/** Read what is in a pipe now, by way of `buffer`; returns the messages that it completes. */
export function readMessages(readFd: number, reader: MessageReader, buffer: Uint8Array): unknown[] {
  const messages: unknown[] = [];
  for (;;) {
    const length = trySyscall("read", readFd, buffer, buffer.length);
    if (length === -EAGAIN || length <= 0) return messages;
    messages.push(...reader.take(buffer.subarray(0, length)));
  }
}
