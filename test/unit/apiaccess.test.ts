// The control API at its doors: which Host, Origin, address and method each listener takes; what its client makes of
// answers; and the metrics of a report.
import { afterEach, describe, expect, spyOn, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  type ApiError,
  apiClient,
  holders,
  RouterDownError,
  RouterSilentError,
} from "../../lib/api/client.ts";
import { serveTcp, serveUnix, type TcpAccess } from "../../lib/api/listen.ts";
import { metricsText } from "../../lib/api/metrics.ts";
import {
  controlSocket,
  logFile,
  pidFile,
  releaseDirectory,
  runDirectory,
  stateDirectory,
  stateFile,
} from "../../lib/api/paths.ts";
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

const route = subject();
const done: string[] = [];
const API = {
  log: silentLog,
  routes: [
    route("/plain", {
      GET: () => text("read"),
      async POST({ request }) {
        done.push(await request.text());
        return text("written");
      },
    }),
    route("/state", { GET: () => text("state") }, { status: true }),
    route("/open", { GET: () => text("open") }, { anyHost: true }),
  ],
} as unknown as Api;

describe("over TCP", () => {
  function listening(access: Partial<TcpAccess> = {}) {
    const server = serveTcp({ hostname: "127.0.0.1", port: 0, writes: false, ...access }, API);
    stops.push(() => server.stop(true));
    return async (path: string, headers: Record<string, string> = {}, method = "GET") => {
      const answer = await fetch(`http://127.0.0.1:${server.port}${path}`, {
        method,
        headers,
        ...(method === "POST" && { body: "b" }),
      });
      return [answer.status, (await answer.text()).trim()];
    };
  }
  const FOREIGN = [403, "refused: the Host or Origin of the request is another site"];

  test("requests for other names and from other sites are refused; addresses and our own names are not", async () => {
    const ask = listening();
    expect(await ask("/plain")).toEqual([200, "read"]);
    for (const host of [
      "localhost",
      "localhost:6784",
      "127.0.0.1:1",
      "[::1]",
      "[::1]:6784",
      "192.0.2.7",
      "192.0.2.7:80",
      "[2001:db8::7]",
      "[2001:db8::7]:6782",
    ])
      expect([host, ...(await ask("/plain", { host }))]).toEqual([host, 200, "read"]);
    for (const host of [
      "evil.example",
      "evil.example:6784",
      "localhost.evil.example",
      "127.0.0.1.evil.example",
    ])
      expect([host, ...(await ask("/plain", { host }))]).toEqual([host, ...FOREIGN]);
    for (const origin of ["http://localhost:6784", "http://127.0.0.1", "https://[::1]:1"])
      expect([origin, ...(await ask("/plain", { origin }))]).toEqual([origin, 200, "read"]);
    for (const origin of ["http://evil.example", "https://192.0.2.7", "null"])
      expect([origin, ...(await ask("/plain", { origin }))]).toEqual([origin, ...FOREIGN]);
    // Collectors use their own names, and are no web pages.
    expect(await ask("/open", { host: "metrics.example" })).toEqual([200, "open"]);
    expect(await ask("/open", { host: "metrics.example", origin: "http://evil.example" })).toEqual(FOREIGN);
  });

  test("nothing is changed unless that was asked for", async () => {
    const READ_ONLY = [403, "read-only; use the Unix socket, or launch with --http-writes"];
    expect(await listening()("/plain", {}, "POST")).toEqual(READ_ONLY);
    expect(await listening()("/nothing", {}, "DELETE")).toEqual(READ_ONLY);
    expect(done).toEqual([]);
    expect(await listening({ writes: true })("/plain", {}, "POST")).toEqual([200, "written"]);
    expect(done.splice(0)).toEqual(["b"]);
    expect(await listening({ writes: true })("/plain", { origin: "http://evil.example" }, "POST")).toEqual(
      FOREIGN,
    );
    expect(done).toEqual([]);
  });

  test("a port for status serves that alone, for reading", async () => {
    const ask = listening({ statusOnly: true });
    expect(await ask("/state")).toEqual([200, "state"]);
    expect(await ask("/plain")).toEqual([404, "404 page not found"]);
    expect(await ask("/nothing")).toEqual([404, "404 page not found"]);
    expect((await ask("/state", {}, "POST"))[0]).toBe(403);
  });

  test("a body has 1 MiB at most where changes are allowed", async () => {
    const server = serveTcp({ hostname: "127.0.0.1", port: 0, writes: true }, API);
    stops.push(() => server.stop(true));
    const send = async (length: number) =>
      (await fetch(`http://127.0.0.1:${server.port}/plain`, { method: "POST", body: "x".repeat(length) }))
        .status;
    expect([await send(1024 * 1024), await send(1024 * 1024 + 1)]).toEqual([200, 413]);
    done.length = 0;
  });
});

