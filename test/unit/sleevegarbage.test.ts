// The thread of the sleeve engine, which never returns to its event loop, collects its garbage itself.
import { expect, spyOn, test } from "bun:test";
import { writeSync } from "node:fs";
import { QuietTimes } from "../../lib/clock/quiet.ts";
import { COUNTERS, Counters } from "../../lib/overlay/sleeve/counters.ts";
import { Engine } from "../../lib/overlay/sleeve/engine.ts";
import type { ToEngine } from "../../lib/overlay/sleeve/messages.ts";
import { runEngine } from "../../lib/overlay/sleeve/run.ts";
import { closePipe, MessageWriter, openPipe } from "../../lib/sys/pipe.ts";

const MINUTE = 60_000;
const NOTHING: ToEngine[] = [{ type: "remove", index: 0 }];

/**
 * Run the engine; its n-th wake-up is at the n-th of these times, and finds what is named. Each look at the clock
 * within it is 1 ms later. Returns when it collected garbage.
 */
async function collections(wakeUps: readonly (readonly [number, "message" | "frame"])[]): Promise<number[]> {
  const [down, up, tap, udp] = [openPipe(), openPipe(), openPipe(), openPipe()] as const;
  const control = new MessageWriter(down.writeFd);
  let next = 0;
  let time = 0;
  let asked = 0;
  const wake = () => {
    const found = wakeUps[next++];
    if (!found) return control.write([{ type: "stop" }]);
    time = found[0];
    if (found[1] === "frame") writeSync(tap.writeFd, new Uint8Array(1));
    else control.write(NOTHING);
  };
  const collected: number[] = [];
  const { due } = QuietTimes.prototype;
  const spies = [
    spyOn(performance, "now").mockImplementation(() => time++),
    spyOn(Bun, "gc").mockImplementation(() => {
      collected.push(asked);
    }),
    // Is asked where there is nothing to do.
    spyOn(QuietTimes.prototype, "due").mockImplementation(function (this: QuietTimes, now: number) {
      const result = due.call(this, now);
      asked = now;
      wake();
      return result;
    }),
  ];
  try {
    control.write(NOTHING);
    const files = { readFd: down.readFd, writeFd: up.writeFd, tapFd: tap.readFd, udpFd: udp.readFd };
    const counters = new Counters();
    await runEngine({
      ...files,
      macsFd: -1,
      aegis: false,
      name: new Uint8Array(6),
      counters: counters.memory,
    });
    return collected;
  } finally {
    for (const spy of spies) spy.mockRestore();
    for (const pipe of [down, up, tap, udp]) closePipe(pipe);
  }
}

test("once it has met its peers, and then each ten minutes", async () => {
  const times = [30_000, 59_999, MINUTE, 10 * MINUTE, 11 * MINUTE - 1, 11 * MINUTE];
  const later = [12 * MINUTE, 100 * MINUTE, 101 * MINUTE, 110 * MINUTE];
  const woken = [...times, ...later].map((time) => [time, "message"] as const);
  expect(await collections(woken)).toEqual([MINUTE, 11 * MINUTE, 100 * MINUTE, 110 * MINUTE]);
});

test("never before it has seen that no frame waits", async () => {
  expect(
    await collections([
      [70_000, "frame"],
      [80_000, "message"],
    ]),
  ).toEqual([70_001]);
});

test("waits 10 ms after an exception, counts it, and goes on", async () => {
  const sleeps: number[] = [];
  const sleep = spyOn(Bun, "sleepSync").mockImplementation((ms) => void sleeps.push(Number(ms)));
  const add = spyOn(Counters.prototype, "add");
  const flush = spyOn(Engine.prototype, "flush").mockImplementationOnce(() => {
    throw new Error("damaged");
  });
  try {
    await collections([[1_000, "frame"]]);
    expect(sleeps).toEqual([10]);
    expect(add.mock.calls.filter(([counter]) => counter === COUNTERS.errors)).toEqual([[COUNTERS.errors, 1]]);
    expect(flush.mock.calls.length).toBeGreaterThan(1);
  } finally {
    for (const spy of [sleep, add, flush]) spy.mockRestore();
  }
});
