// What the addon's manifest allows covers every request that its pods make, and nothing on other ConfigMaps.
import { afterAll, expect, test } from "bun:test";
import { SimulatedClock } from "../../lib/clock/simulated.ts";
import { configMapAnnotations } from "../../lib/cluster/annotations.ts";
import { findBelongings, isLeaving } from "../../lib/cluster/leaving.ts";
import { removeStartupTaint, STARTUP_TAINT } from "../../lib/cluster/startuptaint.ts";
import { addonSettings } from "../../lib/deploy/addon.ts";
import { kubernetesManifest } from "../../lib/deploy/kubernetes.ts";
import { KubeClient } from "../../lib/kube/client.ts";
import { listNodes, NODES, networkAvailable } from "../../lib/kube/nodes.ts";
import { COLLECTIONS } from "../../lib/npc/controller.ts";
import { EventWriter } from "../../lib/npc/events.ts";
import { readObject } from "../../lib/npc/read.ts";

interface Rule {
  readonly apiGroups: readonly string[];
  readonly resources: readonly string[];
  readonly resourceNames?: readonly string[];
  readonly verbs: readonly string[];
}

const rulesOf = (plain: Record<string, unknown>) =>
  (kubernetesManifest(addonSettings({ plain, env: {}, selinux: {} })) as { rules?: Rule[] }[]).flatMap(
    ({ rules }) => rules ?? [],
  );
const RULES = rulesOf({});

/** Whether the rules allow a request, as the API server's RBAC authorizer decides. */
function allowed(method: string, url: URL, granted = RULES): boolean {
  const parts = url.pathname.split("/").slice(1);
  const group = parts[0] === "api" ? "" : (parts[1] ?? "");
  const rest = parts.slice(parts[0] === "api" ? 2 : 3);
  const [resource = "", name, subresource] =
    rest[0] === "namespaces" && rest.length > 2 ? rest.slice(2) : rest;
  const reads = url.searchParams.has("watch") ? "watch" : name === undefined ? "list" : "get";
  const verb = { POST: "create", PUT: "update", PATCH: "patch" }[method] ?? reads;
  const wanted = subresource === undefined ? resource : `${resource}/${subresource}`;
  return granted.some(
    ({ apiGroups, resources, resourceNames, verbs }) =>
      apiGroups.includes(group) &&
      resources.includes(wanted) &&
      verbs.includes(verb) &&
      (resourceNames === undefined || resourceNames.includes(name ?? "")),
  );
}

const requests: string[] = [];
const refused: string[] = [];
let missing = true;
const server = Bun.serve({
  hostname: "127.0.0.1",
  port: 0,
  async fetch(request) {
    const url = new URL(request.url);
    requests.push(request.method);
    if (!allowed(request.method, url)) refused.push(`${request.method} ${url.pathname}${url.search}`);
    if (url.pathname.endsWith("/configmaps/weave-net") && request.method === "GET" && missing) {
      missing = false;
      return Response.json({ code: 404 }, { status: 404 });
    }
    if (url.searchParams.has("watch")) return new Response("");
    const metadata = { name: "x", resourceVersion: "1" };
    if (url.pathname === `${NODES}/tainted` && request.method === "GET")
      return Response.json({ metadata, spec: { taints: [{ key: STARTUP_TAINT, effect: "NoExecute" }] } });
    return Response.json(request.method === "GET" ? { metadata, items: [] } : await request.json());
  },
});
afterAll(() => server.stop(true));

test("each request of the router and of weave-npc is allowed", async () => {
  const url = `http://127.0.0.1:${server.port}`;
  const client = new KubeClient({ server: url, credentials: () => ({ headers: {}, tls: {} }) });
  const shared = configMapAnnotations(client);
  await shared.write(await shared.read());
  await shared.read();
  await listNodes(client);
  await client.write("patch", `${NODES}/n1/status`, networkAvailable("2026-01-01T00:00:00Z"));
  const belongings = await findBelongings(client, "n1");
  expect(belongings).toHaveLength(2);
  expect(await isLeaving(client, belongings, 5_000)).toBe(false);
  expect(await removeStartupTaint(client, "n1")).toBe(false);
  for (const path of [NODES, ...Object.values(COLLECTIONS)]) {
    await client.list(path, new AbortController().signal);
    for await (const _ of client.watch(path, "1", 1, new AbortController().signal)) expect(path).toBe("");
  }
  const failures: string[] = [];
  const events = new EventWriter(client, "n1", new SimulatedClock(), (text) => failures.push(text));
  const pod = { kind: "Pod", metadata: { namespace: "x", name: "a", uid: "1" }, spec: { containers: [] } };
  events.warn(readObject("Pod", pod), "Unreadable", "text");
  while (requests.filter((method) => method === "POST").length < 2) await Bun.sleep(5);
  expect([refused, failures]).toEqual([[], []]);
  expect(new Set(requests)).toEqual(new Set(["GET", "POST", "PUT", "PATCH"]));
});

test("other ConfigMaps are not", () => {
  const other = new URL("http://x/api/v1/namespaces/kube-system/configmaps/other");
  expect([allowed("GET", other), allowed("PUT", other)]).toEqual([false, false]);
});

test("the right to change nodes is given with --startup-taint alone", async () => {
  const node = new URL("http://x/api/v1/nodes/n1");
  expect(allowed("PATCH", node)).toBe(false);
  expect(allowed("PATCH", node, rulesOf({ "startup-taint": true }))).toBe(true);
  const client = new KubeClient({
    server: `http://127.0.0.1:${server.port}`,
    credentials: () => ({ headers: {}, tls: {} }),
  });
  await removeStartupTaint(client, "tainted");
  expect(refused).toEqual(["PATCH /api/v1/nodes/tainted"]);
});
