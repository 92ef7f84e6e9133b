// The one router of a host: it holds the lock of the pid file for as long as it lives.
import { closeSync, constants, fchmodSync, ftruncateSync, writeSync } from "node:fs";
import { dirname } from "node:path";
import { pidFile } from "../api/paths.ts";
import { EAGAIN } from "../sys/errno.ts";
import { lockHolder } from "../sys/lockholder.ts";
import { makeOwnFolder, openOwnFile } from "../sys/ownfile.ts";
import { Pidfd } from "../sys/pidfd.ts";
import { SysError, trySyscall } from "../sys/syscall.ts";
import { textOf } from "../sys/textfile.ts";

const LOCK_EX_NB = 2 | 4;

/** A router runs already. */
export class AlreadyRunningError extends Error {
  override readonly name = "AlreadyRunningError";
  constructor(pid: number | undefined) {
    super(
      pid === undefined
        ? `weave is already running, out of sight (${pidFile()} is locked by a process of another pid namespace)`
        : `weave is already running (pid ${pid}); you can stop it with 'weave stop'`,
    );
  }
}

/** Makes this process the one router of the host, for as long as it lives; throws AlreadyRunningError. */
export function acquireInstanceLock(): void {
  makeOwnFolder(dirname(pidFile()));
  // Whoever can open the file can lock it.
  const fd = openOwnFile(pidFile(), constants.O_RDWR | constants.O_CREAT, 0o600);
  fchmodSync(fd, 0o600);
  // The lock goes with the process, whatever ends it; the fd is left open for it.
  const locked = trySyscall("flock", fd, LOCK_EX_NB);
  if (locked < 0) {
    closeSync(fd);
    if (locked === -EAGAIN) throw new AlreadyRunningError(lockHolder(pidFile()));
    throw new SysError(`locking ${pidFile()}`, -locked);
  }
  ftruncateSync(fd, 0);
  writeSync(fd, `${process.pid}\n`);
}

/** The pid of the running router, as far as it can be seen from here. */
export function runningPid(): number | undefined {
  const pid = lockHolder(pidFile());
  // Somebody else may hold the lock for a moment; the router has its own pid in the file, that of its pid namespace.
  const own = pid && /^NSpid:.*\s(\d+)$/m.exec(textOf(`/proc/${pid}/status`))?.[1];
  return own && own === textOf(pidFile()).trim() ? pid : undefined;
}

/** The running router, which is it for certain; undefined where none runs. To be closed. */
export function runningRouter(): Pidfd | undefined {
  const pid = runningPid();
  const router = pid === undefined ? undefined : Pidfd.open(pid);
  // The pid may have become another process's before it was opened, but not since.
  if (router && runningPid() === pid) return router;
  router?.[Symbol.dispose]();
  return undefined;
}