describe("the client", () => {
  function socket(): string {
    const folder = mkdtempSync(join(tmpdir(), "weave-access-"));
    stops.push(() => rmSync(folder, { recursive: true }));
    return join(folder, "sock");
  }
  const failure = (promise: Promise<unknown>) =>
    promise.then(
      () => undefined,
      (error: unknown) => error as ApiError,
    );

  test("sends what it is given, and returns the text", async () => {
    const path = socket();
    const seen: unknown[] = [];
    const server = Bun.serve({
      unix: path,
      async fetch(request) {
        const { pathname, search } = new URL(request.url);
        seen.push([
          request.method,
          pathname + search,
          request.headers.get("accept"),
          request.headers.get("content-type")?.split(";")[0],
          await request.text(),
        ]);
        return new Response("answer\n");
      },
    });
    stops.push(() => server.stop(true));
    const api = apiClient(path);
    expect(await api("GET", "/a?b=c", { accept: "application/json" })).toBe("answer\n");
    await api("POST", "/form", { form: new URLSearchParams({ x: "1" }) });
    await api("PUT", "/body", { body: "{}" });
    expect(seen).toEqual([
      ["GET", "/a?b=c", "application/json", undefined, ""],
      ["POST", "/form", "*/*", "application/x-www-form-urlencoded", "x=1"],
      ["PUT", "/body", "*/*", undefined, "{}"],
    ]);
  });

  test("waits longer than Bun does by itself, 5 min: an address may have to come from a host that is down", async () => {
    const path = socket();
    const server = Bun.serve({ unix: path, fetch: () => new Response("10.32.0.1/12") });
    stops.push(() => server.stop(true));
    using request = spyOn(globalThis, "fetch");
    expect(await apiClient(path)("POST", "/ip/c1")).toBe("10.32.0.1/12");
    expect(request.mock.calls.map(([, init]) => init)).toEqual([expect.objectContaining({ timeout: false })]);
  });

  test("makes errors of refusals, and of a router that is not there", async () => {
    const path = socket();
    const server = Bun.serve({
      unix: path,
      fetch: ({ url }) =>
        url.endsWith("/empty") ? new Response(null, { status: 418 }) : new Response(" no\n", { status: 400 }),
    });
    stops.push(() => server.stop(true));
    const api = apiClient(path);
    expect(await failure(api("GET", "/x"))).toMatchObject({
      name: "ApiError",
      status: 400,
      message: "no",
      failure: "refused",
    });
    expect(await failure(api("GET", "/empty"))).toMatchObject({ status: 418, message: "HTTP 418" });
    const none = `${path}.none`;
    const down = await failure(apiClient(none)("GET", "/x"));
    expect(down).toBeInstanceOf(RouterDownError);
    expect(down).toMatchObject({
      failure: "not-running",
      message: expect.stringContaining(`nothing answers at ${none})`),
    });
    expect(new RouterSilentError("s", { stopped: 7 })).toMatchObject({
      failure: "no-answer",
      message: "weave does not answer at s: stopped by a signal; 'kill -CONT 7' resumes it",
    });
    expect(new RouterSilentError("s", { seconds: 60 })).toMatchObject({
      failure: "no-answer",
      message: "weave has not answered at s for 60 s: hung, or this host is overloaded; see 'weave doctor'",
    });
  });

  test("gives up after its time-out, as the caller of a call that is not answered", async () => {
    const path = socket();
    let aborted = 0;
    const server = Bun.serve({
      unix: path,
      async fetch(request) {
        await new Promise<void>((resolve) =>
          request.signal.addEventListener("abort", () => {
            aborted++;
            resolve();
          }),
        );
        return new Response("");
      },
    });
    stops.push(() => server.stop(true));
    expect(await failure(apiClient(path)("GET", "/x", { timeoutMs: 300 }))).toMatchObject({
      status: 504,
      message: "no answer within 300 ms: GET /x",
    });
    await eventually(
      "the server hears of it",
      () => aborted,
      (count) => count === 1,
    );
  });

  test("lists holders by their ids", async () => {
    const owned = [
      { containerid: "a", addrs: ["10.32.0.1/12", "10.32.0.2/12"] },
      { containerid: "b", addrs: [] },
    ];
    const api = async (method: string, path: string) =>
      method === "GET" && path === "/ip" ? JSON.stringify({ owned }) : "";
    expect([...(await holders(api))]).toEqual([
      ["a", ["10.32.0.1/12", "10.32.0.2/12"]],
      ["b", []],
    ]);
  });

  test("a Unix socket takes everything, whatever the Host", async () => {
    const path = socket();
    const server = serveUnix(path, API);
    stops.push(() => server.stop(true));
    const answer = await fetch("http://evil.example/plain", { unix: path, method: "POST", body: "u" });
    expect([answer.status, done.splice(0)]).toEqual([200, ["u"]]);
  });
});

