// A node of a cluster: whether it leaves for good, and the taint that keeps pods away until its network is there.
import { describe, expect, test } from "bun:test";
import { findBelongings, isLeaving } from "../../lib/cluster/leaving.ts";
import { removeStartupTaint, STARTUP_TAINT } from "../../lib/cluster/startuptaint.ts";
import { CONFLICT, type KubeClient, KubeError, NOT_FOUND } from "../../lib/kube/client.ts";

const DAEMONSET = "/apis/apps/v1/namespaces/kube-system/daemonsets/weave-net";
const NODE = "/api/v1/nodes/a%2Fb";

/** An API server with these objects, or errors in their place; everything else is not found. */
function server(objects: Record<string, unknown>) {
  const client = {
    async get(path: string) {
      const object = path in objects ? objects[path] : new KubeError("not found", NOT_FOUND);
      if (object instanceof Error) throw object;
      return object;
    },
  };
  return client as unknown as KubeClient;
}
const THERE = { metadata: {} };
const DELETED = { metadata: { deletionTimestamp: "2026-01-01T00:00:00Z" } };

describe("a node stays as long as what it belonged to", () => {
  test("which is what exists when it joins", async () => {
    expect(await findBelongings(server({ [DAEMONSET]: THERE, [NODE]: THERE }), "a/b")).toEqual([
      DAEMONSET,
      NODE,
    ]);
    expect(await findBelongings(server({ [NODE]: THERE }), "a/b")).toEqual([NODE]);
    expect(await findBelongings(server({ [DAEMONSET]: DELETED, [NODE]: THERE }), "a/b")).toEqual([NODE]);
    // What cannot be read may exist.
    expect(await findBelongings(server({ [DAEMONSET]: new KubeError("busy", 500) }), "a/b")).toEqual([
      DAEMONSET,
    ]);
    // What may not be seen from the start says nothing by that later.
    expect(await findBelongings(server({ [DAEMONSET]: new KubeError("forbidden", 403) }), "a/b")).toEqual([]);
  });

  test.each<[string, Record<string, unknown>, boolean]>([
    ["both are there", { [DAEMONSET]: THERE, [NODE]: THERE }, false],
    ["the node is being deleted", { [DAEMONSET]: THERE, [NODE]: DELETED }, true],
    ["the DaemonSet is gone", { [NODE]: THERE }, true],
    [
      "the API server refuses",
      { [DAEMONSET]: new KubeError("no", 403), [NODE]: new KubeError("no", 500) },
      false,
    ],
    ["the API server is away", { [DAEMONSET]: new Error("ECONNREFUSED"), [NODE]: THERE }, false],
    ["the answer is none", { [DAEMONSET]: "x", [NODE]: { metadata: { deletionTimestamp: null } } }, false],
  ])("leaving or not: %s", async (_what, objects, leaving) => {
    expect(await isLeaving(server(objects), [DAEMONSET, NODE], 1_000)).toBe(leaving);
  });

  test("it stays where there was nothing, or no answer comes in time", async () => {
    expect(await isLeaving(server({}), [], 1_000)).toBe(false);
    const silent = { get: () => new Promise(() => {}) } as unknown as KubeClient;
    expect(await isLeaving(silent, [NODE], 5)).toBe(false);
  });
});

describe("the startup taint", () => {
  const OTHER = { key: "other", effect: "NoSchedule" };
  const OURS = { key: STARTUP_TAINT, effect: "NoSchedule", value: "x" };

  /** A node with these taints; each write fails with the next status, 0 for none. */
  function node(taints: unknown, ...statuses: number[]) {
    const writes: unknown[] = [];
    let version = 1;
    const client = {
      get: async () => ({ metadata: { resourceVersion: String(version++) }, spec: { taints } }),
      async write(how: string, path: string, body: unknown) {
        writes.push([how, path, body]);
        const status = statuses.shift() ?? 0;
        if (status !== 0) throw new KubeError("no", status);
      },
    };
    return { client: client as unknown as KubeClient, writes };
  }
  const written = (version: string, taints: unknown) => [
    ...["merge", "/api/v1/nodes/n1"],
    { metadata: { resourceVersion: version }, spec: { taints } },
  ];

  test("is removed whatever its effect, and others stay", async () => {
    const { client, writes } = node([OTHER, OURS, { ...OURS, effect: "NoExecute" }]);
    expect(await removeStartupTaint(client, "n1")).toBe(true);
    expect(writes).toEqual([written("1", [OTHER])]);
  });

  test.each([[[OTHER]], [[]], [null], [undefined]])("is not there among %p", async (taints) => {
    const { client, writes } = node(taints);
    expect([await removeStartupTaint(client, "n1"), writes]).toEqual([false, []]);
  });

  test("is removed from the node as it is by then, where that has changed", async () => {
    const { client, writes } = node([OURS], CONFLICT, CONFLICT);
    expect(await removeStartupTaint(client, "n1")).toBe(true);
    expect(writes).toEqual([written("1", []), written("2", []), written("3", [])]);
  });

  test("that may not be removed is said with the remedy; another refusal as it is", async () => {
    const forbidden = removeStartupTaint(node([OURS], 403).client, "n1");
    await expect(forbidden).rejects.toThrow(
      "node n1 has taint weave.network/not-ready, and the router may not remove it",
    );
    const failing = node([OURS], 500);
    await expect(removeStartupTaint(failing.client, "n1")).rejects.toMatchObject({ status: 500 });
    expect(failing.writes.length).toBe(1);
  });
});
