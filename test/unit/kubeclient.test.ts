// An API server that contradicts, refuses, and falls silent.
import { afterEach, describe, expect, spyOn, test } from "bun:test";
import { seededRandom } from "../../lib/clock/random.ts";
import { configMapAnnotations, update } from "../../lib/cluster/annotations.ts";
import { KubeClient, KubeError } from "../../lib/kube/client.ts";
import { hurry } from "../support/clocks.ts";

const stops: (() => unknown)[] = [];
afterEach(async () => {
  for (const stop of stops.splice(0)) await stop();
});

function clientOf(
  fetch: (request: Request) => Response | Promise<Response>,
  answerMs?: number,
  silenceMs?: number,
): KubeClient {
  const server = Bun.serve({ hostname: "127.0.0.1", port: 0, idleTimeout: 0, fetch });
  stops.push(() => server.stop(true));
  const config = { server: `http://127.0.0.1:${server.port}`, credentials: () => ({ headers: {}, tls: {} }) };
  return new KubeClient(config, answerMs, silenceMs);
}

const status = (code: number) => Response.json({ code, message: "no" }, { status: code });

/** One ConfigMap, as the API server keeps it: who names a version has to name the last; who names none always wins. */
class ConfigMaps {
  object:
    | { metadata: { annotations?: Record<string, string>; resourceVersion?: string; labels?: object } }
    | undefined;
  #version = 0;
  /** Called before each change. */
  disturb = () => {};

  answer = async (request: Request): Promise<Response> => {
    if (request.method === "GET") return this.object ? Response.json(this.object) : status(404);
    const sent = (await request.json()) as NonNullable<ConfigMaps["object"]>;
    this.disturb();
    if (request.method === "POST" && this.object) return status(409);
    const { resourceVersion } = sent.metadata;
    const last = this.object?.metadata.resourceVersion;
    if (request.method === "PUT" && resourceVersion !== undefined && resourceVersion !== last)
      return status(409);
    this.change(sent);
    return Response.json(this.object);
  };

