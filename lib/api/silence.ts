// When to give up on a running router. A busy one, or one short of CPU time, answers late; one stopped by a signal does not answer
// until SIGCONT.
import type { Clock } from "../clock/clock.ts";

/** Interval of checks. */
const CHECK_MS = 1_000;
/** Consecutive checks that find it stopped. */
const STOPPED_CHECKS = 4;
/** Checks without an answer. A count, not a time: a caller short of CPU time reads answers late. */
const SILENT_CHECKS = 60;

export interface Probe {
  /** Resolve to true once the router's event loop has answered, to false if it cannot be asked now. Never rejects. */
  answers(): Promise<boolean>;
  /** The router's process ID, if it is stopped. */
  stopped(): number | undefined;
}

/** Why to give up: the process with this ID is stopped, or has not answered for this many seconds. */
export type Silence = { readonly stopped: number } | { readonly seconds: number };

/** Call `giveUp` once there is reason to, unless `over` fires first. One probe is in flight at a time. */
export function onSilence(
  clock: Clock,
  probe: Probe,
  over: AbortSignal,
  giveUp: (silence: Silence) => void,
): void {
  let asking = false;
  let silent = 0;
  let stopped = 0;
  const heard = (answered: boolean) => {
    asking = false;
    if (answered) silent = stopped = 0;
  };
  const check = () => {
    const pid = silent++ > 0 ? probe.stopped() : undefined;
    stopped = pid === undefined ? 0 : stopped + 1;
    if (pid !== undefined && stopped >= STOPPED_CHECKS) return giveUp({ stopped: pid });
    if (silent > SILENT_CHECKS) return giveUp({ seconds: (SILENT_CHECKS * CHECK_MS) / 1_000 });
    timer = clock.after(CHECK_MS, check);
    if (asking) return;
    asking = true;
    probe.answers().then(heard, () => heard(false));
  };
  let timer = clock.after(CHECK_MS, check);
  over.addEventListener("abort", () => timer.cancel());
}
