// Options that the commands of weave-npc share.
export const LEGACY = {
  "use-legacy-netpol": {
    type: "boolean",
    description: "Interpret policies as before Kubernetes 1.7: an annotation isolates a namespace",
  },
} as const;

export const MULTICAST = {
  "allow-mcast": { type: "boolean", default: true, description: "Allow all multicast traffic" },
} as const;

export const SNAPSHOT = {
  snapshot: {
    type: "string",
    description: "Namespaces, Pods and NetworkPolicies, as 'kubectl get -o json' prints them",
    valueHint: "FILE",
    completes: "files",
  },
} as const;