test("paths follow their folders", () => {
  const saved = [process.env["WEAVE_RUN_DIR"], process.env["WEAVE_STATE_DIR"]];
  const set = (run: string | undefined, state: string | undefined) => {
    for (const [key, value] of [
      ["WEAVE_RUN_DIR", run],
      ["WEAVE_STATE_DIR", state],
    ] as const) {
      if (value === undefined) delete process.env[key];
      else process.env[key] = value;
    }
    return [
      runDirectory(),
      controlSocket(),
      pidFile(),
      logFile(),
      stateDirectory(),
      stateFile(),
      releaseDirectory(),
    ];
  };
  try {
    const standard = [
      "/run/weave",
      "/run/weave/weave.sock",
      "/run/weave/weave.pid",
      "/run/weave/weave.log",
      "/var/lib/weave",
      "/var/lib/weave/weave.db",
      "/var/lib/weave/releases",
    ];
    expect(set(undefined, undefined)).toEqual(standard);
    expect(set("", "")).toEqual(standard);
    expect(set("/r", "/s")).toEqual([
      "/r",
      "/r/weave.sock",
      "/r/weave.pid",
      "/r/weave.log",
      "/s",
      "/s/weave.db",
      "/s/releases",
    ]);
  } finally {
    set(saved[0], saved[1]);
  }
});

