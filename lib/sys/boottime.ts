// CLOCK_BOOTTIME: unlike CLOCK_MONOTONIC, it goes on while the host sleeps.
import { CLOCK, clockGettime } from "./clockgettime.ts";

/** Milliseconds since the host was started. */
export function boottimeMs(): number {
  return Number(clockGettime(CLOCK.boottime) / 1_000_000n);
}
