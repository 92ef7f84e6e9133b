// What a version of Kubernetes has, and the names of the addon's objects.
import type { KubeMinor } from "../version.ts";

export const NAME = "weave-net";
export const NAMESPACE = "kube-system";
export const labels = { name: NAME };
export const metadata = { name: NAME, namespace: NAMESPACE, labels };

/** The first minor version with each feature. */
const HAS = {
  escalation: 8,
  rbacV1: 8,
  appsV1: 9,
  hostPathType: 8,
  mountPropagation: 10,
  systemPriority: 11,
  serviceLinks: 13,
  osLabel: 14,
  startupProbe: 18,
  seccompProfile: 19,
  cni1: 24,
} as const;

/** Whether a version has a feature. */
export const has = (minor: KubeMinor, what: keyof typeof HAS) => minor >= HAS[what];
