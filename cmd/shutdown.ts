// How a daemon ends on SIGTERM and SIGINT: at once while it starts, gracefully once it runs. As process 1 of a container it
// has no default action to rely on.
import type { Log } from "../lib/log/log.ts";
import { reasonOf } from "../lib/sys/reason.ts";

/** Less than `weave stop` waits before it kills. */
const GRACE_MS = 5_000;

export interface Shutdown {
  /** From now on, a signal runs `stop` first. A second signal, or 5 s, ends the process all the same. */
  graceful(stop: () => Promise<void>): void;
}

/** Installs the handlers; to be called before anything that waits. `whatStays` is said when they run. */
export function shutdownOnSignal(log: Pick<Log, "info" | "error">, whatStays: string): Shutdown {
  let stop: () => Promise<void> = async () => {};
  let stopping = false;
  const end = () => process.exit(0);
  for (const signal of ["SIGTERM", "SIGINT"] as const) {
    process.on(signal, () => {
      if (stopping) return end();
      stopping = true;
      log.info(`${signal} received, exiting; ${whatStays}`);
      setTimeout(end, GRACE_MS);
      // A throw before the first await counts, too.
      const stopped = (async () => stop())();
      stopped.catch((error) => log.error(reasonOf(error))).finally(end);
    });
  }
  return {
    graceful(step) {
      stop = step;
    },
  };
}
