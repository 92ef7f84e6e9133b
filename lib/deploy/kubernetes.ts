// The manifest of the Kubernetes addon, as data: one pod a node, that installs the CNI plugin, runs the router and
// enforces network policies. Names are the original's, so that applying it to a cluster that has the original replaces
// that, node by node.
import type { AddonSettings } from "./addon.ts";
import type { KubeMinor } from "./version.ts";

const NAME = "weave-net";
const NAMESPACE = "kube-system";
const labels = { name: NAME };
const metadata = { name: NAME, namespace: NAMESPACE, labels };
const clusterWide = { name: NAME, labels };

/** The first minor version with each feature. */
const HAS = {
  rbacV1: 8,
  appsV1: 9,
  hostPathType: 8,
  mountPropagation: 10,
  systemPriority: 11,
  serviceLinks: 13,
  startupProbe: 18,
} as const;

const has = (minor: KubeMinor, what: keyof typeof HAS) => minor >= HAS[what];

const READ = ["get", "list", "watch"];

function access(minor: KubeMinor): object[] {
  const apiVersion = `rbac.authorization.k8s.io/${has(minor, "rbacV1") ? "v1" : "v1beta1"}`;
  const role = (kind: string) => ({ apiGroup: "rbac.authorization.k8s.io", kind, name: NAME });
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
      ],
    },
    { apiVersion, kind: "RoleBinding", metadata, roleRef: role("Role"), subjects },
  ];
}

/** A host folder, created if absent, and its mount in containers. */
interface Mount {
  readonly name: string;
  readonly host: string;
  readonly at: string;
  readonly readOnly?: boolean;
  /** Propagate later mounts of the host. */
  readonly follow?: boolean;
}

const mounts = (settings: AddonSettings) =>
  ({
    cniBin: { name: "cni-bin", host: settings["cni-bin-dir"], at: "/host/opt/cni/bin" },
    cniConf: { name: "cni-conf", host: "/etc/cni/net.d", at: "/host/etc/cni/net.d" },
    modules: { name: "lib-modules", host: "/lib/modules", at: "/lib/modules", readOnly: true },
    state: { name: "weavedb", host: "/var/lib/weave", at: "/var/lib/weave" },
    // The router's socket, for the plugin, which runs on the host.
    run: { name: "run-weave", host: "/run/weave", at: "/run/weave" },
    // Network namespaces of pods.
    netns: { name: "run-netns", host: "/run/netns", at: "/run/netns", readOnly: true, follow: true },
  }) satisfies Record<string, Mount>;

const volume = (minor: KubeMinor, { name, host }: Mount) => ({
  name,
  hostPath: { path: host, ...(has(minor, "hostPathType") && { type: "DirectoryOrCreate" }) },
});

const volumeMount = (minor: KubeMinor, { name, at, readOnly, follow }: Mount) => ({
  name,
  mountPath: at,
  ...(readOnly && { readOnly }),
  ...(follow && has(minor, "mountPropagation") && { mountPropagation: "HostToContainer" }),
});

const NODE_NAME = {
  name: "HOSTNAME",
  valueFrom: { fieldRef: { apiVersion: "v1", fieldPath: "spec.nodeName" } },
};

function environment(settings: AddonSettings, secret = settings["password-secret"]): object[] {
  const peers = settings["known-peers"];
  const given = Object.entries({
    ...(peers.length > 0 && { KUBE_PEERS: peers.join(" ") }),
    ...(settings["disable-npc"] && { EXPECT_NPC: "0" }),
    ...settings.env,
  });
  return [
    NODE_NAME,
    ...given.map(([name, value]) => ({ name, value })),
    ...(secret
      ? [{ name: "WEAVE_PASSWORD", valueFrom: { secretKeyRef: { name: secret, key: secret } } }]
      : []),
  ];
}

/** An HTTP probe of the router, or of weave-npc, on the node. */
const ask = (path: string, port = 6784) => ({ httpGet: { host: "127.0.0.1", path, port } });

