// A pipe with messages in it, from one thread to another: each has its length in front (u32, host order), then what
// bun:jsc makes of it. Unlike a MessagePort it can be waited for together with other files, and has bounds: who writes
// faster than the other reads waits, or loses what there is no room for.

import { deserialize, serialize } from "bun:jsc";
import { closeSync, writeSync } from "node:fs";
import { EAGAIN } from "./errno.ts";
import { syscall, trySyscall } from "./syscall.ts";

const O_NONBLOCK = 0x800;
const O_CLOEXEC = 0x80000;
const F_SETFL = 4;
const LENGTH = 4;

export interface Pipe {
  readonly readFd: number;
  readonly writeFd: number;
}

/** Opens one. Reading never waits; writing does while it is full, unless `lossy`: then what does not fit is lost. */
export function openPipe(lossy: boolean): Pipe {
  const fds = new Int32Array(2);
  syscall("making a pipe", "pipe2", new Uint8Array(fds.buffer), O_CLOEXEC);
  const [readFd = -1, writeFd = -1] = fds;
  syscall("making a pipe", "fcntl", readFd, F_SETFL, O_NONBLOCK);
  if (lossy) syscall("making a pipe", "fcntl", writeFd, F_SETFL, O_NONBLOCK);
  return { readFd, writeFd };
}

export function closePipe({ readFd, writeFd }: Pipe): void {
  closeSync(readFd);
  closeSync(writeFd);
}

/** A message as it travels. */
export function encodeMessage(message: unknown): Uint8Array {
  const body = new Uint8Array(serialize(message));
  const bytes = new Uint8Array(LENGTH + body.length);
  new DataView(bytes.buffer).setUint32(0, body.length, true);
  bytes.set(body, LENGTH);
  return bytes;
}

/** Writes a message, and waits until it is in the pipe. */
export function writeMessage(writeFd: number, message: unknown): void {
  const bytes = encodeMessage(message);
  for (let written = 0; written < bytes.length; ) written += writeSync(writeFd, bytes, written);
}

/** Writes a short message (less than 4 KiB) to a lossy pipe, whole or not at all. */
export function offerMessage(writeFd: number, message: unknown): void {
  const bytes = encodeMessage(message);
  trySyscall("write", writeFd, bytes, bytes.length);
}

/** Puts messages together out of the pieces in which they come. */
export class MessageReader {
  #pieces: Uint8Array[] = [];
  #length = 0;

  /** Takes a piece (it is copied) and returns the messages that are complete with it. */
  take(piece: Uint8Array): unknown[] {
    this.#pieces.push(piece.slice());
    this.#length += piece.length;
    if (this.#length < LENGTH) return [];
    let bytes = new Uint8Array(Buffer.concat(this.#pieces));
    const messages: unknown[] = [];
    for (;;) {
      const length =
        bytes.length < LENGTH ? 0 : new DataView(bytes.buffer, bytes.byteOffset).getUint32(0, true);
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
