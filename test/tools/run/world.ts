// A world of its own for each file of tests that needs root: new pid, mount and network namespaces. Files run side by
// side without sharing names, ports or tables, and nothing outlives them, whoever is killed.
import { join } from "node:path";

const WORLD = join(import.meta.dir, "world.sh");

/**
 * Return a command line that runs another in a world of its own, and ends with the process that starts it: unshare(1) is
 * killed with its parent, and process 1 with unshare; the kernel ends all others with process 1 (pid_namespaces(7)).
 */
export function inOwnWorld(command: readonly string[]): string[] {
  const namespaces = ["--pid", "--mount", "--net", "--fork", "--kill-child", "--mount-proc"];
  return [...endsWithParent(["unshare", ...namespaces, "sh", WORLD]), ...command];
}

/** Return a command line that runs another until its parent ends (PR_SET_PDEATHSIG of prctl(2)). */
export function endsWithParent(command: readonly string[]): string[] {
  return ["setpriv", "--pdeathsig", "KILL", ...command];
}

/** Return a command line that runs tests: in a world of their own, if there is root to make it. */
export const enclosed = process.getuid?.() === 0 ? inOwnWorld : endsWithParent;
