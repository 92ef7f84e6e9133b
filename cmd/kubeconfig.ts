// Options for the API server's address and credentials.
import { fileConfig, inClusterConfig, type KubeConfig } from "../lib/kube/config.ts";
import type { Arguments } from "./arguments.ts";

export const KUBECONFIG = {
  kubeconfig: {
    type: "string",
    description: "Use this kubeconfig to reach the API server",
    defaultText: "the service account of the pod",
    valueHint: "FILE",
    env: "KUBECONFIG",
    completes: "files",
  },
} as const;

/** Return how to reach the API server: --kubeconfig, $KUBECONFIG or the service account. Throws KubeConfigError. */
export function kubeConfig(options: Arguments["options"]): KubeConfig {
  const file = options["kubeconfig"] ?? process.env["KUBECONFIG"];
  return typeof file === "string" && file !== "" ? fileConfig(file) : inClusterConfig(process.env);
}
