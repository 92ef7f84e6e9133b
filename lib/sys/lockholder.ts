// Find the holder of a flock(2) lock without touching the lock: /proc/locks lists candidates, /proc/PID/fd tells which of
// them has the file open.
import { readdirSync, readFileSync, statSync } from "node:fs";
import { textOf } from "./textfile.ts";

/** "1: FLOCK  ADVISORY  WRITE 4711 00:19:123 0 EOF"; waiters have "->" after the number. See proc_locks(5). */
const EXCLUSIVE = /^\d+: FLOCK +\w+ +WRITE (\d+) /gm;

/**
 * Return the pid of the process that holds the exclusive lock of a file; undefined if there is none, or none visible in
 * this pid namespace.
 */
export function lockHolder(path: string): number | undefined {
  const file = identity(path);
  if (file === undefined) return undefined;
  for (const [, pid = ""] of textOf("/proc/locks").matchAll(EXCLUSIVE)) {
    if (holds(pid, file)) return Number(pid);
  }
  return undefined;
}

function holds(pid: string, file: string): boolean {
  try {
    return readdirSync(`/proc/${pid}/fd`).some(
      (fd) =>
        identity(`/proc/${pid}/fd/${fd}`) === file &&
        /^lock:.* FLOCK .* WRITE /m.test(readFileSync(`/proc/${pid}/fdinfo/${fd}`, "utf8")),
    );
  } catch {
    // The process has ended.
    return false;
  }
}

function identity(path: string): string | undefined {
  try {
    const { dev, ino } = statSync(path, { bigint: true });
    return `${dev}:${ino}`;
  } catch {
    return undefined;
  }
}
