// Warnings that a peer, a pod or a fault could repeat without end: each kind is logged at most once a minute, with how
// often it happened meanwhile.
import { LogAllowance } from "./allowance.ts";
import type { Log } from "./log.ts";

const INTERVAL_MS = 60_000;
/** Kinds remembered; the oldest goes first. */
const MAX_KINDS = 256;

interface Kind {
  loggedAt: number;
  suppressed: number;
}

/**
 * Returns a function that logs `text` as a warning at most once a minute per `kind`. Where a kind names a peer, whoever
 * makes peers up makes kinds up: all kinds together keep within a LogAllowance. `now` is in ms.
 */
export function limitedWarnings(log: Pick<Log, "warning">, now: () => number) {
  const kinds = new Map<string, Kind>();
  const allowance = new LogAllowance(now);
  return (kind: string, text: string): void => {
    const known = kinds.get(kind);
    if (known && isWithin(known.loggedAt, now())) {
      known.suppressed++;
      return;
    }
    const more = known?.suppressed ? ` (${known.suppressed} more since the last such line)` : "";
    const line = allowance.line(text + more);
    if (line !== undefined) log.warning(line);
    kinds.delete(kind);
    kinds.set(kind, { loggedAt: now(), suppressed: 0 });
    for (const oldest of kinds.keys()) {
      if (kinds.size <= MAX_KINDS) break;
      kinds.delete(oldest);
    }
  };
}

/**
 * Returns a function that logs lines, `perMinute` of them within a minute; of the others only how many there were.
 * `now` is in ms.
 */
export function limitedLines(log: Pick<Log, "info">, now: () => number, perMinute: number) {
  let since = Number.NEGATIVE_INFINITY;
  let count = 0;
  return (text: string): void => {
    if (!isWithin(since, now())) {
      if (count > perMinute) log.info(`${count - perMinute} more lines like the last ones`);
      since = now();
      count = 0;
    }
    if (++count <= perMinute) log.info(text);
  };
}

/** True within the interval that began at `since`; false, too, where the clock was set back before it. */
function isWithin(since: number, now: number): boolean {
  return now >= since && now - since < INTERVAL_MS;
}
