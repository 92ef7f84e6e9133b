// Where a router serves its control API: the socket's life, the servers of the options, and what one of them in the way does.
import { describe, expect, test } from "bun:test";
import { once } from "node:events";
import { existsSync, mkdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { connect, createServer } from "node:net";
import { join } from "node:path";
import { subject } from "../../lib/api/routing.ts";
import { parseOptions } from "../../lib/router/options.ts";
import { serveAll, serveWaiting } from "../../lib/router/servers.ts";
import { eventually } from "../support/hosts.ts";
import { isRoot } from "../support/newnetns.ts";
import { RouterBench, type TestContext } from "../support/routercontext.ts";

/** Nothing on TCP, unless options say so. */
const QUIET = { "http-addr": "", "status-addr": "", "metrics-addr": "" };

/** Request by a connection of this thread, which is in the test's namespace; "" where there is none. */
async function http(port: number, path: string, method = "GET", host = "127.0.0.1"): Promise<string> {
  const socket = connect(port, host);
  try {
    socket.write(`${method} ${path} HTTP/1.1\r\nHost: ${host}:${port}\r\nConnection: close\r\n\r\n`);
    let text = "";
    for await (const chunk of socket) text += chunk;
    return text;
  } catch {
    return "";
  } finally {
    socket.destroy();
  }
}
const code = async (...asked: Parameters<typeof http>) => Number((await http(...asked)).split(" ")[1] ?? 0);

/** Wait until nobody answers at a port: Bun closes the socket of a server some moments after its end. */
const isClosed = (port: number) =>
  eventually(
    `port ${port} is closed`,
    () => code(port, "/here"),
    (answer) => answer === 0,
  );

/** An API with a path that is answered once the test says so. */
function api({ context }: TestContext) {
  const gate = Promise.withResolvers<Response>();
  const route = subject();
  const methods = { GET: () => new Response("here\n"), POST: () => new Response("changed\n") };
  const target = {
    log: context.log,
    report: () => ({ Version: "x" }),
    routes: [route("/slow", { GET: () => gate.promise }), route("/here", methods)],
  };
  return { target: target as never, gate };
}

const serve = async (opened: TestContext) => {
  const { target, gate } = api(opened);
  const servers = await serveAll(target, opened.context);
  const path = join(opened.folder, "weave.sock");
  const get = (from = "/here") =>
    fetch(`http://weave${from}`, { unix: path }).then((answer) => answer.text());
  return { ...opened, servers, gate, path, get };
};

describe.if(isRoot)("the control socket", () => {
  test("is for root alone, in place of one that a killed router has left", async () => {
    await using bench = new RouterBench();
    const stale = createServer().listen(join(bench.folder, "weave.sock"));
    await once(stale, "listening");
    const before = process.umask(0o022);
    try {
      const { path, get } = await serve(bench.open(QUIET));
      expect([statSync(path).mode & 0o777, process.umask(), await get()]).toEqual([0o600, 0o022, "here\n"]);
    } finally {
      process.umask(before);
      stale.close();
    }
  });

  test("is not made over what is no socket", async () => {
    await using bench = new RouterBench();
    mkdirSync(join(bench.folder, "weave.sock"));
    const umask = process.umask();
    await expect(serve(bench.open(QUIET))).rejects.toThrow(
      "weave.sock is in the way: not a socket; remove it",
    );
    expect(process.umask()).toBe(umask);
  });

  test("is made again where others remove it; requests under way are answered", async () => {
    await using bench = new RouterBench();
    const opened = await serve(bench.open(QUIET));
    const { context, path, get, gate, lines, clock } = opened;
    context.files.look();
    expect(lines.filter((line) => line.startsWith("warning"))).toEqual([]);
    const waiting = get("/slow");
    // The request is under way.
    expect(await get()).toBe("here\n");
    rmSync(path);
    opened.scope.start();
    clock.advance(5_000);
    expect(lines.filter((line) => line.startsWith("warning"))).toEqual([
      `warning: the control socket ${path} was removed by another program; restored it`,
    ]);
    expect([statSync(path).mode & 0o777, await get()]).toEqual([0o600, "here\n"]);
    gate.resolve(new Response("at last\n"));
    expect(await waiting).toBe("at last\n");
    rmSync(path);
    writeFileSync(path, "");
    clock.advance(5_000);
    expect([statSync(path).isSocket(), await get()]).toEqual([true, "here\n"]);
    clock.advance(50_000);
    expect(lines.filter((line) => line.startsWith("warning")).length).toBe(2);
  });

  test("is gone at the end, with its connections", async () => {
    await using bench = new RouterBench();
    const { path, scope, get } = await serve(bench.open(QUIET));
    const idle = connect(path);
    await once(idle, "connect");
    expect(await get()).toBe("here\n");
    const closed = once(idle, "close");
    idle.resume();
    await scope.end();
    await closed;
    expect(existsSync(path)).toBe(false);
    await expect(get()).rejects.toThrow();
  });
});

describe.if(isRoot)("servers on TCP", () => {
  const AT = {
    "http-addr": "127.0.0.1:7784",
    "status-addr": "127.0.0.1:7782",
    "metrics-addr": "127.0.0.1:7785",
  };

  test.each<[boolean, number]>([
    [false, 403],
    [true, 200],
  ])("are those of the options; writes are let in with --http-writes (%p)", async (writes, posted) => {
    await using bench = new RouterBench();
    const { scope, servers } = await serve(bench.open({ ...AT, "http-writes": writes }));
    expect([await code(7_784, "/here"), await code(7_784, "/here", "POST")]).toEqual([200, posted]);
    expect([await code(7_782, "/here"), await code(7_782, "/here", "POST")]).toEqual([404, 404]);
    expect([await code(7_785, "/here"), (await http(7_785, "/metrics")) !== ""]).toEqual([404, true]);
    expect([servers.notes(), servers.limits().map(({ name }) => name)]).toEqual([[], ["open-files"]]);
    await scope.end();
    for (const port of [7_784, 7_782, 7_785]) await isClosed(port);
  });

  test("are none where the options have none", async () => {
    await using bench = new RouterBench();
    await serve(bench.open(QUIET));
    for (const port of [6_784, 6_782]) expect(await code(port, "/status")).toBe(0);
  });

  test.each([
    ["http-addr", 7_784, "the control API"],
    ["status-addr", 7_782, "the status"],
    ["metrics-addr", 7_785, "metrics"],
  ])("--%s that is taken is an error, and nothing is served", async (option, port, what) => {
    await using bench = new RouterBench();
    const taken = createServer().listen(port, "127.0.0.1");
    await once(taken, "listening");
    const failed = await serve(bench.open(AT)).catch((error: Error) => error);
    expect(failed).toBeInstanceOf(Error);
    expect((failed as Error).message).toStartWith(`cannot serve ${what} on 127.0.0.1:${port}: `);
    expect((failed as Error).message).toContain(`--${option}`);
    const others = [7_784, 7_782, 7_785].filter((each) => each !== port);
    for (const other of others) await isClosed(other);
    taken.close();
  });

  test("do without the default status address while it is taken, say so, and look again every 2 s", async () => {
    await using bench = new RouterBench();
    const taken = createServer().listen(6_782, "127.0.0.1");
    await once(taken, "listening");
    const { servers, lines, clock } = await serve(
      bench.open({ "http-addr": "", "metrics-addr": "", "status-addr": "127.0.0.1:6782" }),
    );
    const warnings = () => lines.filter((line) => line.startsWith("warning"));
    expect(servers.notes()).toEqual([
      expect.stringMatching(/^cannot serve the status on 127\.0\.0\.1:6782: /),
    ]);
    expect(warnings()).toEqual([`warning: ${servers.notes()[0]}`]);
    clock.advance(2_000);
    taken.close();
    await once(taken, "close");
    expect([warnings().length, servers.notes().length]).toEqual([1, 1]);
    clock.advance(1_999);
    expect(await code(6_782, "/here")).toBe(0);
    clock.advance(1);
    expect([await code(6_782, "/here"), servers.notes()]).toEqual([404, []]);
  });
});

describe.if(isRoot)("probes of a router that waits", () => {
  const of = (raw: Record<string, unknown>) => parseOptions(raw, []);

  test("find it alive, and not ready because of what it waits for", async () => {
    await using _bench = new RouterBench();
    let why = "no lease";
    const servers = serveWaiting(
      of({ "http-addr": "127.0.0.1:7784", "status-addr": "127.0.0.1:7782" }),
      () => why,
    );
    for (const port of [7_784, 7_782]) {
      expect(await http(port, "/healthz")).toMatch(/^HTTP\/1\.1 200[\s\S]*ok\n$/);
      expect(await http(port, "/status")).toMatch(/^HTTP\/1\.1 503[\s\S]*not ready: no lease\n$/);
    }
    why = "no node";
    expect(await http(7_784, "/readyz")).toEndWith("not ready: no node\n");
    servers[Symbol.dispose]();
    for (const port of [7_784, 7_782]) await isClosed(port);
    serveWaiting(of({ "http-addr": "", "status-addr": "" }), () => "")[Symbol.dispose]();
  });

  test("have an error where a port is taken, and leave no server", async () => {
    await using _bench = new RouterBench();
    const taken = createServer().listen(7_782, "127.0.0.1");
    await once(taken, "listening");
    const options = of({ "http-addr": "127.0.0.1:7784", "status-addr": "127.0.0.1:7782" });
    expect(() => serveWaiting(options, () => "")).toThrow(
      /^cannot serve probes on 127\.0\.0\.1:7782: .*--status-addr/,
    );
    await isClosed(7_784);
    taken.close();
  });
});
