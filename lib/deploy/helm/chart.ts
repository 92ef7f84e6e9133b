// The Helm chart, derived from the manifest: https://helm.sh/docs/topics/charts/
import { VERSION } from "../../version.ts";
import type { AddonSettings } from "../addon.ts";
import { DISTRIBUTIONS } from "../distributions.ts";
import { kubernetesManifest } from "../kubernetes.ts";
import { yamlText } from "../yaml.ts";
import { probeManifest } from "./probe.ts";
import { templateText } from "./template.ts";
import { type ChartValue, VALUES } from "./values.ts";

const NOTES = `weave runs on each node once its pod is ready:

  kubectl -n kube-system rollout status daemonset/weave-net
  kubectl -n kube-system exec ds/weave-net -c weave -- /home/weave/weave --local status
`;

/** Return the files of the chart by their paths in it; values default to `settings`. */
export function helmChart(settings: AddonSettings): Readonly<Record<string, string>> {
  const minor = settings["k8s-version"];
  return {
    "Chart.yaml": yamlText({
      apiVersion: "v2",
      name: "weave",
      description: "Container network of Kubernetes, with network policies",
      type: "application",
      version: VERSION,
      appVersion: VERSION,
      kubeVersion: `>=1.${Math.min(minor, OLDEST)}.0-0`,
    }),
    "values.yaml": valuesText(settings),
    "values.schema.json": `${JSON.stringify(schema(), undefined, 2)}\n`,
    "templates/weave-net.yaml": templateText(probeManifest(kubernetesManifest, settings)),
    "templates/NOTES.txt": NOTES,
  };
}

/** The oldest minor version of Kubernetes that has all that the current manifest uses. */
const OLDEST = 18;

function valuesText(settings: AddonSettings): string {
  const entries = Object.entries(VALUES).map(([name, value]) => {
    const text = yamlText({ [name]: defaultOf(settings, value) });
    return `# ${value.about}\n${text}`;
  });
  return `# Objects are made in kube-system, whatever the release's namespace.\n\n${entries.join("\n")}`;
}

/** What a value is unless it is set: that of the settings the chart was made with. */
function defaultOf(settings: AddonSettings, value: ChartValue): unknown {
  const given = settings[value.parameter];
  if (value.kind === "folder") return given === DISTRIBUTIONS[settings.distribution][value.of] ? "" : given;
  if (value.kind !== "pair") return given ?? "";
  return Array.isArray(given) ? Object.fromEntries(value.names.map((name, i) => [name, given[i]])) : {};
}

const TEXT = { type: "string" };

/** Return the JSON schema of a value. */
function typeOf(value: ChartValue): object {
  switch (value.kind) {
    case "text":
    case "folder":
      return TEXT;
    case "list":
      return { type: "array", items: TEXT };
    case "flag":
      return { type: "boolean" };
    case "choice":
      return { enum: value.of };
    case "number":
      return { type: ["integer", "string"], pattern: "^[1-9][0-9]?[0-9]?%$", minimum: 1 };
    case "map":
      return { type: "object", additionalProperties: { type: ["string", "number", "boolean"] } };
    case "pair":
      return {
        type: "object",
        properties: Object.fromEntries(value.names.map((name) => [name, TEXT])),
        additionalProperties: false,
        oneOf: [{ required: value.names }, { maxProperties: 0 }],
      };
  }
}

function schema(): object {
  const values = Object.entries(VALUES).map(([name, value]) => [
    name,
    { description: value.about, ...typeOf(value) },
  ]);
  return {
    $schema: "http://json-schema.org/draft-07/schema#",
    type: "object",
    additionalProperties: false,
    // Helm passes "global" to charts that are part of others.
    properties: { ...Object.fromEntries(values), global: { type: "object" } },
  };
}
