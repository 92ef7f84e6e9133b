// Rate limits for lines that a peer, a pod or a fault can repeat without end.
import { LatestMap } from "../clock/latestmap.ts";
import { LogAllowance } from "./allowance.ts";
import type { Fields } from "./fields.ts";
import type { Log } from "./log.ts";

const INTERVAL_MS = 60_000;
/** Bound on remembered kinds; the oldest is forgotten. */
const MAX_KINDS = 256;

/** Warn at most once a minute of one kind. */
export type LimitedWarning = (kind: string, text: string, fields?: Fields) => void;

interface Kind {
  loggedAt: number;
  suppressed: number;
}

/**
 * Return a function that warns at most once a minute per kind, with the number of lines `suppressed` since. Strangers can invent
 * kinds that name a peer, so that all kinds together stay within a LogAllowance. `now` in ms.
 */
export function limitedWarnings(log: Pick<Log, "warning">, now: () => number): LimitedWarning {
  const kinds = new LatestMap<string, Kind>(MAX_KINDS);
  const allowance = new LogAllowance(now);
  return (kind, text, fields = {}) => {
    const known = kinds.get(kind);
    if (known && isWithin(known.loggedAt, now())) {
      known.suppressed++;
      return;
    }
    const admitted = allowance.admit(text, { ...fields, suppressed: known?.suppressed || undefined });
    if (admitted) log.warning(text, admitted);
    kinds.set(kind, { loggedAt: now(), suppressed: 0 });
  };
}

/** Return a function that logs `perMinute` lines a minute, and of the others their number. `now` in ms. */
export function limitedLines(log: Pick<Log, "info">, now: () => number, perMinute: number) {
  let since = Number.NEGATIVE_INFINITY;
  let count = 0;
  return (text: string, fields?: Fields): void => {
    if (!isWithin(since, now())) {
      if (count > perMinute) log.info("suppressed similar lines", { suppressed: count - perMinute });
      since = now();
      count = 0;
    }
    if (++count <= perMinute) log.info(text, fields);
  };
}

/** True within the interval from `since`; false if the clock went back before it. */
function isWithin(since: number, now: number): boolean {
  return now >= since && now - since < INTERVAL_MS;
}