  change(object: NonNullable<ConfigMaps["object"]>): void {
    this.object = { ...object, metadata: { ...object.metadata, resourceVersion: String(++this.#version) } };
  }
}

test("of ten that count in one ConfigMap at once, none loses a count", async () => {
  const maps = new ConfigMaps();
  const client = clientOf(maps.answer);
  const count = async (seed: number) => {
    const shared = configMapAnnotations(client);
    for (let i = 0; i < 5; i++)
      await update(shared, ({ n = "0" }) => ({ n: String(Number(n) + 1) }), {
        clock: hurry(),
        random: seededRandom(BigInt(seed)),
      });
  };
  await Promise.all(Array.from({ length: 10 }, (_, seed) => count(seed)));
  expect(maps.object?.metadata.annotations).toEqual({ n: "50" });
});

test("whoever comes too late changes nothing, reads again, and keeps what else is in the object", async () => {
  const maps = new ConfigMaps();
  const shared = configMapAnnotations(clientOf(maps.answer));
  expect(await shared.read()).toEqual({});
  maps.change({ metadata: { annotations: { theirs: "1" }, labels: { kept: "yes" } } });
  expect(await shared.write({ ours: "1" })).toBe(false);
  expect(maps.object?.metadata.annotations).toEqual({ theirs: "1" });
  let others = 0;
  maps.disturb = () => {
    if (others++ < 3)
      maps.change({ metadata: { annotations: { theirs: String(others) }, labels: { kept: "yes" } } });
  };
  const by = { clock: hurry(), random: seededRandom(1n) };
  const now = await update(shared, (annotations) => ({ ...annotations, ours: "1" }), by);
  expect(now).toEqual({ theirs: "3", ours: "1" });
  expect(maps.object?.metadata).toMatchObject({ annotations: now, labels: { kept: "yes" } });
});

test.each([400, 403, 410, 429, 500, 503])(
  "a refusal with %d is an error with that status, and nothing is tried again",
  async (code) => {
    let asked = 0;
    const client = clientOf(() => {
      asked++;
      return status(code);
    });
    const failed: unknown = await client.list("/api/v1/pods").catch((error: unknown) => error);
    expect(failed).toBeInstanceOf(KubeError);
    expect([(failed as KubeError).status, asked]).toEqual([code, 1]);
  },
);

test("a watch ends at its time, though its server sends nothing more", async () => {
  const event = `${JSON.stringify({ type: "ADDED", object: { metadata: { resourceVersion: "1" } } })}\n`;
  const client = clientOf(
    () => new Response(new ReadableStream({ start: (controller) => controller.enqueue(Buffer.from(event)) })),
  );
  const time = new AbortController();
  const spy = spyOn(AbortSignal, "timeout").mockImplementation(() => time.signal);
  try {
    const watched = client.watch("/api/v1/pods", "0", 1, new AbortController().signal);
    expect((await watched.next()).value?.type).toBe("ADDED");
    const next = watched.next();
    time.abort(new Error("its time is over"));
    await expect(next).rejects.toThrow("its time is over");
  } finally {
    spy.mockRestore();
  }
}, 300_000);

describe("a watch of a server that has vanished", () => {
  const line = (version: number) =>
    Buffer.from(
      `${JSON.stringify({ type: "BOOKMARK", object: { metadata: { resourceVersion: `${version}` } } })}\n`,
    );
  const watch = (client: KubeClient) =>
    client.watch("/api/v1/pods", "0", 3_600, new AbortController().signal);

  test("ends once it is silent for longer than between bookmarks, long before its time", async () => {
    const versions: string[] = [];
    const stream = new ReadableStream({
      async start(controller) {
        for (let i = 1; i <= 24; i++) {
          controller.enqueue(line(i));
          await Bun.sleep(40);
        }
      },
    });
    const client = clientOf(() => new Response(stream), 60_000, 700);
    for await (const { resourceVersion } of watch(client)) versions.push(resourceVersion);
    // In all it took longer than a silence may.
    expect(versions).toEqual(Array.from({ length: 24 }, (_, i) => `${i + 1}`));
  }, 300_000);

  test("fails where not even an answer comes", async () => {
    const client = clientOf(() => new Promise<Response>(() => {}), 100);
    const failed: unknown = await watch(client)
      .next()
      .catch((error: unknown) => error);
    expect((failed as KubeError).status).toBe(0);
  }, 300_000);
});

test("each request has the time that its answer may take; a watch also the seconds for which it was asked", async () => {
  const queries: (string | null)[] = [];
  const client = clientOf(({ url }) => {
    queries.push(new URL(url).searchParams.get("timeoutSeconds"));
    return Response.json({ metadata: {}, items: [] });
  }, 30_000);
  const limits: number[] = [];
  const { signal } = new AbortController();
  const spy = spyOn(AbortSignal, "timeout").mockImplementation((ms) => {
    limits.push(ms);
    return signal;
  });
  const watch = (seconds: number) => client.watch("/x", "1", seconds, signal).next();
  const asked = async (request: () => Promise<unknown>) => {
    await request().catch(() => {});
    return [queries.splice(0), limits.splice(0)];
  };
  try {
    expect(await asked(() => client.get("/x"))).toEqual([[null], [30_000]]);
    expect(await asked(() => client.list("/x"))).toEqual([[null], [30_000]]);
    expect(await asked(() => client.write("merge", "/x", {}))).toEqual([[null], [30_000]]);
    expect(await asked(() => watch(1))).toEqual([["1"], [31_000]]);
    expect(await asked(() => watch(300))).toEqual([["300"], [330_000]]);
    expect(await asked(() => watch(3_600))).toEqual([["3600"], [3_630_000]]);
  } finally {
    spy.mockRestore();
  }
});

test("a server that never answers is given up", async () => {
  const client = clientOf(() => new Promise<Response>(() => {}), 100);
  const failed: unknown = await client.get("/api/v1/nodes/n").catch((error: unknown) => error);
  expect((failed as KubeError).status).toBe(0);
}, 300_000);

test("an event that comes in pieces is read as it was sent, wherever it was cut", async () => {
  const event = {
    type: "ADDED",
    object: { metadata: { name: "a", resourceVersion: "2", annotations: { owner: "Zoë, 東京, 🦊" } } },
  };
  const bytes = new TextEncoder().encode(`${JSON.stringify(event)}\n`);
  const client = clientOf(() => {
    async function* pieces() {
      for (const byte of bytes) {
        yield Uint8Array.of(byte);
        // What is sent at once may arrive at once.
        if (byte > 127) await Bun.sleep(5);
      }
    }
    return new Response(pieces() as unknown as ReadableStream);
  });
  const events: unknown[] = [];
  for await (const each of client.watch("/x", "1", 5, new AbortController().signal)) events.push(each);
  expect(events).toMatchObject([event]);
});

describe("requests", () => {
  test.each([
    ["create", "POST", "application/json"],
    ["replace", "PUT", "application/json"],
    ["patch", "PATCH", "application/strategic-merge-patch+json"],
    ["merge", "PATCH", "application/merge-patch+json"],
  ] as const)("%s an object by %s, as %s", async (how, method, type) => {
    const seen: unknown[] = [];
    const client = clientOf(async (request) => {
      const { pathname } = new URL(request.url);
      seen.push([request.method, pathname, request.headers.get("content-type"), await request.json()]);
      return Response.json({ made: how });
    });
    expect(await client.write(how, "/api/v1/nodes/n1", { spec: {} })).toEqual({ made: how });
    expect(seen).toEqual([[method, "/api/v1/nodes/n1", type, { spec: {} }]]);
  });

  test("list page by page, and watch with bookmarks from a version on", async () => {
    const seen: unknown[] = [];
    const client = clientOf(({ url }) => {
      const query = Object.fromEntries(new URL(url).searchParams);
      seen.push(query);
      if (query["watch"]) return new Response("");
      const last = query["continue"] === "next";
      return Response.json({
        metadata: { resourceVersion: last ? "8" : "7", continue: last ? "" : "next" },
        items: [last ? 2 : 1],
      });
    });
    expect(await client.list("/api/v1/pods")).toEqual({ items: [1, 2], resourceVersion: "8" });
    const events = client.watch("/api/v1/pods", "8", 300, new AbortController().signal);
    expect((await events.next()).done).toBe(true);
    const limit = (seen[0] as Record<string, string>)["limit"];
    expect(seen).toEqual([
      { limit },
      { limit, continue: "next" },
      { watch: "true", allowWatchBookmarks: "true", resourceVersion: "8", timeoutSeconds: "300" },
    ]);
  });
});
