// Small text files of /proc that are read again and again: a file that stays open is read by one system call, and its path is
// looked up once. Its contents are those of the network namespace, or thread, that was the caller's when it was opened.
import { closeSync, openSync, readSync } from "node:fs";

/** Bytes of the longest text; what follows is not read. */
const ROOM = 4_096;

const room = new Uint8Array(ROOM);
const decoder = new TextDecoder();

export class KeptFile {
  #fd: number | undefined;

  constructor(private readonly path: string) {}

  /** Return the text now; throws as readFileSync(). */
  read(): string {
    try {
      if (this.#fd !== undefined) return textOf(this.#fd);
    } catch {
      // A setting of a link ends with the link, and another of that name may be back.
      this.close();
    }
    this.#fd = openSync(this.path, "r");
    return textOf(this.#fd);
  }

  close(): void {
    if (this.#fd !== undefined) closeSync(this.#fd);
    this.#fd = undefined;
  }
}

/** Of these files, one read returns all that there is room for. */
const textOf = (fd: number) => decoder.decode(room.subarray(0, readSync(fd, room, 0, ROOM, 0)));
