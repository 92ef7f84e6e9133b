// The host's clock: peers reject gossip from clocks more than an hour off (weave: ipam/allocator.go).
import { trySyscall } from "../sys/syscall.ts";
import { type Finding, ok, problem, warning } from "./finding.ts";

/** struct timex (linux/timex.h) is shorter; what adjtimex(2) returns while nothing keeps the clock. */
const TIMEX = 256;
const TIME_ERROR = 5;
/** No clock can be right before this. */
const EARLIEST = Date.UTC(2024, 0, 1);
const ADVICE = "install and start an NTP client (chrony, systemd-timesyncd)";

export function clockFinding(now = Date.now()): Finding {
  if (now < EARLIEST) return problem("clock", `the clock says ${new Date(now).toISOString()}`, ADVICE);
  const state = trySyscall("adjtimex", new Uint8Array(TIMEX));
  if (state === TIME_ERROR)
    return warning(
      "clock",
      "no time synchronisation is running; peers reject clocks more than 1 h off",
      ADVICE,
    );
  return ok("clock", "time synchronisation is running");
}
