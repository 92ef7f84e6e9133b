// The addon's service account, and what it may do.
import type { AddonSettings } from "../addon.ts";
import { DISTRIBUTIONS, type Distribution } from "../distributions.ts";
import { has, labels, metadata, NAME, NAMESPACE } from "./features.ts";

const clusterWide = { name: NAME, labels };
const READ = ["get", "list", "watch"];

/** Return the service account, its roles and their bindings. */
export function access(settings: AddonSettings): object[] {
  const { "startup-taint": taint, distribution, "k8s-version": minor } = settings;
  const { sccRole }: Distribution = DISTRIBUTIONS[distribution];
  const apiVersion = `rbac.authorization.k8s.io/${has(minor, "rbacV1") ? "v1" : "v1beta1"}`;
  const role = (kind: string, name = NAME) => ({ apiGroup: "rbac.authorization.k8s.io", kind, name });
  const subjects = [{ kind: "ServiceAccount", name: NAME, namespace: NAMESPACE }];
  return [
    { apiVersion: "v1", kind: "ServiceAccount", metadata },
    {
      apiVersion,
      kind: "ClusterRole",
      metadata: clusterWide,
      rules: [
        { apiGroups: [""], resources: ["pods", "namespaces", "nodes"], verbs: READ },
        { apiGroups: ["networking.k8s.io"], resources: ["networkpolicies"], verbs: READ },
        // weave-npc creates events for unreadable policies.
        { apiGroups: [""], resources: ["events"], verbs: ["create"] },
        { apiGroups: [""], resources: ["nodes/status"], verbs: ["patch", "update"] },
        // To remove the startup taint; RBAC cannot tell a node's own from others.
        ...(taint ? [{ apiGroups: [""], resources: ["nodes"], verbs: ["patch"] }] : []),
      ],
    },
    { apiVersion, kind: "ClusterRoleBinding", metadata: clusterWide, roleRef: role("ClusterRole"), subjects },
    {
      apiVersion,
      kind: "Role",
      metadata,
      rules: [
        { apiGroups: [""], resources: ["configmaps"], resourceNames: [NAME], verbs: ["get", "update"] },
        { apiGroups: [""], resources: ["configmaps"], verbs: ["create"] },
        // A router that ends asks whether it is for good.
        { apiGroups: ["apps"], resources: ["daemonsets"], resourceNames: [NAME], verbs: ["get"] },
      ],
    },
    { apiVersion, kind: "RoleBinding", metadata, roleRef: role("Role"), subjects },
    ...(sccRole === undefined
      ? []
      : [
          {
            apiVersion,
            kind: "RoleBinding",
            metadata: { ...metadata, name: `${NAME}-scc` },
            roleRef: role("ClusterRole", sccRole),
            subjects,
          },
        ]),
  ];
}
