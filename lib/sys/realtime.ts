// CLOCK_REALTIME in nanoseconds, the clock that the kernel notes the arrival of packets by.
import { CLOCK, clockGettime } from "./clockgettime.ts";

/** Nanoseconds since the epoch; somebody may set that clock at any time. */
export function realtimeNow(): bigint {
  return clockGettime(CLOCK.realtime);
}
