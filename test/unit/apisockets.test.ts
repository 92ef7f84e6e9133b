// The control API over sockets: calls that take long, callers that go, and ports that are served once.
import { afterEach, beforeEach, expect, spyOn, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { apiClient } from "../../lib/api/client.ts";
import { serveUnix } from "../../lib/api/listen.ts";
import { text } from "../../lib/api/responses.ts";
import { subject } from "../../lib/api/routing.ts";
import type { Api } from "../../lib/api/server.ts";
import { startTcpServers } from "../../lib/api/tcpservers.ts";
import { SimulatedClock } from "../../lib/clock/simulated.ts";
import { logTo, silentLog } from "../../lib/log/log.ts";
import * as openfiles from "../../lib/sys/openfiles.ts";
import { faster } from "../support/clocks.ts";
import { eventually } from "../support/hosts.ts";

let folder: string;
let socket: string;
let server: Bun.Server<undefined> | undefined;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "weave-api-"));
  socket = join(folder, "sock");
});

afterEach(async () => {
  await server?.stop(true);
  rmSync(folder, { recursive: true });
});

test("a call that takes long is watched, and nothing is asked after it", async () => {
  let probes = 0;
  const probed = Promise.withResolvers<void>();
  server = Bun.serve({
    unix: socket,
    async fetch({ url }) {
      if (url.endsWith("/healthz")) {
        probes++;
        probed.resolve();
      } else await probed.promise;
      return new Response("ok");
    },
  });
  // Checks come every 100 ms.
  expect(await apiClient(socket, faster(10))("GET", "/slow")).toBe("ok");
  // One may be under way.
  await eventually(
    "nothing is asked any more",
    async () => {
      const before = probes;
      await Bun.sleep(150);
      return probes - before;
    },
    (more) => more === 0,
  );
});

test("a write whose caller has gone before it is read is not done; others are", async () => {
  const done: string[] = [];
  const write = subject()("/write/:id", {
    POST({ parameters }) {
      done.push(parameters.id);
      return text("");
    },
  });
  server = serveUnix(socket, { log: silentLog, routes: [write] } as unknown as Api);
  const post = async (id: string, leave: boolean) => {
    const caller = await Bun.connect({ unix: socket, socket: { data() {} } });
    caller.write(`POST /write/${id} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n`);
    if (leave) caller.terminate();
    return caller;
  };
  await post("gone", true);
  const caller = await post("there", false);
  // It was read after the other.
  await eventually(
    "it is done",
    () => done,
    (ids) => ids.includes("there"),
  );
  caller.end();
  expect(done).toEqual(["there"]);
});

test("a port is served once, and one that was taken as soon as it is free", () => {
  const clock = new SimulatedClock();
  const warnings: string[] = [];
  const calls = { good: 0, taken: 0 };
  let free = false;
  const fake = { stop: async () => {} } as unknown as Bun.Server<undefined>;
  const good = {
    serve() {
      calls.good++;
      return fake;
    },
  };
  const taken = {
    optional: true,
    serve() {
      calls.taken++;
      if (!free) throw new Error("in use");
      return fake;
    },
  };
  const log = logTo((_level, line) => warnings.push(line));
  const servers = startTcpServers([good, taken], log, clock);
  clock.advance(6_000);
  expect(calls).toEqual({ good: 1, taken: 4 });
  expect([servers.notes(), warnings]).toEqual([["in use"], ["in use"]]);
  free = true;
  clock.advance(6_000);
  expect(calls).toEqual({ good: 1, taken: 5 });
  expect(servers.notes()).toEqual([]);
  servers.stop();
});

test("too many open files close all connections, and the ports are served again at once, as long as it lasts", () => {
  const clock = new SimulatedClock();
  const lines: string[] = [];
  const calls = { served: 0, stopped: 0 };
  const service = {
    serve() {
      calls.served++;
      const stop = async () => void calls.stopped++;
      return { stop } as unknown as Bun.Server<undefined>;
    },
  };
  let open = 10;
  const spies = [
    spyOn(openfiles, "openFiles").mockImplementation(() => open),
    spyOn(openfiles, "openFilesLimit").mockImplementation(() => 1_000),
  ];
  const servers = startTcpServers(
    [service],
    logTo((_level, line) => lines.push(line)),
    clock,
  );
  try {
    open = 500;
    clock.advance(2_000);
    expect([calls, servers.notes()]).toEqual([{ served: 1, stopped: 0 }, []]);
    open = 501;
    clock.advance(1_999);
    expect(calls.stopped).toBe(0);
    clock.advance(1);
    expect(calls).toEqual({ served: 2, stopped: 1 });
    clock.advance(2_000);
    expect(calls).toEqual({ served: 3, stopped: 2 });
    expect(lines).toEqual(["501 open files, more than 500: closed all connections over HTTP"]);
    open = 10;
    clock.advance(10_000);
    expect(calls).toEqual({ served: 3, stopped: 2 });
    expect(servers.notes()).toEqual([
      expect.stringMatching(/^too many open files: closed connections to the HTTP ports \(\d{4}-/),
    ]);
  } finally {
    servers.stop();
    for (const spy of spies) spy.mockRestore();
  }
  expect(calls.stopped).toBe(3);
});
