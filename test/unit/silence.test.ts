// When the client of the control API gives up on a router.
import { expect, test } from "bun:test";
import { onSilence, type Silence } from "../../lib/api/silence.ts";
import { SimulatedClock } from "../../lib/clock/simulated.ts";

const PID = 7;

/** Simulate `seconds`; `answers` and `stopped` return whether the router answers, or is stopped, in a second. */
async function play(
  seconds: number,
  answers: (second: number) => boolean,
  stopped: (second: number) => boolean = () => false,
) {
  const clock = new SimulatedClock();
  const over = new AbortController();
  const second = () => Math.round(clock.now() / 1_000);
  const open: ((answered: boolean) => void)[] = [];
  let asked = 0;
  let gaveUp: [number, Silence] | undefined;
  const probe = {
    answers() {
      asked++;
      return new Promise<boolean>((resolve) => open.push(resolve));
    },
    stopped: () => (stopped(second()) ? PID : undefined),
  };
  onSilence(clock, probe, over.signal, (silence) => {
    gaveUp = [second(), silence];
  });
  for (let i = 0; i < seconds; i++) {
    clock.advance(1_000);
    if (answers(second())) for (const resolve of open.splice(0)) resolve(true);
    await Promise.resolve();
    await Promise.resolve();
  }
  over.abort();
  const before = asked;
  clock.advance(100_000);
  expect(asked).toBe(before);
  return { gaveUp, asked };
}

test("never while it answers, however rarely", async () => {
  expect(await play(600, () => true)).toEqual({ gaveUp: undefined, asked: 600 });
  const { gaveUp, asked } = await play(600, (second) => second % 50 === 0);
  expect(gaveUp).toBeUndefined();
  // One probe is in flight at a time.
  expect(asked).toBeLessThan(15);
});

test("after 60 s without an answer", async () => {
  expect((await play(100, () => false)).gaveUp).toEqual([61, { seconds: 60 }]);
  expect((await play(100, (second) => second === 30)).gaveUp).toEqual([91, { seconds: 60 }]);
});

test("after it was stopped for 4 s without interruption", async () => {
  const never = () => false;
  expect((await play(20, never, () => true)).gaveUp).toEqual([5, { stopped: PID }]);
  expect((await play(20, never, (second) => second % 4 !== 0)).gaveUp).toBeUndefined();
  const late = await play(
    20,
    (second) => second === 6,
    (second) => second > 3,
  );
  expect(late.gaveUp).toEqual([11, { stopped: PID }]);
});

test("a failed probe is repeated", async () => {
  const clock = new SimulatedClock();
  let asked = 0;
  const probe = {
    async answers() {
      asked++;
      if (asked === 1) throw new Error("unexpected");
      return false;
    },
    stopped: () => undefined,
  };
  onSilence(clock, probe, new AbortController().signal, () => {});
  for (let i = 0; i < 5; i++) {
    clock.advance(1_000);
    for (let turn = 0; turn < 4; turn++) await Promise.resolve();
  }
  expect(asked).toBe(5);
});
