// A Kubernetes API server that lies, loses its place, or sends what is no list, event or object: what is asked of it next,
// and what the rooms above are told; configurations and nodes as they come.
import { afterAll, afterEach, beforeAll, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { SimulatedClock } from "../../lib/clock/simulated.ts";
import { GONE, KubeClient, KubeError, type List, type WatchEvent } from "../../lib/kube/client.ts";
import { fileConfig, inClusterConfig } from "../../lib/kube/config.ts";
import { listNodes, networkAvailable, peerAddresses, readNode } from "../../lib/kube/nodes.ts";
import { type Reflector, reflect } from "../../lib/kube/reflector.ts";
import { logTo } from "../../lib/log/log.ts";
import { randomOf } from "../support/seed.ts";

const stops: (() => unknown)[] = [];
afterEach(async () => {
  for (const stop of stops.splice(0)) await stop();
});

/** A client of a server that is the test; `asked` are methods, paths and bodies. */
function served(respond: (path: string) => Response | Promise<Response>, answerMs?: number) {
  const asked: string[] = [];
  const types: (string | null)[] = [];
  const server = Bun.serve({
    ...{ hostname: "127.0.0.1", port: 0, idleTimeout: 0 },
    async fetch(request) {
      const { pathname, search } = new URL(request.url);
      const body = await request.text();
      asked.push(`${request.method} ${pathname}${decodeURIComponent(search)}${body && ` ${body}`}`);
      types.push(request.headers.get("content-type"), request.headers.get("authorization"));
      return respond(`${pathname}${search}`);
    },
  });
  stops.push(() => server.stop(true));
  const credentials = () => ({ headers: { authorization: "Bearer t" }, tls: {} });
  return {
    client: new KubeClient({ server: `http://127.0.0.1:${server.port}`, credentials }, answerMs),
    asked,
    types,
  };
}

const failed = (promise: Promise<unknown>) => promise.catch((error: unknown) => error) as Promise<KubeError>;
const page = (items: unknown, metadata: object = {}) => Response.json({ metadata, items });

describe("a list", () => {
  test("is read page by page, 500 at a time, with the version of the last", async () => {
    const { client, asked, types } = served((path) => {
      if (path.includes("continue=b")) return page([3], { resourceVersion: "9" });
      if (path.includes("continue=a")) return page(null, { resourceVersion: "8", continue: "b" });
      return page([1, 2], { resourceVersion: "7", continue: "a" });
    });
    expect(await client.list("/api/v1/pods")).toEqual({ items: [1, 2, 3], resourceVersion: "9" });
    expect(asked).toEqual([
      "GET /api/v1/pods?limit=500",
      "GET /api/v1/pods?limit=500&continue=a",
      "GET /api/v1/pods?limit=500&continue=b",
    ]);
    expect(types[1]).toBe("Bearer t");
  });

  test.each<[string, () => Response]>([
    ["no JSON", () => new Response("x")],
    ["no list", () => Response.json({ metadata: {}, items: "x" })],
    ["no metadata", () => Response.json({ items: [] })],
  ])("that is %s is an error without a status", async (_what, respond) => {
    expect(await failed(served(respond).client.list("/x"))).toMatchObject({
      status: 0,
      message: "/x: the answer is not a list",
    });
  });

  test("is given up by its caller, in the middle of its pages", async () => {
    const caller = new AbortController();
    const { client, asked } = served(() => {
      if (asked.length === 2) caller.abort();
      return page([1], { continue: `${asked.length}` });
    });
    expect((await failed(client.list("/x", caller.signal))).status).toBe(0);
    expect(asked.length).toBeLessThanOrEqual(2);
  });
});

test("writes say how: create, replace, or merge; a refusal has the server's words", async () => {
  const { client, asked, types } = served((path) =>
    path === "/no" ? Response.json({ message: "it exists" }, { status: 409 }) : Response.json({ ok: 1 }),
  );
  for (const how of ["create", "replace", "patch"] as const)
    expect(await client.write(how, `/${how}`, { a: 1 })).toEqual({ ok: 1 });
  expect(asked).toEqual(['POST /create {"a":1}', 'PUT /replace {"a":1}', 'PATCH /patch {"a":1}']);
  expect(types.filter((type) => type?.startsWith("application"))).toEqual([
    "application/json",
    "application/json",
    "application/strategic-merge-patch+json",
  ]);
  expect(await failed(client.write("create", "/no", {}))).toMatchObject({
    status: 409,
    message: expect.stringContaining("/no: 409 it exists"),
  });
  const plain = served(() => new Response("x", { status: 500, statusText: "Internal Server Error" }));
  expect(await failed(plain.client.get("/x"))).toMatchObject({
    status: 500,
    message: expect.stringContaining("500 Internal Server Error"),
  });
});

describe("a watch", () => {
  const events = async (text: string, limitS = 7) => {
    const { client, asked } = served(() => new Response(text));
    const found: WatchEvent[] = [];
    const error: unknown = await (async () => {
      for await (const event of client.watch("/x", "5", limitS, new AbortController().signal))
        found.push(event);
    })().catch((reason) => reason);
    return { found, error: error as KubeError | undefined, asked };
  };
  const object = (version?: string) => ({
    metadata: version === undefined ? {} : { resourceVersion: version },
  });
  const line = (type: string, of: unknown) => `${JSON.stringify({ type, object: of })}\n`;

  test("asks from its version on, and passes on what comes, empty lines aside", async () => {
    const { found, error, asked } = await events(
      `${line("ADDED", object("6"))}\n\n${line("BOOKMARK", object("7"))}`,
    );
    expect(asked).toEqual(["GET /x?watch=true&allowWatchBookmarks=true&resourceVersion=5&timeoutSeconds=7"]);
    expect(found).toEqual([
      { type: "ADDED", object: object("6"), resourceVersion: "6" },
      { type: "BOOKMARK", object: object("7"), resourceVersion: "7" },
    ]);
    expect(error).toBeUndefined();
  });

  test.each<[string, string, number, string]>([
    ["no JSON", "{\n", GONE, "the server did not send JSON"],
    ["no event", line("CHANGED", object("6")), GONE, "the server did not send an event"],
    ["an object without a version", line("ADDED", object()), GONE, "an object without a version"],
    ["an error", line("ERROR", { code: 410, message: "too old" }), 410, "410 too old"],
    ["another error", line("ERROR", { code: 500, message: "broken" }), 500, "500 broken"],
    ["an error without a code", line("ERROR", {}), 0, "0 "],
    ["an error that is nothing", line("ERROR", 5), 0, "0 "],
  ])("that sends %s ends with %s", async (_what, text, status, message) => {
    const { found, error } = await events(
      `${line("MODIFIED", object("6"))}${text}${line("MODIFIED", object("7"))}`,
    );
    expect(found.map(({ resourceVersion }) => resourceVersion)).toEqual(["6"]);
    expect([error?.status, error?.message]).toEqual([status, expect.stringContaining(message)]);
  });

  test("without the end of a line is bounded to 8 MiB", async () => {
    const { error } = await events("x".repeat((8 << 20) + 1));
    expect([error?.status, error?.message]).toEqual([
      GONE,
      expect.stringContaining(`a line of more than ${8 << 20} characters`),
    ]);
    const big = { ...object("6"), data: "x".repeat((8 << 20) - 100) };
    expect((await events(line("ADDED", big))).found).toHaveLength(1);
  });
});

/** A reflector on a server that is the test: each list and watch waits for the test to answer it. */
function followed() {
  const clock = new SimulatedClock();
  const lines: string[] = [];
  const told: string[] = [];
  const asked: string[] = [];
  const lists: PromiseWithResolvers<List>[] = [];
  const watches: {
    push(event: WatchEvent): void;
    end(error?: Error): void;
    signal: AbortSignal;
    seconds: number;
  }[] = [];
  const client = {
    list(_path: string, signal: AbortSignal) {
      asked.push("list");
      const waiting = Promise.withResolvers<List>();
      signal.addEventListener("abort", () => waiting.reject(new KubeError("aborted", 0)));
      lists.push(waiting);
      return waiting.promise;
    },
    async *watch(_path: string, version: string, seconds: number, signal: AbortSignal) {
      asked.push(`watch ${version}`);
      const queue: (WatchEvent | Error | undefined)[] = [];
      let wake = () => {};
      const put = (item: WatchEvent | Error | undefined) => {
        queue.push(item);
        wake();
      };
      signal.addEventListener("abort", () => put(new KubeError("aborted", 0)));
      watches.push({ push: put, end: (error) => put(error), signal, seconds });
      for (;;) {
        while (queue.length === 0) await new Promise<void>((resolve) => (wake = resolve));
        const next = queue.shift();
        if (next === undefined) return;
        if (next instanceof Error) throw next;
        yield next;
      }
    },
  } as unknown as KubeClient;
  const log = logTo((level, text) => lines.push(`${level}: ${text}`));
  let onChange = () => {};
  const reflector: Reflector = reflect(
    client,
    "/api/v1/pods",
    { clock, random: { float: () => 0.5, u64: () => 0n }, log },
    {
      listed: (items) => told.push(`listed ${items}`),
      changed(type, object) {
        told.push(`${type} ${object}`);
        onChange();
      },
    },
  );
  const settle = async () => {
    for (let turn = 0; turn < 20; turn++) await Promise.resolve();
  };
  return {
    ...{ clock, lines, lists, watches, reflector, settle },
    onChange: (run: () => void) => {
      onChange = run;
    },
    pass: async (ms: number) => {
      clock.advance(ms);
      await settle();
    },
    said: () => told.splice(0),
    asked: () => asked.splice(0),
    event: (type: WatchEvent["type"], object: unknown, resourceVersion: string) => ({
      type,
      object,
      resourceVersion,
    }),
  };
}

describe("a reflector", () => {
  /** One that has listed at version 5 and watches. */
  async function watching() {
    const all = followed();
    all.lists[0]?.resolve({ items: ["a", "b"], resourceVersion: "5" });
    await all.settle();
    expect([all.asked(), all.said()]).toEqual([["list", "watch 5"], ["listed a,b"]]);
    return all;
  }

  test("lists, then watches from there for 5 to 10 min; each watch begins where the last ended", async () => {
    const { watches, settle, said, asked, event, clock, lines, reflector } = await watching();
    expect(watches[0]?.seconds).toBe(450);
    watches[0]?.push(event("ADDED", "c", "6"));
    watches[0]?.push(event("MODIFIED", "c", "7"));
    watches[0]?.push(event("BOOKMARK", "x", "8"));
    watches[0]?.push(event("DELETED", "a", "9"));
    await settle();
    expect(said()).toEqual(["set c", "set c", "delete a"]);
    clock.advance(30_000);
    watches[0]?.end();
    await settle();
    // It lived long enough: no pause.
    expect([asked(), said(), lines]).toEqual([["watch 9"], [], []]);
    watches[1]?.push(event("BOOKMARK", "x", "12"));
    await settle();
    clock.advance(30_000);
    watches[1]?.end();
    await settle();
    expect(asked()).toEqual(["watch 12"]);
    reflector.stop();
  });

  test("pauses before the next watch where one ended sooner, or failed; the state stays", async () => {
    const { watches, settle, said, asked, pass, clock, lines, reflector } = await watching();
    clock.advance(29_999);
    watches[0]?.end();
    await settle();
    expect(asked()).toEqual([]);
    await pass(499);
    expect(asked()).toEqual([]);
    await pass(1);
    expect(asked()).toEqual(["watch 5"]);
    clock.advance(60_000);
    watches[1]?.end(new KubeError("broken", 500));
    await settle();
    expect(lines).toEqual(["warning: cannot watch objects: broken; the last known state stays in force"]);
    await pass(999);
    expect(asked()).toEqual([]);
    await pass(1);
    expect([asked(), said()]).toEqual([["watch 5"], []]);
    reflector.stop();
  });

  test("lists again where its version is gone, and only then", async () => {
    const { watches, lists, settle, said, asked, pass, event, lines, reflector } = await watching();
    for (const status of [400, 409, 500, 0]) {
      watches.at(-1)?.push(event("BOOKMARK", "", "6"));
      watches.at(-1)?.end(new KubeError("x", status));
      await settle();
      await pass(500);
      expect(asked()).toEqual(["watch 6"]);
    }
    lines.length = 0;
    watches.at(-1)?.end(new KubeError("too old", GONE));
    await settle();
    expect(lines).toEqual(["info: listing objects again: too old"]);
    await pass(1_000);
    expect(asked()).toEqual(["list"]);
    expect(said()).toEqual([]);
    lists[1]?.resolve({ items: ["z"], resourceVersion: "20" });
    await settle();
    expect([said(), asked()]).toEqual([["listed z"], ["watch 20"]]);
    reflector.stop();
  });

  test("lists again with back-off while the first list fails", async () => {
    const { lists, settle, asked, pass, said, reflector } = followed();
    await settle();
    expect(asked()).toEqual(["list"]);
    for (const [i, pause] of [500, 1_000, 2_000].entries()) {
      lists[i]?.reject(new KubeError("no", 503));
      await settle();
      await pass(pause - 1);
      expect(asked()).toEqual([]);
      await pass(1);
      expect(asked()).toEqual(["list"]);
    }
    expect(said()).toEqual([]);
    reflector.stop();
  });

  test("that is stopped tells nothing more: during a list, a watch, a pause, or by what it told", async () => {
    const listing = followed();
    await listing.settle();
    listing.reflector.stop();
    listing.lists[0]?.resolve({ items: ["a"], resourceVersion: "1" });
    await listing.pass(60_000);
    expect([listing.said(), listing.asked(), listing.lines]).toEqual([[], ["list"], []]);

    const during = await watching();
    during.onChange(() => during.reflector.stop());
    during.watches[0]?.push(during.event("ADDED", "c", "6"));
    during.watches[0]?.push(during.event("ADDED", "d", "7"));
    await during.pass(60_000);
    expect([during.said(), during.asked(), during.watches[0]?.signal.aborted, during.lines]).toEqual([
      ["set c"],
      [],
      true,
      [],
    ]);

    const pausing = await watching();
    pausing.watches[0]?.end(new KubeError("x", 500));
    await pausing.settle();
    pausing.reflector.stop();
    await pausing.pass(60_000);
    expect(pausing.asked()).toEqual([]);
  });

  test("of a server that loses watches, compacts and repeats ends with what the server has", async () => {
    const random = randomOf("a lying API server");
    for (let run = 0; run < 40; run++) {
      const all = followed();
      // What the server has, and what the listener believes.
      const truth = new Map<string, number>();
      let version = 1;
      const log: { version: number; type: "ADDED" | "DELETED"; key: string }[] = [];
      await all.settle();
      const believed = new Map<string, number>();
      const hear = () => {
        for (const line of all.said()) {
          const [what = "", rest = ""] = line.split(" ");
          if (what === "listed") {
            believed.clear();
            for (const item of rest.split(",").filter(Boolean)) believed.set(item, 1);
          } else if (what === "set") believed.set(rest, 1);
          else believed.delete(rest);
        }
      };
      let answered = 0;
      let sent = 0;
      let from = 0;
      const send = () => {
        const watch = all.watches.at(-1);
        for (const entry of log.filter((each) => each.version > sent)) {
          watch?.push(all.event(entry.type, entry.key, String(entry.version)));
          sent = entry.version;
        }
      };
      const serve = () => {
        if (all.lists.length > answered) {
          answered = all.lists.length;
          all.lists.at(-1)?.resolve({ items: [...truth.keys()], resourceVersion: String(version) });
        }
        for (const asked of all.asked()) if (asked.startsWith("watch")) sent = Number(asked.slice(6));
      };
      for (let step = 0; step < 25; step++) {
        const key = `k${random.below(4)}`;
        if (random.below(3) > 0) {
          const type = truth.has(key) ? "DELETED" : "ADDED";
          if (type === "ADDED") truth.set(key, 1);
          else truth.delete(key);
          log.push({ version: ++version, type, key });
        }
        serve();
        await all.settle();
        serve();
        if (all.watches.length > 0) send();
        await all.settle();
        if (random.below(4) === 0) {
          from = version;
          all.watches
            .at(-1)
            ?.end(random.pick([undefined, new KubeError("x", 500), new KubeError("old", GONE)]));
          await all.settle();
          await all.pass(30_000);
          serve();
        }
      }
      for (let turn = 0; turn < 4; turn++) {
        await all.pass(60_000);
        serve();
        await all.settle();
        serve();
        if (all.watches.length > 0) send();
        await all.settle();
      }
      hear();
      expect([...believed.keys()].sort()).toEqual([...truth.keys()].sort());
      expect(from).toBeLessThanOrEqual(version);
      all.reflector.stop();
    }
  });
});

describe("configurations", () => {
  let folder: string;
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), "weave-kube-"));
    writeFileSync(join(folder, "token"), " one \n");
    writeFileSync(join(folder, "ca.crt"), "CA");
    writeFileSync(join(folder, "key"), "KEY");
  });
  afterAll(() => rmSync(folder, { recursive: true }));

  test("of a pod: IPv6 in brackets, the token read anew each time", () => {
    const of = (env: Record<string, string>) => inClusterConfig(env, folder);
    const env = { KUBERNETES_SERVICE_HOST: "10.96.0.1", KUBERNETES_SERVICE_PORT: "443" };
    const config = of(env);
    expect(config.server).toBe("https://10.96.0.1:443");
    expect(config.credentials()).toEqual({ headers: { authorization: "Bearer one" }, tls: { ca: "CA" } });
    writeFileSync(join(folder, "token"), "two");
    expect(config.credentials().headers).toEqual({ authorization: "Bearer two" });
    expect(of({ ...env, KUBERNETES_SERVICE_HOST: "fd00::1" }).server).toBe("https://[fd00::1]:443");
    for (const missing of [
      { KUBERNETES_SERVICE_PORT: "443" },
      { KUBERNETES_SERVICE_HOST: "10.96.0.1" },
    ] as Record<string, string>[])
      expect(() => of(missing)).toThrow("no API server: not in a pod");
    expect(() => inClusterConfig(env, join(folder, "none"))).toThrow("no API server: not in a pod");
  });

  const file = (text: string) => {
    const path = join(folder, "config");
    writeFileSync(path, text);
    return path;
  };
  const config = (cluster: object, user: object | null = {}, more: object = {}) =>
    file(
      JSON.stringify({
        "current-context": "here",
        contexts: [
          { name: "other", context: { cluster: "x", user: "x" } },
          { name: "here", context: { cluster: "c", user: "u" } },
        ],
        clusters: [
          { name: "x", cluster: { server: "https://wrong" } },
          { name: "c", cluster: { server: "https://right/", ...cluster } },
        ],
        users: [{ name: "u", user }],
        ...more,
      }),
    );

  test("of a file: the current context, inline data before files, and paths beside the file", () => {
    const plain = fileConfig(config({}, { token: "t" }));
    expect(plain.server).toBe("https://right");
    expect(plain.credentials()).toEqual({
      headers: { authorization: "Bearer t" },
      tls: { ca: undefined, cert: undefined, key: undefined, rejectUnauthorized: true },
    } as never);
    const inline = Buffer.from("INLINE").toString("base64");
    const certificates = fileConfig(
      config(
        { "certificate-authority": "ca.crt", "insecure-skip-tls-verify": true },
        {
          tokenFile: "token",
          token: "t",
          "client-certificate-data": inline,
          "client-certificate": "ca.crt",
          "client-key": "key",
        },
      ),
    ).credentials();
    expect(certificates.tls).toEqual({ ca: "CA", cert: "INLINE", key: "KEY", rejectUnauthorized: false });
    expect(certificates.headers).toEqual({ authorization: "Bearer two" });
    expect(fileConfig(config({}, null)).credentials().headers).toEqual({});
    const anonymous = { contexts: [{ name: "here", context: { cluster: "c" } }] };
    expect(fileConfig(config({}, {}, anonymous)).credentials().headers).toEqual({});
  });

  test.each<[string, () => string, string]>([
    ["no file", () => join(folder, "missing"), "cannot read"],
    ["no YAML", () => file("a: ["), "is not a kubeconfig"],
    ["no context", () => config({}, {}, { "current-context": "none" }), 'has no context "none"'],
    ["no cluster", () => config({}, {}, { clusters: [] }), 'has no cluster "c"'],
    ["no user", () => config({}, {}, { users: [] }), 'has no user "u"'],
    ["no URL", () => config({ server: "right" }), "is not a kubeconfig: clusters.1.cluster.server"],
  ])("with %s say so", (_what, path, message) => {
    expect(() => fileConfig(path())).toThrow(message);
  });
});

