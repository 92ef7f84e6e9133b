// Warnings that a peer, a pod or a fault could repeat without end: each kind is logged at most once a minute, with how
// often it happened meanwhile.
import type { Log } from "./log.ts";

const INTERVAL_MS = 60_000;
/** Kinds remembered; the oldest goes first. */
const MAX_KINDS = 256;

interface Kind {
  loggedAt: number;
  suppressed: number;
}

/**
 * Returns a function that logs `text` as a warning at most once a minute per `kind`. A kind is a fixed word, or one
 * with the peer in it; never something a stranger can choose freely. `now` is in ms.
 */
export function limitedWarnings(log: Pick<Log, "warning">, now: () => number) {
  const kinds = new Map<string, Kind>();
  return (kind: string, text: string): void => {
    const known = kinds.get(kind);
    if (known && now() - known.loggedAt < INTERVAL_MS) {
      known.suppressed++;
      return;
    }
    log.warning(known?.suppressed ? `${text} (${known.suppressed} more since the last such line)` : text);
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
    if (now() - since > INTERVAL_MS) {
      if (count > perMinute) log.info(`${count - perMinute} more lines like the last ones`);
      since = now();
      count = 0;
    }
    if (++count <= perMinute) log.info(text);
  };
}
