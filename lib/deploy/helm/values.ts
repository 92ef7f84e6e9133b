// The values of the Helm chart: the parameters of the manifest under Helm's manner of names.
import type { AddonSettings } from "../addon.ts";
import { DISTRIBUTION_NAMES } from "../distributions.ts";

/** How a parameter enters the chart. */
type Value =
  /** Text; empty: not given. */
  | { readonly kind: "text"; readonly parameter: keyof AddonSettings; readonly optional?: boolean }
  /** A list of texts; may be empty. */
  | { readonly kind: "list"; readonly parameter: keyof AddonSettings }
  | { readonly kind: "flag"; readonly parameter: keyof AddonSettings }
  /** One of some texts. */
  | { readonly kind: "choice"; readonly parameter: keyof AddonSettings; readonly of: readonly string[] }
  /** Names and texts. */
  | { readonly kind: "map"; readonly parameter: keyof AddonSettings }
  /** A path; empty: that of the distribution. */
  | { readonly kind: "folder"; readonly parameter: keyof AddonSettings; readonly of: "bin" | "conf" }
  /** A number, or a percentage. */
  | { readonly kind: "number"; readonly parameter: keyof AddonSettings }
  /** Two texts, in one parameter; empty: not given. */
  | {
      readonly kind: "pair";
      readonly parameter: keyof AddonSettings;
      readonly names: readonly [string, string];
    };

/** What a value says in the chart's values.yaml. */
export type ChartValue = Value & { readonly about: string };

/** Values by name. */
export const VALUES: Readonly<Record<string, ChartValue>> = {
  image: { kind: "text", parameter: "image", about: "Image, with its tag." },
  passwordSecret: {
    kind: "text",
    optional: true,
    parameter: "password-secret",
    about: "Secret of kube-system that holds the network password under its own name; encrypts the network.",
  },
  knownPeers: {
    kind: "list",
    parameter: "known-peers",
    about: "Peers to use instead of the nodes of the cluster.",
  },
  trustedSubnets: {
    kind: "list",
    parameter: "trusted-subnets",
    about: "Networks between whose hosts nothing is encrypted.",
  },
  disableNpc: { kind: "flag", parameter: "disable-npc", about: "Do not enforce network policies." },
  useLegacyNetpol: {
    kind: "flag",
    parameter: "use-legacy-netpol",
    about: "Interpret network policies as before Kubernetes 1.7.",
  },
  distribution: {
    kind: "choice",
    parameter: "distribution",
    of: DISTRIBUTION_NAMES,
    about: `Distribution of Kubernetes: ${DISTRIBUTION_NAMES.join(", ")}.`,
  },
  cniBinDir: {
    kind: "folder",
    parameter: "cni-bin-dir",
    of: "bin",
    about: "Folder of CNI plugins on the nodes; empty: the distribution's.",
  },
  cniConfDir: {
    kind: "folder",
    parameter: "cni-conf-dir",
    of: "conf",
    about: "Folder of CNI configurations on the nodes; empty: the distribution's.",
  },
  startupTaint: {
    kind: "flag",
    parameter: "startup-taint",
    about: "Let the router remove taint weave.network/not-ready of its node when ready.",
  },
  maxUnavailable: {
    kind: "number",
    parameter: "max-unavailable",
    about: "Nodes that an update restarts the router on at a time, or a percentage.",
  },
  guaranteed: {
    kind: "pair",
    parameter: "guaranteed",
    names: ["cpu", "memory"],
    about: "Request and limit of each container: {cpu: 100m, memory: 200Mi}; empty: no limits.",
  },
  env: {
    kind: "map",
    parameter: "env",
    about: "Variables of the router, such as IPALLOC_RANGE: 10.64.0.0/16.",
  },
  selinuxOptions: {
    kind: "map",
    parameter: "selinux-options",
    about: "SELinux options of the pod: level, role, type, user.",
  },
};
