// When work is done that may wait for a quiet moment.
import { expect, test } from "bun:test";
import { atQuietTimes } from "../../lib/clock/quiet.ts";
import { SimulatedClock } from "../../lib/clock/simulated.ts";

/** A clock of a thread that works `share` of the time, and the seconds at which the work was done. */
function thread() {
  const simulated = new SimulatedClock();
  const state = { share: 0, worked: 0, at: [] as number[] };
  const clock = Object.assign(simulated, { worked: () => state.worked });
  const timer = atQuietTimes(clock, 60_000, 600_000, () => state.at.push(clock.now() / 1_000));
  const pass = (seconds: number) => {
    for (let i = 0; i < 10 * seconds; i++) {
      state.worked += 100 * state.share;
      clock.advance(100);
    }
  };
  return { state, timer, pass };
}

test("after a time, then at intervals, until the end", () => {
  const { state, timer, pass } = thread();
  pass(1_300);
  expect(state.at).toEqual([61, 662, 1_263]);
  timer.cancel();
  pass(1_000);
  expect(state.at).toHaveLength(3);
});

test("later while there is work to do, and not before the next time where there is for a minute", () => {
  const { state, pass } = thread();
  state.share = 0.2;
  pass(80);
  expect(state.at).toEqual([]);
  state.share = 0.01;
  pass(2);
  expect(state.at).toEqual([81]);
  pass(598);
  state.share = 0.2;
  pass(62);
  state.share = 0;
  pass(100);
  expect(state.at).toEqual([81]);
  pass(600);
  expect(state.at).toHaveLength(2);
});
