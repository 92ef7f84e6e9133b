// Monitoring of a cluster: what the Prometheus operator and Grafana's sidecar take.
import { alertRules } from "./alerts.ts";
import { dashboard } from "./dashboard.ts";

/** Of the addon (kubernetes.ts). */
const NAMESPACE = "kube-system";
const POD_LABELS = { name: "weave-net" };
const SERVICE_LABELS = { name: "weave-net-metrics" };

/** What is scraped: containers of the addon's pods, and the port that each serves metrics on. */
const SCRAPED = [
  { job: "weave", container: "weave", port: 6782 },
  { job: "weave-npc", container: "weave-npc", port: 6781 },
] as const;

const metadata = (name: string, labels: Readonly<Record<string, string>> = {}) => ({
  name,
  namespace: NAMESPACE,
  labels: { "app.kubernetes.io/name": "weave-net", ...labels },
});

/** What finds the pods: the pods themselves, or the endpoints of a Service. */
export const SCRAPES = ["pods", "services"] as const;
type Scrape = (typeof SCRAPES)[number];

/** Only one of the two: both would scrape each pod, and count it twice. */
function scraping(scrape: Scrape): object[] {
  const endpoints = SCRAPED.map(({ job, container, port }) => ({
    ...(scrape === "services" && { port: job }),
    path: "/metrics",
    interval: "30s",
    relabelings: [
      ...(scrape === "services"
        ? []
        : [
            // The pods name no ports: their network is that of the node.
            { action: "keep", sourceLabels: ["__meta_kubernetes_pod_container_name"], regex: container },
            {
              sourceLabels: ["__meta_kubernetes_pod_ip"],
              targetLabel: "__address__",
              replacement: `$1:${port}`,
            },
          ]),
      { sourceLabels: ["__meta_kubernetes_pod_node_name"], targetLabel: "instance" },
      { targetLabel: "job", replacement: job },
    ],
  }));
  const apiVersion = "monitoring.coreos.com/v1";
  if (scrape === "pods")
    return [
      {
        apiVersion,
        kind: "PodMonitor",
        metadata: metadata("weave-net"),
        spec: { selector: { matchLabels: POD_LABELS }, podMetricsEndpoints: endpoints },
      },
    ];
  return [
    {
      apiVersion: "v1",
      kind: "Service",
      metadata: metadata("weave-net-metrics", SERVICE_LABELS),
      spec: {
        clusterIP: "None",
        // A router that is not ready has metrics, too.
        publishNotReadyAddresses: true,
        selector: POD_LABELS,
        ports: SCRAPED.map(({ job, port }) => ({ name: job, port, targetPort: port, protocol: "TCP" })),
      },
    },
    {
      apiVersion,
      kind: "ServiceMonitor",
      metadata: metadata("weave-net"),
      spec: { selector: { matchLabels: SERVICE_LABELS }, endpoints },
    },
  ];
}

/** Return the objects; `runbooks` is where the help topics are served. */
export function monitoringManifest(runbooks: string | undefined, scrape: Scrape): object[] {
  return [
    ...scraping(scrape),
    {
      apiVersion: "monitoring.coreos.com/v1",
      kind: "PrometheusRule",
      metadata: metadata("weave-net"),
      spec: alertRules(runbooks),
    },
    {
      apiVersion: "v1",
      kind: "ConfigMap",
      metadata: metadata("weave-net-dashboard", { grafana_dashboard: "1" }),
      data: { "weave.json": JSON.stringify(dashboard(), null, 2) },
    },
  ];
}
