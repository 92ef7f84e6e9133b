// Options that the commands of weave-npc share.
import { fileConfig, inClusterConfig, type KubeConfig } from "../../../lib/kube/config.ts";
import type { Arguments } from "../../main.ts";

export const LEGACY = {
  "use-legacy-netpol": {
    type: "boolean",
    description:
      "semantics as before Kubernetes 1.7: an annotation isolates a namespace, policies only allow",
  },
} as const;

export const MULTICAST = {
  "allow-mcast": { type: "boolean", default: true, description: "allow all multicast traffic" },
} as const;

export const SNAPSHOT = {
  snapshot: {
    type: "string",
    description: "Namespaces, Pods and NetworkPolicies, as kubectl get -o json prints them",
    valueHint: "FILE",
  },
} as const;

export const KUBECONFIG = {
  kubeconfig: {
    type: "string",
    description: "how to reach the API server ($KUBECONFIG; else as a pod does)",
    valueHint: "FILE",
  },
} as const;

/** Where the API server is, by --kubeconfig, $KUBECONFIG or the service account. Throws KubeConfigError. */
export function kubeConfig(options: Arguments["options"]): KubeConfig {
  const file = options["kubeconfig"] ?? process.env["KUBECONFIG"];
  return typeof file === "string" && file !== "" ? fileConfig(file) : inClusterConfig(process.env);
}
