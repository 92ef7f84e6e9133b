// A log with a limit of info lines: peers decide how often connections come and go.
import type { Clock } from "../clock/clock.ts";
import { LogAllowance } from "../log/allowance.ts";
import { type Log, logTo } from "../log/log.ts";

/** Return the log without info lines over the limit; the next line has their number. */
export function ratedLog(log: Log, clock: Clock): Log {
  const allowance = new LogAllowance(() => clock.now());
  return logTo((level, text, fields) => {
    if (level !== "info") return log[level](text, fields);
    const admitted = allowance.admit(text, fields);
    if (admitted) log.info(text, admitted);
  });
}
