// The machine's clock under a test's control, for rooms that read no other.
import { spyOn } from "bun:test";
import { type Clock, systemClock } from "../../lib/clock/clock.ts";
import { SimulatedClock } from "../../lib/clock/simulated.ts";

/** Replace the system's clock, until disposed of. `pass` advances it in steps and lets promises settle. */
export function simulateSystemClock(): Disposable & {
  clock: SimulatedClock;
  pass(ms: number): Promise<void>;
} {
  const clock = new SimulatedClock(1_000_000);
  const whole = systemClock as Required<Clock>;
  const spies = [
    spyOn(systemClock, "now").mockImplementation(() => clock.now()),
    spyOn(systemClock, "wall").mockImplementation(() => clock.wall()),
    spyOn(systemClock, "after").mockImplementation((ms, fn) => clock.after(ms, fn)),
    // Else these two would say what the machine's clock says.
    spyOn(whole, "sharedWakeUp").mockImplementation((ms) => ms),
    spyOn(whole, "worked").mockImplementation(() => clock.now()),
  ];
  return {
    clock,
    async pass(ms) {
      const settle = async () => {
        for (let turn = 0; turn < 12; turn++) await Promise.resolve();
      };
      await settle();
      const step = 100;
      for (let passed = 0; passed < ms; passed += step) {
        clock.advance(Math.min(step, ms - passed));
        await settle();
      }
    },
    [Symbol.dispose]() {
      for (const spy of spies) spy.mockRestore();
    },
  };
}
