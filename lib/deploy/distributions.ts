// Distributions of Kubernetes: where their runtimes look for plugins and configurations, and what else they need. Sources: the
// documentation of each, and the presets of other networks for it (the Tigera operator, Cilium's and Istio's Helm values).

export interface Distribution {
  /** Folder of CNI plugins on the nodes. */
  readonly bin: string;
  /** Folder of CNI configurations on the nodes. */
  readonly conf: string;
  /** Workloads may not load kernel modules: the capability SYS_MODULE is refused. */
  readonly noModules?: boolean;
  /** ClusterRole that lets a service account use a security context constraint. */
  readonly sccRole?: string;
}

const STANDARD = { bin: "/opt/cni/bin", conf: "/etc/cni/net.d" };

export const DISTRIBUTIONS = {
  aks: STANDARD,
  eks: STANDARD,
  gke: { ...STANDARD, bin: "/home/kubernetes/bin" },
  // Since the releases of October 2024; before, the folder of plugins had the hash of the release in its name.
  k3s: { bin: "/var/lib/rancher/k3s/data/cni", conf: "/var/lib/rancher/k3s/agent/etc/cni/net.d" },
  kubeadm: STANDARD,
  microk8s: {
    bin: "/var/snap/microk8s/current/opt/cni/bin",
    conf: "/var/snap/microk8s/current/args/cni-network",
  },
  // Multus reads the default network's configuration there.
  openshift: {
    bin: "/var/lib/cni/bin",
    conf: "/var/run/multus/cni/net.d",
    sccRole: "system:openshift:scc:privileged",
  },
  rke2: STANDARD,
  talos: { ...STANDARD, noModules: true },
} as const satisfies Record<string, Distribution>;

type DistributionName = keyof typeof DISTRIBUTIONS;
export const DISTRIBUTION_NAMES = Object.keys(DISTRIBUTIONS) as DistributionName[];
