// Folders of the host in the addon's containers.
import { CONTAINER_SYSCTLS as SYSCTLS } from "../../host/sysctl.ts";
import { LOCK_FILE } from "../../netlink/iptables/lock.ts";
import type { AddonSettings } from "../addon.ts";
import type { KubeMinor } from "../version.ts";
import { has } from "./features.ts";

/** A folder of the host, or a file, created if absent, and its mount in containers. */
export interface Mount {
  readonly name: string;
  readonly host: string;
  readonly at: string;
  /** It is a file; before Kubernetes 1.8 the runtime would make a folder of it. */
  readonly file?: boolean;
  readonly readOnly?: boolean;
  /** Propagate later mounts of the host. */
  readonly follow?: boolean;
}

/** Return all of them. */
export const mounts = (settings: AddonSettings) =>
  ({
    cniBin: { name: "cni-bin", host: settings["cni-bin-dir"], at: "/host/opt/cni/bin" },
    cniConf: { name: "cni-conf", host: settings["cni-conf-dir"], at: "/host/etc/cni/net.d" },
    modules: { name: "lib-modules", host: "/lib/modules", at: "/lib/modules", readOnly: true },
    state: { name: "weavedb", host: "/var/lib/weave", at: "/var/lib/weave" },
    // The router's socket, for the plugin, which runs on the host.
    run: { name: "run-weave", host: "/run/weave", at: "/run/weave" },
    // The kernel's settings of networks: /proc/sys of a container is read-only.
    sysctls: { name: "proc-sys-net", host: "/proc/sys/net", at: SYSCTLS },
    // TAP links, where the runtime gives its containers no /dev/net/tun.
    tun: { name: "dev-net", host: "/dev/net", at: "/dev/net" },
    // kube-proxy and others change the same tables of iptables-legacy.
    iptables: { name: "xtables-lock", host: LOCK_FILE, at: LOCK_FILE, readOnly: true, file: true },
    // Network namespaces of pods.
    netns: { name: "run-netns", host: "/run/netns", at: "/run/netns", readOnly: true, follow: true },
  }) satisfies Record<string, Mount>;

export const volume = (minor: KubeMinor, { name, host, file = false }: Mount) => ({
  name,
  hostPath: {
    path: host,
    ...(has(minor, "hostPathType") && { type: file ? "FileOrCreate" : "DirectoryOrCreate" }),
  },
});

export const volumeMount = (minor: KubeMinor, { name, at, readOnly, follow }: Mount) => ({
  name,
  mountPath: at,
  ...(readOnly && { readOnly }),
  ...(follow && has(minor, "mountPropagation") && { mountPropagation: "HostToContainer" }),
});
