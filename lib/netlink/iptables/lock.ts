// The lock of the programs of iptables-legacy (iptables: iptables/xshared.c): a table is read, changed and replaced under it.
import { closeSync, constants, openSync } from "node:fs";
import { EAGAIN } from "../../sys/errno.ts";
import { SysError, trySyscall } from "../../sys/syscall.ts";

export const LOCK_FILE = "/run/xtables.lock";
const LOCK_EX_NB = 2 | 4;
/** Programs mostly hold it for milliseconds; this thread is blocked meanwhile. */
const ATTEMPTS = 20;
const PAUSE_MS = 10;

/** Run `act` under the lock; throws SysError where others hold it for longer than 200 ms. */
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

/** Open the lock; undefined where the file cannot exist, so that nobody locks it. */
function openLock(): number | undefined {
  try {
    return openSync(LOCK_FILE, constants.O_RDONLY | constants.O_CREAT | constants.O_NOFOLLOW, 0o600);
  } catch {
    return undefined;
  }
}

function takeLock(fd: number): void {
  for (let attempt = 1; ; attempt++) {
    const result = trySyscall("flock", fd, LOCK_EX_NB);
    if (result >= 0) return;
    if (result !== -EAGAIN || attempt === ATTEMPTS)
      throw new SysError(`cannot lock ${LOCK_FILE}, which another iptables holds`, -result);
    Bun.sleepSync(PAUSE_MS);
  }
}
