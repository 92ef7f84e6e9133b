// The manifest of the Kubernetes addon, as data: one pod a node, that installs the CNI plugin, runs the router and
// enforces network policies. Names are the original's, so that applying it to a cluster that has the original replaces
// that, node by node. One function of named parameters (addon.ts) for all forms that it is printed in.
import type { AddonSettings } from "./addon.ts";
import { access } from "./kubernetes/access.ts";
import { has, labels, metadata } from "./kubernetes/features.ts";
import { podSpec } from "./kubernetes/pod.ts";

/** Return the objects of the addon in the order of creation. */
export function kubernetesManifest(settings: AddonSettings): object[] {
  const minor = settings["k8s-version"];
  return [
    ...access(settings),
    {
      apiVersion: has(minor, "appsV1") ? "apps/v1" : "extensions/v1beta1",
      kind: "DaemonSet",
      metadata,
      spec: {
        minReadySeconds: 5,
        selector: { matchLabels: labels },
        // Flows go on while a router is replaced; a node has room for one, so that none is added first (maxSurge).
        updateStrategy: {
          type: "RollingUpdate",
          rollingUpdate: { maxUnavailable: settings["max-unavailable"] },
        },
        template: { metadata: { labels }, spec: podSpec(settings) },
      },
    },
  ];
}
