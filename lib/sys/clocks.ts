// The kernel's clocks (clock_gettime(2), linux/time.h), and what it counts of a thread (proc_pid_schedstat(5)).
import { syscall } from "./syscall.ts";
import { textOf } from "./textfile.ts";

const CLOCK = { realtime: 0, monotonic: 1, boottime: 7 } as const;

const timespec = new BigInt64Array(2);
const timespecBytes = new Uint8Array(timespec.buffer);

function clockGettime(clock: number): bigint {
  syscall("reading the clock", "clock_gettime", clock, timespecBytes);
  return nanoseconds(timespec);
}

/** Return a struct timespec in ns. */
export function nanoseconds(timespec: BigInt64Array): bigint {
  return (timespec[0] ?? 0n) * 1_000_000_000n + (timespec[1] ?? 0n);
}

/** Return CLOCK_REALTIME in ns since the epoch, by which the kernel stamps packets; it can be set at any time. */
export const realtimeNow = (): bigint => clockGettime(CLOCK.realtime);

/** Return CLOCK_MONOTONIC in ns, the clock of bpf_ktime_get_ns(). process.hrtime counts from the start of the process instead. */
export const monotonicNow = (): bigint => clockGettime(CLOCK.monotonic);

/** Return CLOCK_BOOTTIME in ms since boot; unlike CLOCK_MONOTONIC, it goes on while the host is suspended. */
export const boottimeMs = (): number => Number(clockGettime(CLOCK.boottime) / 1_000_000n);

/** Return the ms that this thread has run and those it has waited for a processor; 0 from kernels that do not count them. */
function scheduledMs(): readonly [ran: number, waited: number] {
  // In nanoseconds; then slices.
  const [ran = 0, waited = 0] = textOf("/proc/thread-self/schedstat").split(" ").map(Number);
  return [ran / 1e6 || 0, waited / 1e6 || 0];
}

/** Return the ms that this thread has run or waited for a processor. */
export function busyMs(): number {
  const [ran, waited] = scheduledMs();
  return ran + waited;
}

/** Return the ms that this thread has waited for a processor. */
export const waitedMs = (): number => scheduledMs()[1];
