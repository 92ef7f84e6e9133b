// Requests over TCP share the event loop: a turn answers a limited number of them.
import { afterEach, describe, expect, test } from "bun:test";
import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { serveTcp } from "../../lib/api/listen.ts";
import { serveMetrics } from "../../lib/api/metrics.ts";
import type { Report } from "../../lib/api/report.ts";
import { text } from "../../lib/api/responses.ts";
import { subject } from "../../lib/api/routing.ts";
import type { Api } from "../../lib/api/server.ts";
import { silentLog } from "../../lib/log/log.ts";
import { eventually } from "../support/hosts.ts";

const stops: (() => unknown)[] = [];
afterEach(async () => {
  for (const stop of stops.splice(0)) await stop();
});

/** Count calls of `work`, each of which takes 1 ms, and the maximum in one turn of the event loop. */
class Counted {
  calls = 0;
  most = 0;
  #inTurn = 0;

  constructor() {
    const turn = setInterval(() => {
      this.#inTurn = 0;
    }, 0);
    stops.push(() => clearInterval(turn));
  }

  readonly work = () => {
    this.calls++;
    this.most = Math.max(this.most, ++this.#inTurn);
    const start = process.threadCpuUsage();
    for (;;) {
      const { user, system } = process.threadCpuUsage(start);
      if (user + system >= 1_000) return;
    }
  };
}

const route = subject();

function api({ work }: Counted): Bun.Server<undefined> {
  const get = () => {
    work();
    return text("ok\n");
  };
  const routes = [route("/cheap", { GET: get }), route("/costly", { GET: get }, { costly: true })];
  return serveTcp({ hostname: "127.0.0.1", port: 0, writes: false }, {
    log: silentLog,
    routes,
  } as unknown as Api);
}

function metrics({ work }: Counted): Bun.Server<undefined> {
  return serveMetrics({ hostname: "127.0.0.1", port: 0 }, () => {
    work();
    return { Router: { Connections: [], TerminationCount: 0, Name: "", MACs: [] } } as unknown as Report;
  });
}

/** Open connections that each write a request `times` times at once; return what they received. */
async function clients(server: Bun.Server<undefined>, path: string, count: number, times: number) {
  const sockets: Socket[] = Array.from({ length: count }, () => connect(Number(server.port), "127.0.0.1"));
  stops.push(() => {
    for (const socket of sockets) socket.destroy();
    return server.stop(true);
  });
  await Promise.all(sockets.map((socket) => once(socket, "connect")));
  const got = sockets.map(() => "");
  for (const [i, socket] of sockets.entries()) {
    socket.on("data", (data) => {
      got[i] = `${got[i]}${data}`;
    });
    socket.on("error", () => {});
    socket.write(`GET ${path} HTTP/1.1\r\nHost: localhost\r\n\r\n`.repeat(times));
  }
  return { sockets, got };
}

describe.each<[string, (counted: Counted) => Bun.Server<undefined>, string]>([
  ["the control API", api, "/cheap"],
  ["costly requests to it", api, "/costly"],
  ["metrics", metrics, "/metrics"],
])("%s", (_what, serve, path) => {
  test("pipelined requests do not block the event loop", async () => {
    const counted = new Counted();
    const { sockets } = await clients(serve(counted), path, 20, 40);
    await eventually(
      "the connections",
      () => sockets.map(({ closed }) => closed),
      (closed) => !closed.includes(false),
    );
    // The first request of each is answered later than its connection may be closed.
    await eventually(
      "an answer",
      () => counted.calls,
      (calls) => calls > 0,
    );
    expect(counted.most).toBeLessThan(20);
  });

  test("many connections get their answers over several turns", async () => {
    const counted = new Counted();
    const { got } = await clients(serve(counted), path, 60, 1);
    const isAnswered = (answer: string) => answer.startsWith("HTTP/1.1 200");
    await eventually(
      "the answers",
      () => got,
      (answers) => answers.every(isAnswered),
    );
    expect(counted.calls).toBe(60);
    expect(counted.most).toBeLessThan(20);
  });
});
