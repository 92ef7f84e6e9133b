// Open files of this process and their limit: proc_pid_fd(5), proc_pid_limits(5).
import { readdirSync } from "node:fs";
import { textOf } from "./textfile.ts";

export function openFiles(): number {
  return readdirSync("/proc/self/fd").length;
}

/** Return the soft limit on open files; Infinity if there is none. */
export function openFilesLimit(): number {
  const soft = /^Max open files\s+(\d+)/m.exec(textOf("/proc/self/limits"))?.[1];
  return soft === undefined ? Number.POSITIVE_INFINITY : Number(soft);
}
