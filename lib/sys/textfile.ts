// Text files that may not exist.
import { closeSync, constants, fstatSync, openSync, readSync } from "node:fs";

/** Room for most files of /proc and /sys, which have no size before they are read: readFileSync() takes 256 kB for each. */
const room = new Uint8Array(16 << 10);
const decoder = new TextDecoder("utf-8", { ignoreBOM: true });

/** Return the text of a file; throws as readFileSync(). For those of /proc and /sys it takes a quarter of the time. */
export function readText(path: string): string {
  const fd = openSync(path, "r");
  try {
    let bytes = room;
    for (let length = 0; ; ) {
      const read = readSync(fd, bytes, length, bytes.length - length, null);
      if (read === 0) return decoder.decode(bytes.subarray(0, length));
      length += read;
      if (length < bytes.length) continue;
      const longer = new Uint8Array(2 * length);
      longer.set(bytes);
      bytes = longer;
    }
  } finally {
    closeSync(fd);
  }
}

/** Return the text of a file; "" if it cannot be read. */
export function textOf(path: string): string {
  try {
    return readText(path);
  } catch {
    return "";
  }
}

/** A file of /proc that is read again and again, and stays open: in the network namespace of the first read. */
export class KeptFile {
  #fd: number | undefined;

  constructor(private readonly path: string) {}

  /** Return its text, of long ones the beginning; "" if it cannot be read. */
  text(): string {
    try {
      this.#fd ??= openSync(this.path, "r");
      return decoder.decode(room.subarray(0, readSync(this.#fd, room, 0, room.length, 0)));
    } catch {
      // The module that it belongs to may have been removed, and come back.
      this.close();
      return "";
    }
  }

  close(): void {
    if (this.#fd !== undefined) closeSync(this.#fd);
    this.#fd = undefined;
  }
}

/**
 * Return the text of a regular file of at most `limit` bytes. Throws for any other: a FIFO or a device may keep whoever reads it
 * waiting for ever, or have no end.
 */
export function readRegularFile(path: string, limit: number): string {
  const fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  try {
    const bytes = new Uint8Array(limit + 1);
    let length = fstatSync(fd).isFile() ? 0 : bytes.length;
    while (length <= limit) {
      const read = readSync(fd, bytes, length, bytes.length - length, null);
      if (read === 0) return decoder.decode(bytes.subarray(0, length));
      length += read;
    }
    throw new Error(`${path} is not a regular file of at most ${limit} bytes`);
  } finally {
    closeSync(fd);
  }
}
