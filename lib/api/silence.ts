// When to give up on a router that runs. A busy one, or one that gets little of a processor, answers late; one that a signal
// has stopped does not answer until somebody continues it.
import type { Clock } from "../clock/clock.ts";

/** Interval of looks at the router. */
const LOOK_MS = 1_000;
/** Consecutive looks that find it stopped. */
const STOPPED_LOOKS = 4;
/** Looks without an answer. Looks, not time: a caller that gets little of a processor reads answers late. */
const SILENT_LOOKS = 60;

export interface Probe {
  /** Resolve to true once the router's event loop has answered, to false if it cannot be asked now. Never rejects. */
  answers(): Promise<boolean>;
  /** The router's process ID, if it is stopped. */
  stopped(): number | undefined;
}

/** Why it is given up: stopped, as this process ID; or without an answer for so many s. */
export type Silence = { readonly stopped: number } | { readonly seconds: number };

/** Call back once the router is to be given up, unless the call is over before. It is asked one question at a time. */
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
  const look = () => {
    const pid = silent++ > 0 ? probe.stopped() : undefined;
    stopped = pid === undefined ? 0 : stopped + 1;
    if (pid !== undefined && stopped >= STOPPED_LOOKS) return giveUp({ stopped: pid });
    if (silent > SILENT_LOOKS) return giveUp({ seconds: (SILENT_LOOKS * LOOK_MS) / 1_000 });
    timer = clock.after(LOOK_MS, look);
    if (asking) return;
    asking = true;
    probe.answers().then(heard, () => heard(false));
  };
  let timer = clock.after(LOOK_MS, look);
  over.addEventListener("abort", () => timer.cancel());
}
