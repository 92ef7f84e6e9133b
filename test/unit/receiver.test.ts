// Messages in pieces: each is handled once and in order, and counted as unfinished meanwhile.
import { expect, test } from "bun:test";
import { SimulatedClock } from "../../lib/clock/simulated.ts";
import { Slices, type Work } from "../../lib/clock/slices.ts";
import { lengthPrefixed } from "../../lib/mesh/framing.ts";
import { MessageReceiver } from "../../lib/mesh/receiver.ts";

const MESSAGE = lengthPrefixed().frame(Uint8Array.of(1, 2, 3, 4, 5, 6));

function subject(
  work: (message: Uint8Array) => Work | undefined = () => undefined,
  lateMs: () => number = () => 0,
) {
  const clock = new SimulatedClock();
  const buffered: number[] = [];
  const messages: number[] = [];
  const stream: string[] = [];
  const failures: string[] = [];
  const receiver = new MessageReceiver(
    lengthPrefixed(),
    { pause: () => stream.push("pause"), resume: () => stream.push("resume") },
    {
      slices: new Slices({
        now: () => clock.now() + lateMs(),
        wall: () => clock.wall(),
        after: (ms, fn) => clock.after(ms, fn),
      }),
      message(message) {
        messages.push(message.length);
        return work(message);
      },
      buffered: (bytes) => buffered.push(bytes),
      failed: (error) => failures.push(error.message),
    },
  );
  return { clock, receiver, buffered, messages, stream, failures };
}

test("the start of the next message counts from its own arrival, not from that of the one before", () => {
  const { receiver, buffered, messages } = subject();
  receiver.data(MESSAGE.subarray(0, 7));
  receiver.data(Buffer.concat([MESSAGE.subarray(7), MESSAGE.subarray(0, 4)]));
  receiver.data(MESSAGE.subarray(4));
  expect(messages).toEqual([6, 6]);
  expect(buffered).toEqual([7, 0, 4, 0, 0]);
});

test("while a message is handled, later ones wait; an end in between stops it", () => {
  let steps = 0;
  const { clock, receiver, messages, stream } = subject(function* () {
    for (let i = 0; i < 3; i++) {
      steps++;
      clock.advance(2);
      yield;
    }
  });
  receiver.data(Buffer.concat([MESSAGE, MESSAGE]));
  expect([messages.length, stream]).toEqual([1, []]);
  receiver.data(MESSAGE);
  clock.advance(0);
  expect([messages.length, stream]).toEqual([2, []]);
  receiver.stop();
  clock.advance(100);
  receiver.data(MESSAGE);
  expect(messages.length).toBe(2);
  expect(steps).toBeLessThan(6);
});

test.each([
  ["is read on", 100, []],
  ["that is large is not read on until then", 40_000, ["pause", "resume"]],
])("a flood of short messages is handled in slices, in order, and %s", (_how, each, paused) => {
  // Each takes 1 ms.
  let spent = 0;
  const { clock, receiver, messages, stream, failures } = subject(
    () => {
      spent++;
      return undefined;
    },
    () => spent,
  );
  const long = lengthPrefixed().frame(new Uint8Array(each));
  receiver.data(Buffer.concat(Array.from({ length: 40 }, () => MESSAGE)));
  expect(stream).toEqual([]);
  for (let i = 0; i < 60; i++) receiver.data(long);
  expect(messages.length).toBeLessThan(20);
  expect(stream).toEqual(paused.slice(0, 1));
  // Others get their turns in between.
  const seen: number[] = [];
  const look = () => {
    seen.push(messages.length);
    if (messages.length < 100) clock.after(0, look);
  };
  clock.after(0, look);
  clock.advance(0);
  expect(seen.length).toBeGreaterThan(4);
  expect(Math.max(...seen.map((now, i) => now - (seen[i - 1] ?? 0)))).toBeLessThan(20);
  expect([messages.length, stream, failures]).toEqual([100, paused, []]);
});

test("what the work for a message throws is told once, and nothing is handled after it", () => {
  const { clock, receiver, messages, failures } = subject(function* () {
    clock.advance(10);
    yield;
    throw new Error("no");
  });
  receiver.data(Buffer.concat([MESSAGE, MESSAGE]));
  clock.advance(100);
  expect([messages.length, failures]).toEqual([1, ["no"]]);
});
