// Find the holder of a lock, of flock(2) or fcntl(2), without touching the lock: /proc/locks lists candidates, /proc/PID/fd tells which of
// them has the file open.
import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import { fileIdentity } from "./fileidentity.ts";
import { textOf } from "./textfile.ts";

/** "1: FLOCK  ADVISORY  WRITE 4711 00:19:123 0 EOF"; waiters have "->" after the number. See proc_locks(5). */
const EXCLUSIVE = {
  FLOCK: /^\d+: FLOCK +\w+ +WRITE (\d+) /gm,
  POSIX: /^\d+: POSIX +\w+ +WRITE (\d+) /gm,
};
/** The call that locks: flock(2), or fcntl(2), as SQLite does. */
type LockKind = keyof typeof EXCLUSIVE;

interface LockHolder {
  readonly pid: number;
  /** The locked file, readable while the process lives, even if it was removed: "/proc/4711/fd/5". */
  readonly file: string;
}

/**
 * Return the process that holds the exclusive lock of a file; undefined if there is none, or none visible in this pid
 * namespace. Where the file was removed, it is the process of this network namespace that has the removed one. A `likely`
 * process is looked at first.
 */
export function findLockHolder(
  path: string,
  kind: LockKind = "FLOCK",
  likely?: number,
): LockHolder | undefined {
  const found = likely === undefined ? undefined : lockHeldBy(likely, path, kind);
  if (found) return found;
  // The read waits for an RCU grace period, 10 to 20 ms.
  const pids = Array.from(textOf("/proc/locks").matchAll(EXCLUSIVE[kind]), ([, pid = ""]) => pid);
  const wanted = fileIdentity(path);
  const isWanted =
    wanted === undefined
      ? (file: string) => linkOf(file) === `${path} (deleted)`
      : (file: string) => fileIdentity(file) === wanted;
  // Compare namespaces first: a process has one, but many open files.
  for (const pid of wanted === undefined ? pids.filter(isOfThisHost()) : pids) {
    const file = lockedFile(pid, isWanted, kind);
    if (file !== undefined) return { pid: Number(pid), file };
  }
  return undefined;
}

/** Return the file if this process holds its exclusive lock. */
export function lockHeldBy(pid: number, path: string, kind: LockKind = "FLOCK"): LockHolder | undefined {
  const wanted = fileIdentity(path);
  const file = wanted && lockedFile(String(pid), (each) => fileIdentity(each) === wanted, kind);
  return file ? { pid, file } : undefined;
}

/** Return the pid of the process that holds the exclusive lock of a file; undefined as above. */
export const lockHolder = (path: string, kind?: LockKind): number | undefined =>
  findLockHolder(path, kind)?.pid;

function lockedFile(pid: string, isWanted: (file: string) => boolean, kind: LockKind): string | undefined {
  try {
    const fd = readdirSync(`/proc/${pid}/fd`).find(
      (each) =>
        isWanted(`/proc/${pid}/fd/${each}`) &&
        new RegExp(`^lock:.* ${kind} .* WRITE `, "m").test(
          readFileSync(`/proc/${pid}/fdinfo/${each}`, "utf8"),
        ),
    );
    return fd && `/proc/${pid}/fd/${fd}`;
  } catch {
    // The process has ended.
    return undefined;
  }
}

/** Return a test for processes of this network namespace. */
function isOfThisHost(): (pid: string) => boolean {
  const ours = linkOf("/proc/self/ns/net");
  return (pid) => linkOf(`/proc/${pid}/ns/net`) === ours;
}

function linkOf(path: string): string | undefined {
  try {
    return readlinkSync(path);
  } catch {
    return undefined;
  }
}
