// Sleeve over many ends of its engine: connections end with it, and what they had is free again.
import { afterEach, expect, spyOn, test } from "bun:test";
import { EventEmitter } from "node:events";
import { readdirSync, writeSync } from "node:fs";
import * as threads from "node:worker_threads";
import { SimulatedClock } from "../../lib/clock/simulated.ts";
import { silentLog } from "../../lib/log/log.ts";
import * as unexpected from "../../lib/log/unexpected.ts";
import { nameFromNumber } from "../../lib/mesh/name.ts";
import { Peer } from "../../lib/mesh/peer.ts";
import { COUNTERS, Counters, MAX_LINKS } from "../../lib/overlay/sleeve/counters.ts";
import type { ToEngine } from "../../lib/overlay/sleeve/messages.ts";
import { SleeveOverlay } from "../../lib/overlay/sleeve/overlay.ts";
import type { ForwardingTables } from "../../lib/overlay/sleeve/routes.ts";
import { makeEngineThread } from "../../lib/overlay/sleeve/thread.ts";
import { closePipe, offerMessage, openPipe } from "../../lib/sys/pipe.ts";

const MINUTE = 60_000;
const name = nameFromNumber(1n);
let overlay: SleeveOverlay | undefined;
afterEach(async () => {
  await overlay?.stop();
  overlay = undefined;
});

test("connections are told of the end of the engine once; those that have stopped are not", async () => {
  const clock = new SimulatedClock(1_000);
  let fail: ((reason: string) => void) | undefined;
  const nothing = () => {};
  overlay = new SleeveOverlay(
    { name, host: "127.0.0.1", port: 0, tapFd: -1, macsFd: -1 },
    clock,
    silentLog,
    nothing,
    nothing,
    nothing,
    (_setup, _clock, listener) => {
      fail = listener.failed;
      return { flush: () => {}, post: nothing, stop: async () => true };
    },
  );
  overlay.start(() => 2);
  const told: string[] = [];
  const [first, , third] = ["first", "second", "third"].map((connection) =>
    overlay?.prepare({
      ...{
        remotePeer: new Peer({ name: nameFromNumber(2n) } as never),
        localIp: "10.99.0.1",
        remoteIp: "10.99.0.2",
      },
      ...{ remotePort: 6_783, outbound: true, connectionUid: 1n, sessionKey: undefined, features: new Map() },
      ...{
        sendControl: nothing,
        established: nothing,
        restart: nothing,
        health: nothing,
        preferred: () => true,
      },
      failed: ({ message }) => told.push(`${connection}: ${message}`),
    }),
  );
  first?.stop();
  fail?.("out of memory");
  expect(told).toEqual(
    ["second", "third"].map((each) => `${each}: the sleeve engine has ended: out of memory`),
  );
  third?.stop();
  await Bun.sleep(0);
  clock.advance(MINUTE);
  fail?.("again");
  expect(told.length).toBe(2);
});

test("after each end of the engine all link numbers are free, and those of before are not told to the next one", async () => {
  const clock = new SimulatedClock(1_000);
  const engines: { told: ToEngine[]; fail: (reason: string) => void }[] = [];
  const config = { name, host: "127.0.0.1", port: 0, tapFd: -1, macsFd: -1 };
  const nothing = () => {};
  let restarts = 0;
  overlay = new SleeveOverlay(
    config,
    clock,
    silentLog,
    nothing,
    nothing,
    () => restarts++,
    (_setup, _clock, listener) => {
      const told: ToEngine[] = [];
      engines.push({ told, fail: listener.failed });
      return { flush: () => {}, post: (message) => told.push(message), stop: async () => true };
    },
  );
  for (let round = 0; round < 5; round++) {
    for (let i = 0; i < MAX_LINKS; i++) overlay.addLink("sleeve", 2, name);
    expect(() => overlay?.addLink("sleeve", 2, name)).toThrow("limit of 4096 links reached");
    const engine = engines.at(-1);
    expect(engine?.told.length).toBe(MAX_LINKS);
    engine?.fail("out of memory");
    expect(overlay.notes()).toContain("the sleeve engine has ended: out of memory");
    // For relaying to neighbours by VXLAN, which have not gone.
    overlay.addLink("vxlan", 3, name);
    await Bun.sleep(0);
    clock.advance(MINUTE);
    expect([restarts, engines.length]).toEqual([round + 1, round + 2]);
    expect(engines.at(-1)?.told).toEqual([]);
  }
});

