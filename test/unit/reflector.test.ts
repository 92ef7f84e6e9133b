// A collection that is followed through interruptions, on a clock that passes at once.
import { expect, test } from "bun:test";
import type { Clock } from "../../lib/clock/clock.ts";
import { GONE, type KubeClient, KubeError, type WatchEvent } from "../../lib/kube/client.ts";
import { reflect } from "../../lib/kube/reflector.ts";
import { silentLog } from "../../lib/log/log.ts";

/** Pauses in ms between `count` watches that all break; `lives(n)`: the n-th one sends an event before. */
function pausesOf(count: number, lives: (watch: number) => boolean): Promise<number[]> {
  const pauses: number[] = [];
  let watches = 0;
  const event = { type: "MODIFIED", object: {}, resourceVersion: "2" } as WatchEvent;
  const client = {
    list: async () => ({ items: [], resourceVersion: "1" }),
    async *watch() {
      if (lives(++watches)) yield event;
      throw new Error("connection reset");
    },
  } as unknown as KubeClient;
  return new Promise((resolve) => {
    const clock: Clock = {
      now: () => 0,
      wall: () => 0,
      after(ms, wake) {
        pauses.push(ms);
        if (pauses.length < count) queueMicrotask(wake);
        else resolve(pauses);
        return { cancel: () => {} };
      },
    };
    const random = { float: () => 0.5, u64: () => 0n };
    reflect(
      client,
      "/api/v1/pods",
      { clock, random, log: silentLog },
      { listed: () => {}, changed: () => {} },
    );
  });
}

test("a server that is away is asked less and less often, up to every 30 s", async () => {
  expect(await pausesOf(8, () => false)).toEqual([500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000]);
});

test("a watch that has told something begins with the first pause again, however often it breaks", async () => {
  expect(await pausesOf(10, () => true)).toEqual(Array(10).fill(500));
  expect(await pausesOf(5, (watch) => watch === 4)).toEqual([500, 1_000, 2_000, 500, 1_000]);
});

test("whether the server lets us follow is told: with a list, with each event, and when a watch breaks", async () => {
  const told: string[] = [];
  const event = { type: "BOOKMARK", object: {}, resourceVersion: "2" } as WatchEvent;
  let lists = 0;
  const client = {
    async list() {
      if (++lists === 1) throw new Error("forbidden");
      return { items: [], resourceVersion: "1" };
    },
    async *watch() {
      yield event;
      throw new KubeError("too old", lists === 2 ? GONE : 500);
    },
  } as unknown as KubeClient;
  await new Promise<void>((resolve) => {
    const clock: Clock = {
      now: () => 0,
      wall: () => 0,
      after(_ms, wake) {
        told.push("pause");
        if (told.filter((what) => what === "pause").length < 3) queueMicrotask(wake);
        else resolve();
        return { cancel: () => {} };
      },
    };
    const random = { float: () => 0.5, u64: () => 0n };
    const following = (follows: boolean) => told.push(String(follows));
    const listener = { listed: () => {}, changed: () => {}, following };
    reflect(client, "/api/v1/pods", { clock, random, log: silentLog }, listener);
  });
  // An old version is no failure: a list follows.
  expect(told.join(" ")).toBe("false pause true true pause true true false pause");
});
