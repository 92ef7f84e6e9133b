// Each connection and each peer that comes and goes is a few lines in the log, and others decide how often that is.
import type { Clock } from "../clock/clock.ts";
import { LogAllowance } from "../log/allowance.ts";
import { type Log, logTo } from "../log/log.ts";

/** The log, without the info lines that are too many; the next one says how many they were. */
export function ratedLog(log: Log, clock: Clock): Log {
  const allowance = new LogAllowance(() => clock.now());
  return logTo((level, text, fields) => {
    if (level !== "info") return log[level](text, fields);
    const admitted = allowance.admit(text, fields);
    if (admitted) log.info(text, admitted);
  });
}
