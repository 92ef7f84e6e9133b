// The addon's pods: an init container installs the plugin, then the router and weave-npc run.
import type { AddonSettings } from "../addon.ts";
import type { KubeMinor } from "../version.ts";
import { environment, npcEnvironment } from "./environment.ts";
import { has, NAME } from "./features.ts";
import { type Mount, mounts, volume, volumeMount } from "./mounts.ts";
import { confined } from "./security.ts";

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
  if (!guaranteed) return { requests: { cpu: "10m", memory: "80Mi" } };
  const [cpu, memory] = guaranteed;
  return { requests: { cpu, memory }, limits: { cpu, memory } };
}

/** Return the specification of the addon's pods. */
export function podSpec(settings: AddonSettings): object {
  const minor = settings["k8s-version"];
  const { cniBin, cniConf, modules, state, run, sysctls, tun, iptables, netns } = mounts(settings);
  const locks = has(minor, "hostPathType") ? [iptables] : [];
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
  const setup = ["--cni-bin-dir", cniBin.at, "--plugin-only"];
  const configuration = [
    `--cni-conf-dir=${cniConf.at}`,
    // Runtimes of older clusters know no later one.
    ...(has(minor, "cni1") ? [] : ["--cni-version=0.3.0"]),
  ];
  const npc = ["/home/weave/weave-npc", ...(settings["use-legacy-netpol"] ? ["--use-legacy-netpol"] : [])];
  return {
    nodeSelector: { [has(minor, "osLabel") ? "kubernetes.io/os" : "beta.kubernetes.io/os"]: "linux" },
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
        [cniBin, modules, sysctls],
        { env: environment(settings, ""), securityContext: confined(settings, "init") },
      ),
    ],
    containers: [
      container(
        "weave",
        [
          "/home/weave/weave-router",
          "--kubernetes",
          ...configuration,
          ...(trusted.length > 0 ? [`--trusted-subnets=${trusted.join(",")}`] : []),
        ],
        [cniConf, state, run, sysctls, tun, ...locks, netns],
        {
          env: environment(settings),
          securityContext: confined(settings, "router"),
          ...probes(minor),
        },
      ),
      ...(settings["disable-npc"]
        ? []
        : [
            container("weave-npc", npc, [sysctls], {
              env: npcEnvironment(settings),
              securityContext: confined(settings, "npc"),
              readinessProbe: { ...ask("/readyz", 6781), periodSeconds: 5 },
              livenessProbe: { ...ask("/healthz", 6781), periodSeconds: 10, failureThreshold: 6 },
            }),
          ]),
    ],
    volumes: [cniBin, cniConf, modules, state, run, sysctls, tun, ...locks, netns].map((mount) =>
      volume(minor, mount),
    ),
  };
}
