// Metrics, alerts and dashboard with Prometheus itself: what it checks, which alerts fire, and all queries over three routers.
import { afterAll, beforeAll, expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { parseAllDocuments } from "yaml";
import { TOPICS } from "../../lib/help/topics.ts";
import { ApiServer, TOKEN } from "../support/apiserver.ts";
import { DIST, eventually, exec, type Host, Hosts, must } from "../support/hosts.ts";
import { addPod, ping } from "../support/pods.ts";

const LAUNCH = ["launch", "--ipalloc-init=consensus=3", "--status-addr=0.0.0.0:6782"];
const SERVER = "10.99.0.254";

let hosts: Hosts;
let a: Host;
let api: ApiServer;
const children: Bun.Subprocess[] = [];

interface Rule {
  readonly alert: string;
  readonly for: string;
  readonly labels: Record<string, string>;
  readonly annotations: Record<string, string>;
}

const weave = (...args: string[]) => must([join(DIST, "weave"), ...args]);
const rules = async (...args: string[]) => {
  const text = await weave("manifest", "monitoring", "rules", ...args);
  const [document] = parseAllDocuments(text);
  return { text, rules: document?.toJS().groups[0].rules as Rule[] };
};

beforeAll(async () => {
  hosts = await Hosts.create("watch", 3);
  a = hosts.host(1);
  for (const host of hosts.hosts) await host.weave(...LAUNCH, ...(host === a ? [] : [a.ip]));
  await hosts.meshed();
  const one = await addPod(hosts, a, "one");
  for (const other of [2, 3])
    await ping(one, (await addPod(hosts, hosts.host(other), `on-${other}`)).address);
  api = new ApiServer(await hosts.beside(SERVER), 6443, SERVER);
  api.start();
  const [token, config] = [join(hosts.folder, "token"), join(hosts.folder, "kubeconfig")];
  writeFileSync(token, TOKEN);
  writeFileSync(config, api.kubeconfig(token));
  const npc = a.command(join(DIST, "weave-npc"), "--node-name", "a", "--kubeconfig", config);
  children.push(Bun.spawn(npc, { stdout: "ignore", stderr: "ignore" }));
}, 300_000);

afterAll(async () => {
  for (const child of children) {
    child.kill("SIGKILL");
    await child.exited;
  }
  await api?.stop();
  hosts?.disposeSync();
}, 300_000);

const get = (url: string) => a.must(["curl", "-sS", "-m", "10", url]);

/** Said of names that are the original's. */
const ORIGINALS = [
  'weave_ipam_unreachable_count non-histogram and non-summary metrics should not have "_count" suffix',
  'weavenpc_policy_enforcement_errors counter metrics should have "_total" suffix',
];

test("promtool finds nothing wrong with the metrics", async () => {
  const check = async (text: string) => {
    const { stdout, stderr } = await exec(["promtool", "check", "metrics"], { stdin: text });
    return `${stdout}${stderr}`.split("\n").filter(Boolean);
  };
  const router = await get("http://127.0.0.1:6782/metrics");
  for (const name of [
    "weave_peer_bytes_total",
    "weave_cni_seconds_bucket",
    "weave_event_loop_lag_seconds_bucket",
    "weave_kernel_call_seconds_bucket",
    "weave_gossip_bytes_total",
    "weave_dropped_frames_total",
    "weave_api_seconds_bucket",
  ])
    expect(router).toContain(`\n${name}{`);
  expect((await check(router)).filter((line) => !ORIGINALS.includes(line))).toEqual([]);
  const npc = await eventually(
    "weave-npc",
    () => exec(a.command("curl", "-s", "http://127.0.0.1:6781/metrics")),
    ({ code }) => code === 0,
  );
  expect((await check(npc.stdout)).filter((line) => !ORIGINALS.includes(line))).toEqual([]);
}, 300_000);

test("bytes of peers are those of the status", async () => {
  await eventually(
    "each peer has sent a frame",
    () => a.connections(),
    (all) => all.length > 0 && all.every(({ receivedBytes }) => (receivedBytes ?? 0) > 0),
  );
  const metrics = await get("http://127.0.0.1:6782/metrics");
  const status: { peer: { name: string }; receivedBytes: number }[] = JSON.parse(
    await a.weave("status", "connections", "--json"),
  );
  for (const { peer, receivedBytes } of status) {
    const lines = metrics
      .split("\n")
      .filter(
        (line) =>
          line.startsWith("weave_peer_bytes_total{") &&
          line.includes(peer.name) &&
          line.includes('"received"'),
      );
    const sum = lines.reduce((total, line) => total + Number(line.split(" ").at(-1)), 0);
    // Frames may have come between.
    expect(sum).toBeGreaterThan(0);
    expect(sum).toBeLessThanOrEqual(receivedBytes);
  }
});

test("each alert fires, and leads to a section of the manual", async () => {
  const { text, rules: all } = await rules("--runbooks", "https://docs.example/weave/");
  const file = join(hosts.folder, "rules.yml");
  writeFileSync(file, text);
  expect(await must(["promtool", "check", "rules", file])).toContain(`${all.length} rules found`);
  for (const { annotations } of all) {
    const [, topic = "", section] =
      /^https:\/\/docs\.example\/weave\/([\w-]+)\.md#([\w-]+)$/.exec(annotations["runbook_url"] ?? "") ?? [];
    expect(annotations["runbook"]).toBe(`weave help ${topic}`);
    const headings = [...(TOPICS[topic] ?? "").matchAll(/^#+ (.*)$/gm)].map(([, heading = ""]) =>
      heading
        .toLowerCase()
        .replace(/[^\w\s-]/g, "")
        .replace(/\s/g, "-"),
    );
    expect(headings).toContain(section ?? "");
  }
  expect([...Object.keys(FIRING)].sort()).toEqual(all.map(({ alert }) => alert).sort());
  const tests = all.map(({ alert }) => ({
    name: alert,
    interval: "1m",
    input_series: Object.entries(FIRING[alert] ?? {}).map(([series, values]) => ({ series, values })),
    promql_expr_test: [
      {
        expr: `count(ALERTS{alertname="${alert}", alertstate="firing"}) > bool 0`,
        eval_time: "40m",
        exp_samples: [{ labels: "{}", value: 1 }],
      },
      {
        expr: `count(ALERTS{alertname="${alert}", alertstate="firing"} offset 39m)`,
        eval_time: "39m",
        exp_samples: [],
      },
    ],
  }));
  // Two nodes with endpoints, and no controller: the addon was made with --disable-npc.
  const off = ["a", "b"].map((instance) => `up{job="weave-npc", instance="${instance}"}`);
  tests.push({
    name: "no policies",
    interval: "1m",
    input_series: off.map((series) => ({ series, values: "0x60" })),
    promql_expr_test: [{ expr: 'ALERTS{alertname="WeaveNpcDown"}', eval_time: "40m", exp_samples: [] }],
  });
  const testFile = join(hosts.folder, "test.yml");
  writeFileSync(testFile, JSON.stringify({ rule_files: [file], evaluation_interval: "1m", tests }));
  const { stdout, stderr } = await exec(["promtool", "test", "rules", testFile]);
  expect(`${stdout}${stderr}`).toContain("SUCCESS");
}, 300_000);

/** Series by which each alert fires within 40 min: healthy at first. */
const FIRING: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  WeaveRouterDown: { 'up{job="weave", instance="a"}': "1x5 0x60" },
  WeaveRoutersAbsent: { 'up{job="weave", instance="a"}': "1x5" },
  WeaveNotReady: { 'weave_ready{instance="a"}': "1x5 0x60" },
  WeavePeerNotConnected: { 'weave_connections{instance="a", state="failed"}': "0x5 1x60" },
  WeavePeerSilent: { 'weave_peer_silent{instance="a", nickname="b"}': "0x5 1x60" },
  WeaveConnectionsFlap: { 'weave_connection_terminations_total{instance="a"}': "0+2x60" },
  WeaveSlowOverlay: { 'weave_peer_overlay{instance="a", overlay="sleeve"}': "0x5 1x60" },
  WeaveAddressesUnreachable: { 'weave_ipam_unreachable_percentage{instance="a"}': "0x5 30x60" },
  WeaveSplitBrain: {
    'weave_ipam_unreachable_percentage{instance="a"}': "0x60",
    'weave_ipam_unreachable_percentage{instance="b"}': "0x5 50x60",
  },
  WeaveAddressesPending: { 'weave_ipam_pending_allocates{instance="a"}': "0x5 1x60" },
  WeaveAddressRangeNearlyFull: {
    'weave_ips{instance="a", state="local-used"}': "0x5 9x60",
    'weave_max_ips{instance="a"}': "10x70",
  },
  WeaveFramesDropped: {
    'weave_dropped_frames_total{instance="a", where="sleeve", reason="foreign"}': "0+6000x60",
  },
  WeaveCniFails: { 'weave_cni_seconds_count{instance="a", command="ADD", outcome="failure"}': "0+1x60" },
  WeaveCniSlow: {
    'weave_cni_seconds_bucket{instance="a", command="ADD", le="1"}': "0x60",
    'weave_cni_seconds_bucket{instance="a", command="ADD", le="10"}': "0+1x60",
    'weave_cni_seconds_bucket{instance="a", command="ADD", le="+Inf"}': "0+1x60",
  },
  WeaveRepairsFail: { 'weave_reconcile_failures_total{instance="a", resource="links"}': "0+1x60" },
  WeaveRepairFight: { 'weave_reconcile_fights{instance="a"}': "0x5 1x60" },
  // It starts again before anybody has read the number of its errors.
  WeaveUnexpectedErrors: {
    'weave_unexpected_errors_total{instance="a"}': "0x60",
    'weave_crash_reports_total{instance="a"}': "0x30 1x60",
  },
  WeaveNpcDown: { 'up{job="weave-npc", instance="a"}': "1x5 0x60" },
  WeaveNpcNotInSync: { 'weavenpc_in_sync{instance="a"}': "1x5 0x60" },
  WeaveNpcNotFollowing: { 'weavenpc_following{instance="a", kind="pod"}': "1x5 0x60" },
  WeaveNpcErrors: { 'weavenpc_policy_enforcement_errors{instance="a"}': "0+1x60" },
  WeaveNpcUnreadable: { 'weavenpc_unreadable_objects{instance="a", kind="Pod"}': "0x5 1x60" },
  WeaveNpcSlow: {
    'weavenpc_lag_seconds_bucket{instance="a", le="1"}': "0x60",
    'weavenpc_lag_seconds_bucket{instance="a", le="10"}': "0+1x60",
    'weavenpc_lag_seconds_bucket{instance="a", le="+Inf"}': "0+1x60",
  },
};

/** Series that there are only once something of the kind has happened. */
const MAY_BE_EMPTY = /weavenpc_(?:blocked|lag|unreadable)|heartbeats_lost/;

test("Prometheus scrapes three routers, and answers each query of the dashboard", async () => {
  const targets = (port: number, on: readonly Host[]) => [{ targets: on.map(({ ip }) => `${ip}:${port}`) }];
  const config = join(hosts.folder, "prometheus.yml");
  const ruleFile = join(hosts.folder, "scraped.yml");
  writeFileSync(ruleFile, (await rules()).text);
  writeFileSync(
    config,
    JSON.stringify({
      global: { scrape_interval: "1s", evaluation_interval: "1s" },
      rule_files: [ruleFile],
      scrape_configs: [
        { job_name: "weave", static_configs: targets(6782, hosts.hosts) },
        { job_name: "weave-npc", static_configs: targets(6781, [a]) },
      ],
    }),
  );
  const options = [
    "--config.file",
    config,
    "--storage.tsdb.path",
    join(hosts.folder, "tsdb"),
    "--web.listen-address=127.0.0.1:9090",
  ];
  children.push(Bun.spawn(a.command("prometheus", ...options), { stdout: "ignore", stderr: "ignore" }));
  const query = async (expr: string) => {
    const answer = await exec(
      a.command(
        "curl",
        "-s",
        "-m",
        "10",
        "--get",
        "--data-urlencode",
        `query=${expr}`,
        "http://127.0.0.1:9090/api/v1/query",
      ),
    );
    return answer.code === 0 && answer.stdout.startsWith("{")
      ? JSON.parse(answer.stdout)
      : { status: "no answer", data: { result: [] } };
  };
  await eventually(
    "four targets are scraped, some times",
    () => query("sum(count_over_time(up[20s]) > bool 3)"),
    ({ data }) => data.result[0]?.value[1] === "4",
    60_000,
  );
  const { panels, schemaVersion } = JSON.parse(await weave("manifest", "monitoring", "dashboard"));
  expect(schemaVersion).toBeGreaterThanOrEqual(39);
  const exprs = (panels as { targets?: { expr: string }[] }[]).flatMap(({ targets: all = [] }) =>
    all.map(({ expr }) => expr),
  );
  expect(exprs.length).toBeGreaterThan(30);
  for (const expr of exprs) {
    const asked = expr.replaceAll("$instance", ".*").replaceAll("$__rate_interval", "10s");
    // A scrape of a busy machine takes more than its second, and leaves a gap.
    const { status } = await eventually(
      `there is an answer to ${asked}`,
      () => query(asked),
      ({ data }) => data.result.length > 0 || MAY_BE_EMPTY.test(asked),
    );
    expect({ asked, status }).toEqual({ asked, status: "success" });
  }
  // A healthy network is quiet.
  expect((await query('ALERTS{alertstate="firing"}')).data.result).toEqual([]);
}, 300_000);

test("the manifest for a cluster has what the operator and Grafana take", async () => {
  const [document] = parseAllDocuments(await weave("manifest", "monitoring"));
  const { items } = (document?.toJS() ?? {}) as {
    items: { kind: string; spec?: { groups: unknown[] }; data?: Record<string, string> }[];
  };
  expect(items.map(({ kind }) => kind)).toEqual(["PodMonitor", "PrometheusRule", "ConfigMap"]);
  expect(items[1]?.spec?.groups.length).toBe(1);
  expect(JSON.parse(items[2]?.data?.["weave.json"] ?? "").title).toBe("weave");
  const { code, stderr } = await exec([join(DIST, "weave"), "manifest", "monitoring", "dashbord"]);
  expect([code, stderr]).toEqual([2, expect.stringContaining("dashboard")]);
  const both = await exec([join(DIST, "weave"), "manifest", "monitoring", "--scrape", "both"]);
  expect([both.code, both.stderr]).toEqual([2, expect.stringContaining("should be one of pods, services")]);
});

test("a ServiceMonitor finds the ports of the Service that selects the addon's pods", async () => {
  const [document] = parseAllDocuments(await weave("manifest", "monitoring", "--scrape=services"));
  const { items } = document?.toJS() ?? {};
  const [service, monitor, ...more] = items;
  expect(more.map(({ kind }: { kind: string }) => kind)).toEqual(["PrometheusRule", "ConfigMap"]);
  expect(service).toMatchObject({
    kind: "Service",
    metadata: { labels: monitor.spec.selector.matchLabels },
    spec: {
      clusterIP: "None",
      selector: { name: "weave-net" },
      ports: [
        { name: "weave", port: 6782 },
        { name: "weave-npc", port: 6781 },
      ],
    },
  });
  const relabelings = (job: string) => [
    { sourceLabels: ["__meta_kubernetes_pod_node_name"], targetLabel: "instance" },
    { targetLabel: "job", replacement: job },
  ];
  expect(monitor).toMatchObject({
    kind: "ServiceMonitor",
    spec: {
      endpoints: [
        { port: "weave", relabelings: relabelings("weave") },
        { port: "weave-npc", relabelings: relabelings("weave-npc") },
      ],
    },
  });
});
