// The kernel's clocks (clock_gettime(2)).
import { syscall } from "./syscall.ts";

/** linux/time.h. */
export const CLOCK = { realtime: 0, monotonic: 1, boottime: 7 } as const;

/** Nanoseconds on a clock. Throws SysError. */
export function clockGettime(clock: number): bigint {
  const timespec = new BigInt64Array(2);
  syscall("reading the clock", "clock_gettime", clock, new Uint8Array(timespec.buffer));
  return nanoseconds(timespec);
}

/** Nanoseconds of a struct timespec. */
export function nanoseconds(timespec: BigInt64Array): bigint {
  return (timespec[0] ?? 0n) * 1_000_000_000n + (timespec[1] ?? 0n);
}