test("an engine that does not end makes the router start again, with the reason", async () => {
  const fatal = spyOn(unexpected, "noteFatal").mockImplementation(() => {});
  try {
    let fail: ((reason: string) => void) | undefined;
    const nothing = () => {};
    const restarted = () => fail === undefined || expect.unreachable();
    overlay = new SleeveOverlay(
      { name, host: "127.0.0.1", port: 0, tapFd: -1, macsFd: -1 },
      new SimulatedClock(1_000),
      silentLog,
      nothing,
      nothing,
      restarted,
      (_setup, _clock, listener) => {
        fail = listener.failed;
        return { flush: () => {}, post: nothing, stop: async () => false };
      },
    );
    fail?.("it has handled no message for 10 s");
    await Bun.sleep(0);
    const why = "the sleeve engine hangs and does not end: it has handled no message for 10 s";
    expect(fatal.mock.calls).toEqual([["the sleeve engine", new Error(why)]]);
    expect(overlay.notes()).toEqual([why]);
  } finally {
    fatal.mockRestore();
  }
});

test("an engine that cannot be started again is tried again until it can, and status says so", async () => {
  const clock = new SimulatedClock(1_000);
  let attempts = 0;
  let fail: ((reason: string) => void) | undefined;
  const told: ToEngine[] = [];
  const restarts: number[] = [];
  const nothing = () => {};
  overlay = new SleeveOverlay(
    { name, host: "127.0.0.1", port: 0, tapFd: -1, macsFd: -1 },
    clock,
    silentLog,
    nothing,
    nothing,
    () => restarts.push(attempts),
    (_setup, _clock, listener) => {
      attempts++;
      if (attempts > 1 && attempts < 6) throw new Error("too many open files");
      fail = listener.failed;
      return { flush: () => {}, post: (message) => told.push(message), stop: async () => true };
    },
  );
  fail?.("out of memory");
  await Bun.sleep(0);
  clock.advance(1_000);
  expect(overlay.notes()).toContain("the sleeve engine cannot be restarted: too many open files; retrying");
  clock.advance(5 * MINUTE);
  expect(restarts).toEqual([6]);
  expect(overlay.notes().join()).not.toContain("cannot be restarted");
  overlay.addLink("sleeve", 2, name);
  expect(told.map(({ type }) => type)).toEqual(["add"]);
});

test("an engine that is stopped again closes no files that were opened meanwhile", async () => {
  const clock = new SimulatedClock(1_000);
  const failed = Promise.withResolvers<string>();
  const setup = { tapFd: -1, udpFd: -1, macsFd: -1, aegis: false, name: "exit" as never };
  const engine = makeEngineThread(
    { ...setup, counters: new Counters().memory },
    clock,
    { received() {}, failed: failed.resolve },
    new URL("../support/failingthread.ts", import.meta.url),
  );
  engine.post({ type: "add", params: { index: 1 } as never });
  await failed.promise;
  expect(await engine.stop()).toBe(true);
  const pipes = Array.from({ length: 4 }, openPipe);
  try {
    expect(await engine.stop()).toBe(true);
    for (const { writeFd } of pipes) expect(writeSync(writeFd, "x")).toBe(1);
  } finally {
    for (const pipe of pipes) closePipe(pipe);
  }
});

const NO_TABLES: ForwardingTables = {
  ...{ self: 1, names: new Map(), next: new Map(), nextBySleeve: new Map() },
  ...{ broadcast: new Map(), origins: new Map() },
};

