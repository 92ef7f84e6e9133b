// How the executables that talk to an API server are told where it is.
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

/** Where the API server is, by --kubeconfig, $KUBECONFIG or the service account. Throws KubeConfigError. */
export function kubeConfig(options: Arguments["options"]): KubeConfig {
  const file = options["kubeconfig"] ?? process.env["KUBECONFIG"];
  return typeof file === "string" && file !== "" ? fileConfig(file) : inClusterConfig(process.env);
}
