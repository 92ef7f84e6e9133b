// Messages longer than those of honest peers: one at a time, with a pause after each.
import { expect, test } from "bun:test";
import { SimulatedClock } from "../../lib/clock/simulated.ts";
import { Slices, type Work } from "../../lib/clock/slices.ts";
import { LONG, LongMessages, WAIT_MS } from "../../lib/mesh/longmessages.ts";

function subject() {
  const clock = new SimulatedClock(1_000);
  const slices = new Slices(clock);
  const long = new LongMessages();
  const events: string[] = [];
  const handle = (name: string, length: number, steps = 2) =>
    slices.run(
      long.run(length, function* (): Work {
        try {
          for (let i = 0; i < steps; i++) {
            events.push(`${name} ${i}`);
            yield 0;
          }
        } finally {
          events.push(`${name} ends`);
        }
      }),
      () => events.push(`${name} at ${clock.now() - 1_000}`),
    );
  return { clock, handle, said: () => events.splice(0) };
}

test("long ones wait for each other, with a pause by length; others are not delayed", () => {
  const { clock, handle, said } = subject();
  handle("a", 10 * LONG);
  handle("b", LONG + 1);
  handle("c", LONG);
  clock.advance(10);
  expect(said()).toEqual(["a 0", "a 1", "c 0", "a ends", "c 1", "c ends", "c at 0"]);
  clock.advance(245);
  expect(said()).toEqual([]);
  clock.advance(1);
  expect(said()).toEqual(["a at 256"]);
  clock.advance(WAIT_MS);
  expect(said()).toEqual(["b 0", "b 1", "b ends"]);
  clock.advance(30);
  expect(said()).toHaveLength(1);
});

test("one whose connection ends lets the next one begin", () => {
  const { clock, handle, said } = subject();
  const giveUp = handle("a", 2 * LONG);
  handle("b", 2 * LONG, 1);
  expect(said()).toEqual(["a 0"]);
  giveUp();
  clock.advance(WAIT_MS);
  expect(said()).toEqual(["a ends", "b 0", "b ends"]);
});
