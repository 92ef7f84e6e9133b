// One router per host: it locks the pid file for its whole life.
import { closeSync, constants, existsSync, fchmodSync, ftruncateSync, writeSync } from "node:fs";
import { dirname } from "node:path";
import { controlSocket, pidFile } from "../api/paths.ts";
import { EAGAIN } from "../sys/errno.ts";
import { fileIdentity } from "../sys/fileidentity.ts";
import { findLockHolder, lockHeldBy, lockHolder } from "../sys/lockholder.ts";
import { makeOwnFolder, openOwnFile } from "../sys/ownfile.ts";
import { Pidfd } from "../sys/pidfd.ts";
import { SysError, trySyscall } from "../sys/syscall.ts";
import { textOf } from "../sys/textfile.ts";
import { hasBoundListener } from "../sys/unixlistener.ts";

const LOCK_EX_NB = 2 | 4;

/** A router runs already. */
export class AlreadyRunningError extends Error {
  override readonly name = "AlreadyRunningError";
  constructor(pid: number | undefined) {
    super(
      pid === undefined
        ? `weave is already running in another pid namespace (${pidFile()} is locked)`
        : `weave is already running (pid ${pid}): 'weave connect' adds peers, 'weave stop' ends it`,
    );
  }
}

/** The pid file, locked; open until the process ends. */
let held: number | undefined;

/** Lock the pid file for the life of this process; throws AlreadyRunningError. */
export function acquireInstanceLock(): void {
  makeOwnFolder(dirname(pidFile()));
  // Mode 600: a process that can open the file can lock it.
  const fd = openOwnFile(pidFile(), constants.O_RDWR | constants.O_CREAT, 0o600);
  fchmodSync(fd, 0o600);
  const locked = trySyscall("flock", fd, LOCK_EX_NB);
  if (locked < 0) {
    closeSync(fd);
    if (locked === -EAGAIN) throw new AlreadyRunningError(lockHolder(pidFile()));
    throw new SysError(`locking ${pidFile()}`, -locked);
  }
  ftruncateSync(fd, 0);
  writeSync(fd, `${process.pid}\n`);
  if (held !== undefined) closeSync(held);
  held = fd;
}

/** Write and lock the pid file again if it was removed; return whether it was. Throws as acquireInstanceLock does. */
export function restoreInstanceLock(): boolean {
  if (held === undefined) return false;
  if (fileIdentity(pidFile()) === fileIdentity(held)) return false;
  acquireInstanceLock();
  return true;
}

/** Whether a router has the lock, visible in this pid namespace or not. */
export function isInstanceLocked(): boolean {
  if (!existsSync(pidFile())) return lockHolder(pidFile()) !== undefined;
  const fd = openOwnFile(pidFile(), constants.O_RDWR, 0o600);
  try {
    return trySyscall("flock", fd, LOCK_EX_NB) === -EAGAIN;
  } finally {
    closeSync(fd);
  }
}

/** Return the pid of the running router; undefined if there is none, or none visible in this pid namespace. */
export function runningPid(): number | undefined {
  // A router without its pid file serves its socket, also where that was removed.
  if (!existsSync(pidFile()) && !hasBoundListener(controlSocket())) return undefined;
  const { pid, file = "" } = findLockHolder(pidFile(), "FLOCK", notedPid()) ?? {};
  // Another process may hold the lock for a moment; only the router's pid, in its own pid namespace, is in the file.
  const own = pid && /^NSpid:.*\s(\d+)$/m.exec(textOf(`/proc/${pid}/status`))?.[1];
  return own && own === textOf(file).trim() ? pid : undefined;
}

/**
 * As runningPid, in less than 1 ms where the pid file names a router that has ended: a router in another pid namespace, which a
 * start refuses by itself, is not found.
 */
export function launchedPid(): number | undefined {
  const pid = notedPid();
  return pid === undefined ? runningPid() : lockHeldBy(pid, pidFile())?.pid;
}

/** Return the pid in the pid file, of a router that may have ended; undefined without a file. */
function notedPid(): number | undefined {
  const pid = Number(textOf(pidFile()));
  return pid > 0 ? pid : undefined;
}

/** Open the running router; undefined if there is none. Dispose of it after use. */
export function runningRouter(): Pidfd | undefined {
  const pid = runningPid();
  const router = pid === undefined ? undefined : Pidfd.open(pid);
  // The pid may have been reused before it was opened, but not after.
  if (router && runningPid() === pid) return router;
  router?.[Symbol.dispose]();
  return undefined;
}
