// Warnings that a peer, a pod or a fault could repeat without end: each kind is logged at most once a minute, with how
// often it happened meanwhile.
import { LatestMap } from "../clock/latestmap.ts";
import { LogAllowance } from "./allowance.ts";
import type { Fields } from "./fields.ts";
import type { Log } from "./log.ts";

const INTERVAL_MS = 60_000;
/** Kinds remembered; the oldest goes first. */
const MAX_KINDS = 256;

/** Warns, but not too often of one kind. */
export type LimitedWarning = (kind: string, text: string, fields?: Fields) => void;

interface Kind {
  loggedAt: number;
  suppressed: number;
}

/**
 * Returns a function that logs `text` as a warning at most once a minute per `kind`, with how many were `suppressed`
 * since. Where a kind names a peer, whoever makes peers up makes kinds up: all kinds together keep within a LogAllowance.
 * `now` is in ms.
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

/**
 * Returns a function that logs lines, `perMinute` of them within a minute; of the others only how many there were.
 * `now` is in ms.
 */
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

/** True within the interval that began at `since`; false, too, where the clock was set back before it. */
function isWithin(since: number, now: number): boolean {
  return now >= since && now - since < INTERVAL_MS;
}
