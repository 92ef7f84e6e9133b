// The lock that the programs of iptables-legacy hold while they change a table (iptables: iptables/xshared.c): between reading
// a table and replacing it, nobody else may.
import { closeSync, constants, openSync } from "node:fs";
import { EAGAIN } from "../../sys/errno.ts";
import { SysError, trySyscall } from "../../sys/syscall.ts";

const FILE = "/run/xtables.lock";
const LOCK_EX_NB = 2 | 4;
/** They hold it for milliseconds, mostly; nothing else goes on in this thread meanwhile. */
const ATTEMPTS = 20;
const PAUSE_MS = 10;

/** Runs `act` with the lock; throws SysError where others hold it for long. */
export function withIptablesLock<T>(act: () => T): T {
  const fd = openLock();
  if (fd === undefined) return act();
  try {
    takeLock(fd);
    return act();
  } finally {
    closeSync(fd);
  }
}

/** Undefined where there can be no such file, and so nobody who would lock it. */
function openLock(): number | undefined {
  try {
    return openSync(FILE, constants.O_RDONLY | constants.O_CREAT | constants.O_NOFOLLOW, 0o600);
  } catch {
    return undefined;
  }
}

function takeLock(fd: number): void {
  for (let attempt = 1; ; attempt++) {
    const result = trySyscall("flock", fd, LOCK_EX_NB);
    if (result >= 0) return;
    if (result !== -EAGAIN || attempt === ATTEMPTS)
      throw new SysError(`cannot lock ${FILE}, which another iptables holds`, -result);
    Bun.sleepSync(PAUSE_MS);
  }
}
