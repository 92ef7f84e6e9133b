// Waiting for several files at once: ppoll(2) on a list of struct pollfd in an arena, for threads that block.
import type { Arena } from "./arena.ts";
import { EAGAIN, EINTR } from "./errno.ts";
import { lastErrno, rawSyscall } from "./libc.ts";
import { SysError, syscallNumber } from "./syscall.ts";

const POLLIN = 1;
const POLLERR = 8;
const POLLHUP = 16;
const POLLNVAL = 32;
/** struct pollfd: fd (4 bytes), events (2), revents (2). A negative fd is left out. */
const POLLFD = { events: 4, revents: 6, size: 8 } as const;

/** Files by their place in the list. */
export class PolledFiles {
  readonly #at: number;
  /** A struct timespec of 0. */
  readonly #noTime: number;
  readonly #ppoll = syscallNumber("ppoll");

  constructor(
    private readonly arena: Arena,
    private readonly fds: readonly number[],
  ) {
    this.#at = arena.reserve(fds.length * POLLFD.size);
    this.#noTime = arena.reserve(16);
    for (const i of fds.keys()) {
      arena.view.setInt16(this.#entry(i) + POLLFD.events, POLLIN, true);
      this.resume(i);
    }
  }

  /** Waits until one of the files can be read or has an error; with `busy` only looks. Throws SysError. */
  wait(busy: boolean): void {
    const { arena, fds } = this;
    const timeout = busy ? arena.address + this.#noTime : 0;
    for (;;) {
      if (Number(rawSyscall(this.#ppoll, arena.address + this.#at, fds.length, timeout, 0, 8, 0)) >= 0)
        return;
      const errno = lastErrno();
      if (errno !== EINTR && errno !== EAGAIN) throw new SysError("waiting for files", errno);
    }
  }

  readable(i: number): boolean {
    return (this.#events(i) & POLLIN) !== 0;
  }

  /** It has an error, or its other end is gone: waiting for it would return at once, again and again. */
  failed(i: number): boolean {
    return (this.#events(i) & (POLLERR | POLLHUP | POLLNVAL)) !== 0;
  }

  /** Leaves a file out until it is resumed. */
  pause(i: number): void {
    this.arena.view.setInt32(this.#entry(i), -1, true);
  }

  resume(i: number): void {
    this.arena.view.setInt32(this.#entry(i), this.fds[i] ?? -1, true);
  }

  #events(i: number): number {
    return this.arena.view.getInt16(this.#entry(i) + POLLFD.revents, true);
  }

  #entry(i: number): number {
    return this.#at + i * POLLFD.size;
  }
}
