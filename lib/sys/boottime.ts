// CLOCK_BOOTTIME: unlike CLOCK_MONOTONIC, it goes on while the host sleeps.
import { syscall } from "./syscall.ts";

const CLOCK_BOOTTIME = 7;

/** Milliseconds since the host was started. */
export function boottimeMs(): number {
  const timespec = new BigInt64Array(2);
  syscall("reading the clock", "clock_gettime", CLOCK_BOOTTIME, new Uint8Array(timespec.buffer));
  return Number((timespec[0] ?? 0n) * 1_000n + (timespec[1] ?? 0n) / 1_000_000n);
}
