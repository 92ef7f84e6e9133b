// Standard output by write(2). Loading the runtime's stream, process.stdout, takes 3 ms of processor time, a sixth of a short
// command; only code for terminals uses it.
import { writeSync } from "node:fs";
import { EAGAIN } from "../../lib/sys/errno.ts";
import { POLLOUT, pollFile } from "../../lib/sys/pollfile.ts";
import { trySyscall } from "../../lib/sys/syscall.ts";

const STDOUT = 1;
/** asm-generic/ioctls.h; struct termios has 36 bytes, on some processors 44. */
const TCGETS = 0x5401;
const TERMIOS_SIZE = 64;

export const stdout = {
  isTTY: trySyscall("ioctl", STDOUT, TCGETS, new Uint8Array(TERMIOS_SIZE)) === 0,

  /** Write all bytes, waiting for a slow reader. Throws the error of write(2). */
  write(data: string | Uint8Array): void {
    const bytes = typeof data === "string" ? new TextEncoder().encode(data) : data;
    for (let at = 0; at < bytes.length; ) {
      try {
        at += writeSync(STDOUT, bytes, at);
      } catch (error) {
        if (Math.abs((error as NodeJS.ErrnoException).errno ?? 0) !== EAGAIN) throw error;
        // An error of the file is reported by the next write.
        pollFile(STDOUT, POLLOUT, true);
      }
    }
  },
};