function probes(minor: KubeMinor): object {
  const readinessProbe = { ...ask("/readyz"), periodSeconds: 5 };
  // Without a startup probe, a router that waits for the API server would be killed.
  if (!has(minor, "startupProbe")) return { readinessProbe };
  return {
    readinessProbe,
    livenessProbe: { ...ask("/healthz"), periodSeconds: 10, timeoutSeconds: 5, failureThreshold: 6 },
    startupProbe: { ...ask("/healthz"), periodSeconds: 2, failureThreshold: 900 },
  };
}

function resources({ guaranteed }: AddonSettings): object {
  if (!guaranteed) return { requests: { cpu: "10m" } };
  const [cpu, memory] = guaranteed;
  return { requests: { cpu, memory }, limits: { cpu, memory } };
}

function pod(settings: AddonSettings, minor: KubeMinor): object {
  const { cniBin, cniConf, modules, state, run, netns } = mounts(settings);
  const image = { image: settings.image, imagePullPolicy: "IfNotPresent" };
  const trusted = settings["trusted-subnets"];
  const container = (name: string, command: string[], used: Mount[], rest: object) => ({
    name,
    ...image,
    command,
    resources: resources(settings),
    ...rest,
    ...(used.length > 0 && { volumeMounts: used.map((mount) => volumeMount(minor, mount)) }),
  });
  const setup = ["--cni-bin-dir", cniBin.at, "--cni-conf-dir", cniConf.at];
  const npc = ["/home/weave/weave-npc", ...(settings["use-legacy-netpol"] ? ["--use-legacy-netpol"] : [])];
  return {
    hostNetwork: true,
    hostPID: false,
    dnsPolicy: "Default",
    restartPolicy: "Always",
    serviceAccountName: NAME,
    // A Service named "weave" would set WEAVE_ variables.
    ...(has(minor, "serviceLinks") && { enableServiceLinks: false }),
    ...(has(minor, "systemPriority") && { priorityClassName: "system-node-critical" }),
    securityContext: { seLinuxOptions: settings["selinux-options"] },
    tolerations: [
      { effect: "NoSchedule", operator: "Exists" },
      { effect: "NoExecute", operator: "Exists" },
    ],
    initContainers: [
      container(
        "weave-init",
        ["/home/weave/weave", "--local", "setup", ...setup],
        [cniBin, cniConf, modules],
        {
          env: environment(settings, ""),
          securityContext: { privileged: true },
        },
      ),
    ],
    containers: [
      container(
        "weave",
        [
          "/home/weave/weave-router",
          "--kubernetes",
          ...(trusted.length > 0 ? [`--trusted-subnets=${trusted.join(",")}`] : []),
        ],
        [state, run, netns],
        { env: environment(settings), securityContext: { privileged: true }, ...probes(minor) },
      ),
      ...(settings["disable-npc"]
        ? []
        : [
            container("weave-npc", npc, [], {
              env: [NODE_NAME],
              securityContext: {
                readOnlyRootFilesystem: true,
                capabilities: { drop: ["ALL"], add: ["NET_ADMIN", "NET_RAW"] },
              },
              readinessProbe: { ...ask("/readyz", 6781), periodSeconds: 5 },
              livenessProbe: { ...ask("/healthz", 6781), periodSeconds: 10, failureThreshold: 6 },
            }),
          ]),
    ],
    volumes: [cniBin, cniConf, modules, state, run, netns].map((mount) => volume(minor, mount)),
  };
}

/** Return the objects of the addon in the order of creation. */
export function kubernetesManifest(settings: AddonSettings): object[] {
  const minor = settings["k8s-version"];
  return [
    ...access(minor),
    {
      apiVersion: has(minor, "appsV1") ? "apps/v1" : "extensions/v1beta1",
      kind: "DaemonSet",
      metadata,
      spec: {
        // Update node by node.
        minReadySeconds: 5,
        selector: { matchLabels: labels },
        updateStrategy: { type: "RollingUpdate" },
        template: { metadata: { labels }, spec: pod(settings, minor) },
      },
    },
  ];
}
