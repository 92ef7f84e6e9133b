// Open files of this process and their limit: proc_pid_fd(5), proc_pid_limits(5).
import { readdirSync, statSync } from "node:fs";
import { textOf } from "./textfile.ts";

const FILES = "/proc/self/fd";

export function openFiles(): number {
  // Since Linux 6.2 the size of the folder is their number.
  return statSync(FILES).size || readdirSync(FILES).length;
}

/** Return the soft limit on open files; Infinity if there is none. */
export function openFilesLimit(): number {
  const soft = /^Max open files\s+(\d+)/m.exec(textOf("/proc/self/limits"))?.[1];
  return soft === undefined ? Number.POSITIVE_INFINITY : Number(soft);
}

/** Open files of a router with a few peers and containers, and some to spare. */
const LEAST_FILES = 128;

/** Throw if a router cannot run with the limit on open files; Bun has raised the soft limit to the hard one. */
export function requireOpenFiles(limit = openFilesLimit()): void {
  if (limit >= LEAST_FILES) return;
  throw new Error(
    `the limit on open files is ${limit}, and the router needs ${LEAST_FILES} at least; ` +
      "raise it with 'ulimit -Hn 65536', or LimitNOFILE= of its service",
  );
}
