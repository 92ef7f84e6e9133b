// Clocks that no test has to wait for.
import { type Clock, systemClock } from "../../lib/clock/clock.ts";
import { SimulatedClock } from "../../lib/clock/simulated.ts";
import { nanoseconds } from "../../lib/sys/clocks.ts";
import { syscall } from "../../lib/sys/syscall.ts";

/** Time that passes at once. */
export function hurry(): Clock {
  const clock = new SimulatedClock();
  return {
    now: () => clock.now(),
    wall: () => clock.wall(),
    after(ms: number, fn: () => void) {
      const timer = clock.after(ms, fn);
      queueMicrotask(() => clock.advance(ms));
      return timer;
    },
  };
}

/** The system's clock, so many times as fast. */
export const faster = (times: number): Clock => ({
  now: () => systemClock.now() * times,
  wall: () => systemClock.wall(),
  after: (ms, fn) => systemClock.after(ms / times, fn),
});

const CLOCK_THREAD_CPUTIME_ID = 3;

/** Return the processor time of this thread in ms: what waits for a processor on a busy machine costs none. */
export function threadMs(): number {
  const timespec = new BigInt64Array(2);
  const time = new Uint8Array(timespec.buffer);
  syscall("reading the clock", "clock_gettime", CLOCK_THREAD_CPUTIME_ID, time);
  return Number(nanoseconds(timespec)) / 1e6;
}
