// ppoll(2) on a list of struct pollfd in an arena, for threads that block.
import type { Arena } from "./arena.ts";
import { EAGAIN, EINTR } from "./errno.ts";
import { lastErrno, rawSyscall } from "./libc.ts";
import { POLLIN } from "./pollfile.ts";
import { SysError, syscallNumber } from "./syscall.ts";

const POLLERR = 8;
const POLLHUP = 16;
const POLLNVAL = 32;
/** struct pollfd: fd (4 bytes), events (2), revents (2). The kernel skips negative fds. */
const POLLFD = { events: 4, revents: 6, size: 8 } as const;

/** Files by their index in the list. */
export class PolledFiles {
  readonly #at: number;
  /** Offset of a struct timespec of 0. */
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

  /** Wait until a file is readable or has an error; with `busy`, return at once. Throws SysError. */
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

  /** True if a file has an error or has lost its other end: until it is paused, `wait` returns at once. */
  failed(i: number): boolean {
    return (this.#events(i) & (POLLERR | POLLHUP | POLLNVAL)) !== 0;
  }

  /** Skip a file until it is resumed. */
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
