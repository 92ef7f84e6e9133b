// Monitoring of a cluster: what the Prometheus operator and Grafana's sidecar take.
import { alertRules } from "./alerts.ts";
import { dashboard } from "./dashboard.ts";

/** Of the addon (kubernetes.ts). */
const NAMESPACE = "kube-system";
const POD_LABELS = { name: "weave-net" };

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

/** Return the objects; `runbooks` is where the help topics are served. */
export function monitoringManifest(runbooks: string | undefined): object[] {
  return [
    {
      apiVersion: "monitoring.coreos.com/v1",
      kind: "PodMonitor",
      metadata: metadata("weave-net"),
      spec: {
        selector: { matchLabels: POD_LABELS },
        // The pods name no ports: their network is that of the node.
        podMetricsEndpoints: SCRAPED.map(({ job, container, port }) => ({
          path: "/metrics",
          interval: "30s",
          relabelings: [
            { action: "keep", sourceLabels: ["__meta_kubernetes_pod_container_name"], regex: container },
            {
              sourceLabels: ["__meta_kubernetes_pod_ip"],
              targetLabel: "__address__",
              replacement: `$1:${port}`,
            },
            { sourceLabels: ["__meta_kubernetes_pod_node_name"], targetLabel: "instance" },
            { targetLabel: "job", replacement: job },
          ],
        })),
      },
    },
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
