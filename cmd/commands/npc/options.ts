// Options that the commands of weave-npc share.
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
