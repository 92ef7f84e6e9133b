// CLOCK_MONOTONIC, the clock that eBPF programs read (bpf_ktime_get_ns). Bun's process.hrtime counts from the start of
// the process and is of no use beside it.
import { syscall } from "./syscall.ts";

const CLOCK_MONOTONIC = 1;

/** Nanoseconds since the host was started, without the time it slept. */
export function monotonicNow(): bigint {
  const timespec = new BigInt64Array(2);
  syscall("reading the clock", "clock_gettime", CLOCK_MONOTONIC, new Uint8Array(timespec.buffer));
  return (timespec[0] ?? 0n) * 1_000_000_000n + (timespec[1] ?? 0n);
}
