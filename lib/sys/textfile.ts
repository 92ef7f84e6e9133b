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
