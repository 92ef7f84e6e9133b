// ppoll(2) on one file.
import { trySyscall } from "./syscall.ts";

export const POLLIN = 1;
export const POLLOUT = 4;

/** A struct timespec of 0. */
const AT_ONCE = new Uint8Array(16);

/**
 * Return whether a file is ready for `events` or has an error; with `wait`, once it is. False also after a signal: then nothing
 * is known yet.
 */
export function pollFile(fd: number, events: number, wait: boolean): boolean {
  // struct pollfd: fd, events, revents.
  const file = new Uint8Array(Int32Array.of(fd, events).buffer);
  return trySyscall("ppoll", file, 1, wait ? 0 : AT_ONCE, 0, 0) > 0;
}
