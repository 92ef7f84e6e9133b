// An event that one thread raises and another waits for, by a file (eventfd(2)).
import { syscall, trySyscall } from "./syscall.ts";

const EFD_NONBLOCK = 0x800;
const EFD_CLOEXEC = 0x80000;
const ONE = new Uint8Array(new BigUint64Array([1n]).buffer);

/** Makes one; its fd can be read while the event is raised, and reading it ends that. */
export function eventFd(): number {
  return syscall("making an event", "eventfd2", 0, EFD_NONBLOCK | EFD_CLOEXEC);
}

export function signalEvent(fd: number): void {
  trySyscall("write", fd, ONE, ONE.length);
}