describe("nodes", () => {
  const node = (...addresses: [string, string][]) => ({
    metadata: { name: "n1", uid: "u" },
    status: { addresses: addresses.map(([type, address]) => ({ type, address })) },
  });

  test.each<[string, unknown, unknown]>([
    ["internal before external", node(["ExternalIP", "1.1.1.1"], ["InternalIP", "10.0.0.1"]), "10.0.0.1"],
    ["external alone", node(["Hostname", "9.9.9.9"], ["ExternalIP", "1.1.1.1"]), "1.1.1.1"],
    ["IPv4 alone", node(["InternalIP", "fd00::1"], ["InternalIP", "10.0.0.2"]), "10.0.0.2"],
    ["none", node(["Hostname", "n1"]), undefined],
    ["no status", { metadata: { name: "n1", uid: "u" } }, undefined],
    ["no addresses", { metadata: { name: "n1", uid: "u" }, status: { addresses: null } }, undefined],
  ])("address: %s", (_what, json, address) =>
    expect(readNode(json)).toEqual({ name: "n1", uid: "u", address } as never),
  );

  test("that are none are left out; peers are the others, each once, in order", async () => {
    for (const bad of [{}, { metadata: { name: "" } }, 5]) expect(readNode(bad)).toBeUndefined();
    const { client } = served(() =>
      page([node(["InternalIP", "10.0.0.1"]), {}, { metadata: { name: "n2" } }]),
    );
    const nodes = await listNodes(client);
    expect(nodes).toEqual([
      { name: "n1", uid: "u", address: "10.0.0.1" },
      { name: "n2", uid: "", address: undefined },
    ]);
    const of = (address: string) => ({ name: "n", uid: "", address });
    expect(
      peerAddresses(
        [of("10.0.0.3"), of("10.0.0.1"), of("10.0.0.3"), of("10.0.0.2"), ...nodes],
        new Set(["10.0.0.2"]),
      ),
    ).toEqual(["10.0.0.1", "10.0.0.3"]);
    expect(networkAvailable("T")).toEqual({
      status: {
        conditions: [
          {
            ...{
              type: "NetworkUnavailable",
              status: "False",
              reason: "WeaveIsUp",
              message: "Weave pod has set this",
            },
            ...{ lastTransitionTime: "T", lastHeartbeatTime: "T" },
          },
        ],
      },
    });
  });
});
