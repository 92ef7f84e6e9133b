// What the addon's containers may do on their node.
import type { AddonSettings } from "../addon.ts";
import { DISTRIBUTIONS, type Distribution } from "../distributions.ts";
import type { KubeMinor } from "../version.ts";
import { has } from "./features.ts";

/** Capabilities of the containers; SYS_ADMIN is for setns(2) into pods' namespaces, and includes those for eBPF. */
const CAPABILITIES = {
  // To write into folders of other users, and to load br_netfilter.
  init: ["DAC_OVERRIDE", "NET_ADMIN", "SYS_MODULE"],
  // The first to write the CNI configuration into such a folder.
  router: ["DAC_OVERRIDE", "NET_ADMIN", "NET_BIND_SERVICE", "NET_RAW", "SYS_ADMIN", "SYS_RESOURCE"],
  npc: ["NET_ADMIN", "NET_RAW"],
} as const;

/** The runtime's default seccomp profile lets through what the capabilities allow. */
const context = (minor: KubeMinor, add: readonly string[]) => ({
  // The API server refuses false beside SYS_ADMIN.
  ...(has(minor, "escalation") && !add.includes("SYS_ADMIN") && { allowPrivilegeEscalation: false }),
  readOnlyRootFilesystem: true,
  capabilities: { drop: ["ALL"], add },
  ...(has(minor, "seccompProfile") && { seccompProfile: { type: "RuntimeDefault" } }),
});

/** Return the security context of a container. */
export function confined(
  { distribution, "k8s-version": minor }: AddonSettings,
  container: keyof typeof CAPABILITIES,
): object {
  const { noModules }: Distribution = DISTRIBUTIONS[distribution];
  const capabilities = CAPABILITIES[container].filter((name) => !noModules || name !== "SYS_MODULE");
  return context(minor, capabilities);
}
