// The life of a daemon as signals see it: SIGTERM and SIGINT end it in every phase, in order, within 2 s. Signals have no
// default action for process 1 of a container.
import type { Log } from "../lib/log/log.ts";
import { detached } from "../lib/log/unexpected.ts";
import { reasonOf } from "../lib/sys/reason.ts";
import { Scope } from "../lib/sys/scope.ts";

/** Shorter than 2 s, and longer than any part takes to stop. */
const GRACE_MS = 1_800;

/**
 * Run a daemon: `start` makes its parts in a scope, which ends on SIGTERM or SIGINT, before the process does. A second
 * signal, or 1.8 s, ends the process in any case. Rejects with the error of a failed start once everything is taken
 * back. The log line about a signal ends with `whatStays`.
 */
export async function runDaemon(
  log: Pick<Log, "info" | "error">,
  whatStays: string,
  start: (scope: Scope) => Promise<void>,
): Promise<void> {
  const scope = new Scope((what, error) => log.error(`cannot stop ${what}: ${reasonOf(error)}`));
  const exit = () => process.exit(0);
  for (const signal of ["SIGTERM", "SIGINT"] as const) {
    process.on(signal, () => {
      if (scope.signal.aborted) return exit();
      log.info(`${signal} received, exiting; ${whatStays}`);
      setTimeout(exit, GRACE_MS);
      scope.interrupt();
      // Before that, the start ends by itself, and then the scope.
      if (scope.started) detached("stopping", scope.end().then(exit));
    });
  }
  try {
    await start(scope);
    scope.start();
  } catch (error) {
    await Promise.race([scope.end(), Bun.sleep(GRACE_MS)]);
    if (scope.signal.aborted) exit();
    throw error;
  }
}
