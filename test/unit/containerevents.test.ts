// Events of Docker and podman: however they are cut on the way, each is heard once.
import { afterEach, beforeEach, expect, spyOn, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as timers from "node:timers/promises";
import { watchContainers } from "../../lib/container/events.ts";
import { silentLog } from "../../lib/log/log.ts";
import * as unexpected from "../../lib/log/unexpected.ts";

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "weave-events-"));
});
afterEach(() => rmSync(folder, { recursive: true }));

const event = (Action: string, ID: string) =>
  JSON.stringify({ Type: "container", Action, Actor: { ID, Attributes: { name: "wäve – pod" } } });

/** A runtime that tells these chunks, one after the other, and then nothing more. */
function runtime(chunks: readonly Uint8Array[]) {
  const socket = join(folder, "docker.sock");
  const server = Bun.serve({
    unix: socket,
    fetch: () =>
      new Response(
        new ReadableStream({
          async start(controller) {
            for (const chunk of chunks) {
              controller.enqueue(chunk);
              // Each leaves by itself.
              await new Promise((resolve) => setImmediate(resolve));
            }
          },
        }),
      ),
  });
  return { socket, stop: () => server.stop(true) };
}

/** What is heard until the event of `last` comes. */
async function heard(chunks: readonly Uint8Array[], last: string): Promise<string[]> {
  const { socket, stop } = runtime(chunks);
  const events: string[] = [];
  const { promise, resolve } = Promise.withResolvers<void>();
  const note = (what: string) => (id: string) => {
    events.push(`${what} ${id}`);
    if (id === last) resolve();
  };
  const listener = {
    connected() {},
    started: note("started"),
    died: note("died"),
    destroyed: note("destroyed"),
  };
  const watch = watchContainers([socket], listener, silentLog);
  try {
    await promise;
    return events;
  } finally {
    watch.stop();
    await stop();
  }
}

test("an event over two chunks is heard, cut anywhere, also in the middle of a character", async () => {
  const end = Buffer.from(`${event("destroy", "end")}\n`);
  const line = Buffer.from(`${event("die", "c")}\n`);
  const chunks = Array.from({ length: line.length - 1 }, (_, i) => [
    line.subarray(0, i + 1),
    line.subarray(i + 1),
  ]);
  expect(await heard([...chunks.flat(), end], "end")).toEqual([
    ...Array(line.length - 1).fill("died c"),
    "destroyed end",
  ]);
});

test("several in one chunk are heard in order, and what is no event or none of a container is passed over", async () => {
  const lines = [
    event("start", "a"),
    "{",
    "",
    "[]",
    JSON.stringify({ Type: "network", Action: "destroy", Actor: { ID: "n" } }),
    JSON.stringify({ status: "died", id: "b", Type: "container" }),
    event("exec_start: sh", "a"),
    event("constructor", "a"),
    event("remove", "b"),
    event("destroy", "end"),
  ];
  expect(await heard([Buffer.from(`${lines.join("\n")}\n`)], "end")).toEqual([
    "started a",
    "died b",
    "destroyed b",
    "destroyed end",
  ]);
});

test("an idle host is listened to without end", async () => {
  const fetched = spyOn(globalThis, "fetch");
  try {
    await heard([Buffer.from(`${event("destroy", "end")}\n`)], "end");
    expect(fetched.mock.calls.map(([, init]) => (init as { timeout?: unknown }).timeout)).toEqual([false]);
  } finally {
    fetched.mockRestore();
  }
});

test("the back-off for a missing runtime starts at 1 s and grows by half, up to 20 s; it starts over once the runtime was there", async () => {
  const pauses: number[] = [];
  let server: ReturnType<typeof Bun.serve> | undefined;
  const lines: string[] = [];
  const socket = join(folder, "podman.sock");
  const { promise, resolve } = Promise.withResolvers<void>();
  const wait = spyOn(timers, "setTimeout").mockImplementation((async (ms: number) => {
    pauses.push(ms);
    const answers = { 10: () => new Response(""), 11: () => new Response("", { status: 500 }) };
    const answer = answers[pauses.length as 10];
    await server?.stop(true);
    server = answer && Bun.serve({ unix: socket, fetch: answer });
    if (pauses.length === 13) resolve();
    if (pauses.length >= 13) await new Promise(() => {});
  }) as never);
  const listener = { connected() {}, started() {}, died() {}, destroyed() {} };
  const log = { ...silentLog, warning: (text: string) => lines.push(text) };
  const watch = watchContainers([socket], listener, log);
  try {
    await promise;
    expect(pauses.map(Math.round)).toEqual([
      ...[1_000, 1_500, 2_250, 3_375, 5_063, 7_594, 11_391, 17_086],
      ...[20_000, 20_000, 1_000, 1_500, 2_250],
    ]);
    expect(lines).toEqual(["cannot read container events: HTTP 500; trying again"]);
  } finally {
    watch.stop();
    wait.mockRestore();
    await server?.stop(true);
  }
});

test("stopping a watch ends its wait without an error", async () => {
  const failed = spyOn(unexpected, "detached");
  try {
    watchContainers([join(folder, "none.sock")], {} as never, silentLog).stop();
    expect(await Promise.all(failed.mock.calls.map(([, running]) => running))).toEqual([undefined]);
  } finally {
    failed.mockRestore();
  }
});
