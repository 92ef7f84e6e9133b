// Whether a node leaves for good, and the startup taint, as the API server answers.
import { afterAll, beforeEach, describe, expect, test } from "bun:test";
import { findBelongings, isLeaving } from "../../lib/cluster/leaving.ts";
import { removeStartupTaint } from "../../lib/cluster/startuptaint.ts";
import { KubeClient } from "../../lib/kube/client.ts";

type Answer = (request: Request) => Response | Promise<Response>;

const DAEMONSET = "/apis/apps/v1/namespaces/kube-system/daemonsets/weave-net";
const NODE = "/api/v1/nodes/n1";
const metadata = { name: "x", resourceVersion: "7" };
const there = () => Response.json({ metadata });
const status = (code: number) => () => Response.json({ code, message: "no" }, { status: code });

let answers: Record<string, Answer>;
const server = Bun.serve({
  hostname: "127.0.0.1",
  port: 0,
  fetch: (request) => (answers[new URL(request.url).pathname] ?? there)(request),
});
const client = new KubeClient({
  server: `http://127.0.0.1:${server.port}`,
  credentials: () => ({ headers: {}, tls: {} }),
});
beforeEach(() => {
  answers = {};
});
afterAll(() => server.stop(true));

describe("a node leaves", () => {
  const deleting = () =>
    Response.json({ metadata: { ...metadata, deletionTimestamp: "2026-01-01T00:00:00Z" } });
  test.each<[string, Record<string, Answer>, boolean]>([
    ["not while both are there", {}, false],
    ["when the DaemonSet is deleted", { [DAEMONSET]: status(404) }, true],
    ["when it is being deleted, its pods first", { [DAEMONSET]: deleting }, true],
    ["when the node is deleted", { [NODE]: status(404) }, true],
    ["not when nobody may say", { [DAEMONSET]: status(403), [NODE]: status(500) }, false],
    ["not when one of the two is refused", { [DAEMONSET]: status(403) }, false],
    ["when its roles are deleted first", { [DAEMONSET]: status(403), [NODE]: status(403) }, true],
    ["when its service account is", { [DAEMONSET]: status(401), [NODE]: status(401) }, true],
    ["not when the answer makes no sense", { [DAEMONSET]: () => Response.json([]) }, false],
  ])("%s", async (_what, now, leaves) => {
    const belongings = await findBelongings(client, "n1");
    expect(belongings).toEqual([DAEMONSET, NODE]);
    answers = now;
    expect(await isLeaving(client, belongings, 60_000)).toBe(leaves);
  });

  test("not when there is no answer in time", async () => {
    const belongings = await findBelongings(client, "n1");
    answers = { [DAEMONSET]: () => new Promise(() => {}) };
    expect(await isLeaving(client, belongings, 200)).toBe(false);
  });

  test("not for want of a right that there never was", async () => {
    answers = { [DAEMONSET]: status(403), [NODE]: status(403) };
    const belongings = await findBelongings(client, "n1");
    expect(belongings).toEqual([]);
    expect(await isLeaving(client, belongings, 5_000)).toBe(false);
  });

  test("not for want of a DaemonSet that there never was", async () => {
    answers = { [DAEMONSET]: status(404) };
    const belongings = await findBelongings(client, "n1");
    expect(belongings).toEqual([NODE]);
    expect(await isLeaving(client, belongings, 5_000)).toBe(false);
  });
});

describe("the startup taint", () => {
  const node = (version: string, ...keys: string[]) =>
    Response.json({
      metadata: { name: "n1", resourceVersion: version },
      spec: { taints: keys.map((key) => ({ key, effect: "NoExecute" })) },
    });

  test("is removed alone; a node that changes meanwhile is read again", async () => {
    const patches: unknown[] = [];
    answers = {
      async [NODE](request) {
        if (request.method === "GET")
          return node(String(patches.length), "a", "weave.network/not-ready", "b");
        patches.push(await request.json());
        return patches.length === 1 ? status(409)() : there();
      },
    };
    expect(await removeStartupTaint(client, "n1")).toBe(true);
    const taints = ["a", "b"].map((key) => ({ key, effect: "NoExecute" }));
    expect(patches).toEqual([
      { metadata: { resourceVersion: "0" }, spec: { taints } },
      { metadata: { resourceVersion: "1" }, spec: { taints } },
    ]);
  });

  test("is given up for now where the node keeps changing", async () => {
    let patches = 0;
    answers = {
      [NODE](request) {
        if (request.method === "GET") return node("1", "weave.network/not-ready");
        patches++;
        return status(409)();
      },
    };
    await expect(removeStartupTaint(client, "n1")).rejects.toMatchObject({ status: 409 });
    expect(patches).toBe(5);
  });

  test("needs a right, which the error names the option for; a node without it needs nothing", async () => {
    answers = {
      [NODE]: (request) => (request.method === "GET" ? node("1", "weave.network/not-ready") : status(403)()),
    };
    await expect(removeStartupTaint(client, "n1")).rejects.toThrow(
      "node n1 has taint weave.network/not-ready, and the router may not remove it; apply 'weave manifest kubernetes --startup-taint'",
    );
    answers = { [NODE]: (request) => (request.method === "GET" ? node("1", "a") : status(403)()) };
    expect(await removeStartupTaint(client, "n1")).toBe(false);
    answers = { [NODE]: () => Response.json({ metadata, spec: null }) };
    expect(await removeStartupTaint(client, "n1")).toBe(false);
  });
});
