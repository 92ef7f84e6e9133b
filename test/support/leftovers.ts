// Network namespaces of tests whose process has ended: it was killed, or something in it has failed to clean up.
import { existsSync, readdirSync } from "node:fs";

const FOLDER = "/run/netns";

/** Namespaces named after a process that is gone (see Hosts). */
export function leftNamespaces(): string[] {
  if (!existsSync(FOLDER)) return [];
  return readdirSync(FOLDER).filter((name) => {
    const [, pid] = /^[a-z]+(\d+)-/.exec(name) ?? [];
    return pid !== undefined && !existsSync(`/proc/${pid}`);
  });
}

/** Ends what runs in a namespace, and removes it. */
export function removeNamespace(name: string): void {
  const { stdout } = Bun.spawnSync(["ip", "netns", "pids", name]);
  for (const pid of stdout.toString().split("\n").map(Number)) {
    try {
      if (pid > 1) process.kill(pid, "SIGKILL");
    } catch {
      // It has ended already.
    }
  }
  Bun.spawnSync(["ip", "netns", "del", name]);
}