test("metrics: each figure of a report under its name, with its labels", async () => {
  const vitals = {
    LastHeardMs: 1_500,
    Silent: true,
    RoundTripMs: 4,
    ByOverlay: [{ Overlay: "fastdp", ReceivedBytes: 11, SentBytes: 22 }],
  };
  const established = {
    State: "established",
    Attrs: { name: "fastdp", mtu: 1_376, encrypted: true },
    Peer: { Name: "p", NickName: "h2" },
    Vitals: vitals,
  };
  const report = {
    Ready: true,
    Router: {
      Name: "own",
      Connections: [
        established,
        { State: "failed", Attrs: null },
        { State: "waiting", Attrs: null },
        { ...established, State: "pending", Attrs: { name: "sleeve" }, Peer: { Name: "q", NickName: "h3" } },
      ],
      TerminationCount: 5,
      GossipBytes: { Received: 100, Sent: 200 },
      OverlayDiagnostics: {
        fastdp: { x: 1 },
        sleeve: { sent: 3, received: 4, captured: 9, crypto: 8, tooBig: 2, text: "x" },
      },
      MACs: [{}, {}],
    },
    IPAM: {
      ...{ ActiveIPs: 7, RangeNumIPs: 200, PendingAllocates: ["a", "b"], PendingClaims: ["c"] },
      Entries: [
        { Peer: "own", Size: 100, IsKnownPeer: true },
        { Peer: "gone", Size: 25, IsKnownPeer: false },
        { Peer: "gone", Size: 25, IsKnownPeer: false },
        { Peer: "lost", Size: 50, IsKnownPeer: false },
      ],
    },
    DNS: {
      Entries: [
        { Origin: "own", Tombstone: 0 },
        { Origin: "own", Tombstone: 9 },
        { Origin: "p", Tombstone: 0 },
      ],
    },
    Repairs: { Resources: [{ Name: "bridge", Repairs: 3, Failures: 1 }], Fights: ["x", "y"] },
    Dropped: { spoofed: 6 },
    Cni: [],
  } as unknown as Report;
  const lines = (await metricsText(report)).split("\n");
  const value = (name: string) =>
    lines
      .find((line) => line.startsWith(`${name} `))
      ?.split(" ")
      .at(-1);
  const expected = {
    'weave_connections{state="established",type="fastdp",encryption="yes"}': 1,
    'weave_connections{state="established",type="unknown",encryption=""}': 0,
    'weave_connections{state="failed",type="unknown",encryption=""}': 1,
    'weave_connections{state="pending",type="sleeve",encryption=""}': 1,
    'weave_connections{state="retrying",type="unknown",encryption=""}': 0,
    weave_connection_terminations_total: 5,
    weave_flows: 2,
    'weave_ips{state="local-used"}': 7,
    weave_max_ips: 200,
    weave_ipam_unreachable_count: 2,
    weave_ipam_unreachable_percentage: 50,
    weave_ipam_pending_allocates: 2,
    weave_ipam_pending_claims: 1,
    weave_dns_entries: 1,
    'weave_reconcile_repairs_total{resource="bridge"}': 3,
    'weave_reconcile_failures_total{resource="bridge"}': 1,
    weave_reconcile_fights: 2,
    weave_ready: 1,
    'weave_gossip_bytes_total{direction="received"}': 100,
    'weave_gossip_bytes_total{direction="sent"}': 200,
    'weave_sleeve_frames_total{direction="sent"}': 3,
    'weave_sleeve_frames_total{direction="received"}': 4,
    'weave_dropped_frames_total{where="sleeve",reason="tooBig"}': 2,
    'weave_dropped_frames_total{where="container port",reason="spoofed"}': 6,
    'weave_peer_bytes_total{peer="p",nickname="h2",overlay="fastdp",direction="received"}': 11,
    'weave_peer_bytes_total{peer="p",nickname="h2",overlay="fastdp",direction="sent"}': 22,
    'weave_peer_overlay{peer="p",nickname="h2",overlay="fastdp"}': 1,
    'weave_peer_round_trip_seconds{peer="p",nickname="h2"}': 0.004,
    'weave_peer_last_heard_seconds{peer="p",nickname="h2"}': 1.5,
    'weave_peer_silent{peer="p",nickname="h2"}': 1,
    'weave_peer_mtu_bytes{peer="p",nickname="h2"}': 1_376,
  };
  for (const [name, figure] of Object.entries(expected))
    expect([name, value(name)]).toEqual([name, String(figure)]);
  expect(lines.some((line) => line.includes('nickname="h3"'))).toBe(false);
  for (const reason of ["sent", "captured", "crypto", "text"])
    expect(lines.some((line) => line.includes(`reason="${reason}"`))).toBe(false);
  // All names of a large network are many: their number needs no list.
  const DNS = {
    OwnNames: 12,
    get Entries(): never {
      throw new Error("a list of all names");
    },
  };
  expect(await metricsText({ ...report, DNS } as unknown as Report)).toContain("\nweave_dns_entries 12\n");
  const bare = {
    ...report,
    Ready: false,
    IPAM: undefined,
    DNS: undefined,
    Router: { ...report.Router, OverlayDiagnostics: { fastdp: { unavailable: "x" } } },
  } as unknown as Report;
  const less = await metricsText(bare);
  for (const name of ["weave_flows", "weave_max_ips", "weave_dns_entries"])
    expect(less).not.toContain(`\n${name} `);
  expect(less).toContain("\nweave_ready 0\n");
});
