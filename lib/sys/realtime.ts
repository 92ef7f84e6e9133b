// CLOCK_REALTIME in nanoseconds, the clock that the kernel notes the arrival of packets by.
import { syscall } from "./syscall.ts";

const CLOCK_REALTIME = 0;

/** Nanoseconds since the epoch; somebody may set that clock at any time. */
export function realtimeNow(): bigint {
  const timespec = new BigInt64Array(2);
  syscall("reading the clock", "clock_gettime", CLOCK_REALTIME, new Uint8Array(timespec.buffer));
  return (timespec[0] ?? 0n) * 1_000_000_000n + (timespec[1] ?? 0n);
}
