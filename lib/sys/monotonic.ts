// CLOCK_MONOTONIC, the clock that eBPF programs read (bpf_ktime_get_ns). Bun's process.hrtime counts from the start of
// the process and is of no use beside it.
import { CLOCK, clockGettime } from "./clockgettime.ts";

/** Nanoseconds since the host was started, without the time it slept. */
export function monotonicNow(): bigint {
  return clockGettime(CLOCK.monotonic);
}
