// Each connection and each peer that comes and goes is a few lines in the log, and others decide how often that is.
import type { Clock } from "../clock/clock.ts";
import { LogAllowance } from "../log/allowance.ts";
import type { Log } from "../log/log.ts";

/** The log, without the info lines that are too many; the next one says how many they were. */
export function ratedLog(log: Log, clock: Clock): Log {
  const allowance = new LogAllowance(() => clock.now());
  return {
    debug: log.debug,
    info(text) {
      const line = allowance.line(text);
      if (line !== undefined) log.info(line);
    },
    warning: log.warning,
    error: log.error,
  };
}
