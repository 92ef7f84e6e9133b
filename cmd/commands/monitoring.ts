// weave manifest monitoring: scraping, alerts and a dashboard, for a cluster or for Prometheus and Grafana alone.
import { alertRules } from "../../lib/deploy/monitoring/alerts.ts";
import { dashboard } from "../../lib/deploy/monitoring/dashboard.ts";
import { monitoringManifest, SCRAPES } from "../../lib/deploy/monitoring/manifest.ts";
import { manifestText, yamlText } from "../../lib/deploy/yaml.ts";
import { suggestion } from "../../lib/help/nearest.ts";
import { type Command, UsageError } from "../arguments.ts";
import { printJson, write } from "../output/output.ts";

const PARTS = ["dashboard", "rules"];

export const monitoring: Command = {
  name: "manifest monitoring",
  group: "Kubernetes and Mesos",
  description: "Print a dashboard, alerts and scraping for Prometheus",
  positionals: "[dashboard|rules]",
  positionalsComplete: PARTS,
  details: [
    "Without an argument, prints YAML for a cluster: a PodMonitor (with --scrape services, a headless Service and a ServiceMonitor) and a PrometheusRule for the Prometheus operator, and a ConfigMap for Grafana's sidecar. dashboard prints JSON to import in Grafana, rules a file for rule_files of Prometheus.",
  ],
  options: {
    scrape: {
      type: "string",
      description: "Find the routers as pods, or as endpoints of a Service",
      values: SCRAPES,
      default: "pods",
      valueHint: "WHAT",
    },
    runbooks: {
      type: "string",
      description: "Link alerts to the help topics at this address, one TOPIC.md each",
      defaultText: "alerts name the topic of 'weave help'",
      valueHint: "URL",
    },
  },
  examples: [
    { command: "weave manifest monitoring | kubectl apply -f -", does: "Monitor a cluster" },
    {
      command: "weave manifest monitoring rules > /etc/prometheus/weave.yml",
      does: "Write alerts for Prometheus alone",
    },
    { command: "weave manifest monitoring dashboard > weave.json", does: "Write a dashboard to import" },
  ],
  run({ options, positionals: [part, ...rest] }) {
    if (rest.length > 0 || (part !== undefined && !PARTS.includes(part))) {
      const words = [part, ...rest].join(" ");
      throw new UsageError(`unknown part of monitoring: ${words}${suggestion(words, PARTS)}`);
    }
    const runbooks = typeof options["runbooks"] === "string" ? options["runbooks"] : undefined;
    if (runbooks !== undefined && !/^https?:\/\//.test(runbooks))
      throw new UsageError(`--runbooks "${runbooks}": should be an http or https address`);
    const scrape = SCRAPES.find((each) => each === options["scrape"]);
    if (!scrape)
      throw new UsageError(`--scrape "${String(options["scrape"])}": should be one of ${SCRAPES.join(", ")}`);
    if (part === "dashboard") printJson(dashboard());
    else if (part === "rules") write(yamlText(alertRules(runbooks)));
    else write(manifestText(monitoringManifest(runbooks, scrape)));
  },
};