test("the engine's thread starts with the first link, and gets tables at once", async () => {
  const threads = () => readdirSync("/proc/self/task").length;
  const nothing = () => {};
  const tap = openPipe();
  const open = () =>
    new SleeveOverlay(
      { name, host: "127.0.0.1", port: 0, tapFd: tap.readFd, macsFd: -1 },
      new SimulatedClock(),
      silentLog,
      ...([nothing, nothing, nothing] as const),
    );
  // The first one also starts threads of the runtime itself.
  const first = open();
  first.addLink("sleeve", 2, nameFromNumber(2n));
  while (first.crypto === undefined) await Bun.sleep(1);
  // No timer: the kernel gets its tables at once, too.
  first.configure(NO_TABLES);
  while (first.counters.get(COUNTERS.messages) < 2) await Bun.sleep(1);
  expect(await first.stop()).toBe(true);
  const before = threads();
  const idle = open();
  idle.configure(NO_TABLES);
  idle.tapRestored();
  expect(threads()).toBeLessThanOrEqual(before);
  expect(await idle.stop()).toBe(true);
  closePipe(tap);
});

test("what is queued for the engine is written with the next timer, or at once where that is asked for", async () => {
  const worker = Object.assign(new EventEmitter(), { terminate: async () => void worker.emit("exit", 0) });
  using made = spyOn(threads, "Worker").mockImplementation((() => worker) as never);
  const clock = new SimulatedClock(1_000);
  const setup = { tapFd: -1, udpFd: -1, macsFd: -1, aegis: false, name: new Uint8Array(6) };
  const ready = Promise.withResolvers<void>();
  const engine = makeEngineThread({ ...setup, counters: new Counters().memory }, clock, {
    received: () => ready.resolve(),
    failed() {},
  });
  const add = () => engine.post({ type: "add", params: { index: 1 } as never });
  add();
  // Not before it reads.
  engine.flush();
  expect(engine.waiting).toBe(1);
  const [, { workerData }] = made.mock.calls[0] as unknown as [URL, { workerData: { writeFd: number } }];
  offerMessage(workerData.writeFd, { type: "ready", crypto: "wasm" });
  await ready.promise;
  add();
  expect(engine.waiting).toBe(1);
  clock.advance(10);
  expect(engine.waiting).toBe(0);
  add();
  engine.flush();
  expect(engine.waiting).toBe(0);
  const stopped = engine.stop();
  worker.emit("exit", 0);
  await stopped;
});

test("an engine that handles no message fails after 60 s while it starts, after 10 s later", async () => {
  const stuckAfter = async (ready: boolean, handles: (at: number) => boolean) => {
    const worker = Object.assign(new EventEmitter(), { terminate: async () => void worker.emit("exit", 0) });
    const made = spyOn(threads, "Worker").mockImplementation((() => worker) as never);
    const counters = new Counters();
    const clock = new SimulatedClock(1_000);
    const setup = { tapFd: -1, udpFd: -1, macsFd: -1, aegis: false, name: new Uint8Array(6) };
    const failed: string[] = [];
    let isReady = false;
    const engine = makeEngineThread({ ...setup, counters: counters.memory }, clock, {
      received: () => {
        isReady = true;
      },
      failed: (reason) => failed.push(`${reason} at ${(clock.now() - 1_000) / 1_000}`),
    });
    try {
      for (let i = 0; i < 3; i++) engine.post({ type: "add", params: { index: i } as never });
      const [, { workerData }] = made.mock.calls[0] as unknown as [URL, { workerData: { writeFd: number } }];
      if (ready) offerMessage(workerData.writeFd, { type: "ready", crypto: "wasm" });
      while (isReady !== ready) await Bun.sleep(1);
      for (let second = 1; second <= 100; second++) {
        if (handles(second)) counters.add(COUNTERS.messages, 1);
        clock.advance(1_000);
      }
      return failed;
    } finally {
      const stopped = engine.stop();
      worker.emit("exit", 0);
      await stopped;
      made.mockRestore();
    }
  };
  using _ = spyOn(unexpected, "noteFailure").mockImplementation(() => {});
  expect(await stuckAfter(false, () => false)).toEqual(["it has handled no message for 60 s at 61"]);
  expect(await stuckAfter(true, () => false)).toEqual(["it has handled no message for 10 s at 11"]);
  expect(await stuckAfter(true, (at) => at === 5)).toEqual(["it has handled no message for 10 s at 16"]);
  expect(await stuckAfter(true, (at) => at <= 3)).toEqual([]);
});
