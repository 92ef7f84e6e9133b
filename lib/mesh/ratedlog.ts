// Each connection and each peer that comes and goes is a few lines in the log, and others decide how often that is.
import type { Clock } from "../clock/clock.ts";
import type { Log } from "../log/log.ts";
import { TokenBucket } from "./tokenbucket.ts";

/** Lines of level info: so many at once, 200 peers that come and go; then so many a second, 20 MB a day. */
export const INFO_BURST = 2_000;
export const INFO_PER_S = 2;

/** The log, without the info lines that are too many; the next one says how many they were. */
export function ratedLog(log: Log, clock: Clock): Log {
  const rate = new TokenBucket(INFO_BURST, INFO_PER_S, clock.now());
  let dropped = 0;
  return {
    debug: log.debug,
    info(text) {
      if (!rate.take(clock.now())) {
        dropped++;
        return;
      }
      log.info(dropped > 0 ? `${text} (${dropped} lines before this one left out)` : text);
      dropped = 0;
    },
    warning: log.warning,
    error: log.error,
  };
}
