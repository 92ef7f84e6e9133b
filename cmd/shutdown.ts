// Shut a daemon down on SIGTERM and SIGINT: at once while it starts, gracefully afterwards. Signals have no default action
// for process 1 of a container.
import type { Log } from "../lib/log/log.ts";
import { reasonOf } from "../lib/sys/reason.ts";

/** Shorter than the time-out of `weave stop`, which then sends SIGKILL. */
const GRACE_MS = 5_000;

export interface Shutdown {
  /** Run `stop` before exiting. A second signal, or 5 s, ends the process in any case. */
  graceful(stop: () => Promise<void>): void;
}

/** Install the handlers; call this before anything that waits. The log line ends with `whatStays`. */
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
      // Covers a throw before the first await.
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
