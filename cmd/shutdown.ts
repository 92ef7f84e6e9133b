// Signals of a daemon: SIGTERM and SIGINT end it in every phase, in order, within 2 s. Signals have no
// default action for process 1 of a container. systemd, if it started the daemon, is notified of each phase.
import type { CrashReporter } from "../lib/api/crashes.ts";
import { every, systemClock } from "../lib/clock/clock.ts";
import type { Log } from "../lib/log/log.ts";
import { detached, type UnexpectedError } from "../lib/log/unexpected.ts";
import { restartOnCrash, takeCrash } from "../lib/sys/crashsignal.ts";
import { EXIT_CODES } from "../lib/sys/failure.ts";
import { reasonOf } from "../lib/sys/reason.ts";
import { countRestart, isCompiled, MAX_RESTARTS, mayRestart, restart } from "../lib/sys/runtime.ts";
import { Scope } from "../lib/sys/scope.ts";
import { ServiceManager } from "../lib/sys/servicemanager.ts";
import { LoggedError } from "./main.ts";

/** Run a daemon as runDaemon does; write the error of a failed start to its log, and reject with LoggedError. */
export async function runLoggedDaemon(log: Log, whatStays: string, start: Start): Promise<void> {
  try {
    await runDaemon(log, whatStays, start);
  } catch (error) {
    log.error(reasonOf(error));
    throw new LoggedError("see the log", { cause: error });
  }
}

/** Write a report of each unexpected error; one that nothing caught makes the daemon start again. */
export function reportCrashes(
  reporter: CrashReporter,
  restart: (why: string) => void,
): (unexpected: UnexpectedError) => void {
  return ({ error, what, caught }) => {
    const file = reporter.write({ kind: caught ? "failed part" : "uncaught error", what, error });
    if (caught) return;
    restart(
      `uncaught error in ${what}: ${reasonOf(error)}${file === undefined ? "" : `; report in ${file}`}`,
    );
  };
}

/**
 * Tell of a crash that this program was started again after, and start it again after the next one. Throws where there were
 * too many.
 */
export function surviveCrashes(
  reporter: CrashReporter,
  log: Pick<Log, "error">,
  logged: () => string[],
): void {
  const crash = takeCrash();
  if (crash) {
    const file = reporter.write({ kind: "signal", what: "the runtime", error: crash, log: logged() });
    const where = file === undefined ? "" : `; report in ${file}`;
    log.error(`started again after ${crash.name} ${crash.message}${where}`);
    if (countRestart()) throw new CrashedError();
  }
  if (isCompiled()) restartOnCrash(process.argv.slice(2));
}

/** The program has crashed too often. */
class CrashedError extends Error {
  override readonly name = "CrashedError";
  readonly failure = "crashed" as const;
  constructor() {
    super(`not starting again: ${MAX_RESTARTS} crashes within a minute are enough; see 'weave doctor'`);
  }
}

type Start = (scope: Scope, restart: (why: string) => void) => Promise<void>;

/** Shorter than 2 s, and longer than any part takes to stop. */
const GRACE_MS = 1_800;

/**
 * Run a daemon: `start` makes its parts in a scope, which ends on SIGTERM or SIGINT, before the process does. A second
 * signal, or 1.8 s, ends the process in any case. Reject with the error of a failed start once everything is taken
 * back. The log line about a signal ends with `whatStays`. A start may keep `restart`: it ends the scope, too, and starts
 * the daemon again in place of this process, or ends it with an error.
 */
export async function runDaemon(
  log: Pick<Log, "info" | "error">,
  whatStays: string,
  start: Start,
): Promise<void> {
  const scope = new Scope((what, error) => log.error(`cannot stop ${what}: ${reasonOf(error)}`));
  const manager = ServiceManager.of(process.env);
  // From the event loop, so that a hanging one is noticed.
  if (manager?.aliveMs !== undefined) every(systemClock, manager.aliveMs, () => manager.alive());
  const exit = () => process.exit(0);
  const giveUp = () => log.error(`${scope.current ?? "the start"} does not stop; exiting nevertheless`);
  const ended = () => Promise.race([scope.end(), Bun.sleep(GRACE_MS).then(giveUp)]);
  let finish: () => void = exit;
  const stop = (how: () => void) => {
    finish = how;
    // A restart was under way: it ends in the way of the last caller.
    if (scope.signal.aborted) return;
    // The manager would kill a service that has said it stops, and then starts again in place.
    if (how === exit) manager?.stopping();
    else manager?.status("starting again");
    const { state } = scope;
    scope.interrupt();
    // A start gives up by itself, and then ends the scope.
    if (state === "ready")
      detached(
        "stopping",
        ended().then(() => finish()),
      );
  };
  let signalled = false;
  for (const signal of ["SIGTERM", "SIGINT"] as const) {
    process.on(signal, () => {
      if (signalled) return exit();
      signalled = true;
      log.info(`exiting on ${signal}; ${whatStays}`);
      setTimeout(() => {
        giveUp();
        exit();
      }, GRACE_MS);
      stop(exit);
    });
  }
  const again = (why: string) => {
    if (scope.signal.aborted) return;
    const may = mayRestart();
    log.error(
      may
        ? `${why}; starting again`
        : `${why}; not starting again: ${MAX_RESTARTS} times within a minute are enough; see 'weave doctor'`,
    );
    stop(() => {
      if (may) restart();
      process.exit(EXIT_CODES.crashed);
    });
  };
  try {
    await start(scope, again);
    scope.start();
    manager?.status("running");
    manager?.ready();
  } catch (error) {
    manager?.stopping();
    manager?.status(reasonOf(error));
    await ended();
    if (scope.signal.aborted) finish();
    throw error;
  }
}
