// Processes by file descriptor (pidfd_open(2), Linux 5.3): unlike a pid, a pidfd is never reused for another process.
import { closeSync } from "node:fs";
import { ESRCH } from "./errno.ts";
import { POLLIN, pollFile } from "./pollfile.ts";
import { SysError, trySyscall } from "./syscall.ts";

export const SIGKILL = 9;
export const SIGTERM = 15;
export const SIGCONT = 18;

/** A handle of a process, running or ended; dispose of it after use. */
export class Pidfd implements Disposable {
  private constructor(
    readonly pid: number,
    readonly fd: number,
  ) {}

  /** Open the process that has this pid now; undefined if there is none. */
  static open(pid: number): Pidfd | undefined {
    const fd = trySyscall("pidfd_open", pid, 0);
    if (fd === -ESRCH) return undefined;
    if (fd < 0) throw new SysError(`opening process ${pid}`, -fd);
    return new Pidfd(pid, fd);
  }

  /** Send a signal; returns false if the process has ended. */
  signal(number: number): boolean {
    const result = trySyscall("pidfd_send_signal", this.fd, number, 0, 0);
    if (result < 0 && result !== -ESRCH)
      throw new SysError(`sending signal ${number} to process ${this.pid}`, -result);
    return result >= 0;
  }

  /** True once the process has ended, including as a zombie. */
  get ended(): boolean {
    return pollFile(this.fd, POLLIN, false);
  }

  [Symbol.dispose](): void {
    closeSync(this.fd);
  }
}
