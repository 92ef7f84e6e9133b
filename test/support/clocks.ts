// Clocks that no test has to wait for.
import type { Clock } from "../../lib/clock/clock.ts";
import { SimulatedClock } from "../../lib/clock/simulated.ts";

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
