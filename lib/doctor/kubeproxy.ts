// kube-proxy on this node, from its command line and configuration file: two of its settings break network policies,
// which need the real source of packets.
import { readFileSync } from "node:fs";
import * as v from "valibot";
import { AddressError, type Cidr, formatCidr, parseCidr } from "../address/ipv4.ts";
import { managesNetwork, processIds } from "../sys/processes.ts";
import { readRegularFile } from "../sys/textfile.ts";
import { type Finding, ok, problem } from "./finding.ts";

/** Bytes of a configuration file. */
const MAX_FILE = 1 << 20;

/** Settings of kube-proxy. */
export interface KubeProxy {
  readonly masqueradeAll: boolean;
  readonly clusterCidr: string;
}

const Configuration = v.object({
  clusterCIDR: v.nullish(v.string(), ""),
  iptables: v.nullish(v.object({ masqueradeAll: v.nullish(v.boolean(), false) })),
  ipvs: v.nullish(v.object({ masqueradeAll: v.nullish(v.boolean(), false) })),
  nftables: v.nullish(v.object({ masqueradeAll: v.nullish(v.boolean(), false) })),
});

/** Read a command line, and the configuration file that it names by `read`. */
export function readKubeProxy(args: readonly string[], read: (file: string) => string): KubeProxy {
  const value = (name: string) => {
    for (const [i, arg] of args.entries()) {
      if (arg.startsWith(`--${name}=`)) return arg.slice(name.length + 3);
      if (arg === `--${name}`) return args[i + 1]?.startsWith("--") ? "true" : (args[i + 1] ?? "true");
    }
    return undefined;
  };
  const file = value("config");
  const config = file === undefined ? undefined : v.safeParse(Configuration, Bun.YAML.parse(read(file)));
  const from = config?.success ? config.output : undefined;
  const all = [from?.iptables, from?.ipvs, from?.nftables].some((mode) => mode?.masqueradeAll === true);
  // A command line counts where there is no file.
  return {
    masqueradeAll: from ? all : value("masquerade-all") === "true",
    clusterCidr: from?.clusterCIDR || value("cluster-cidr") || "",
  };
}

/** The findings about one, where the network's range is known. */
export function kubeProxyProblems(
  { masqueradeAll, clusterCidr }: KubeProxy,
  range: Cidr | undefined,
): Finding[] {
  const findings: Finding[] = [];
  if (masqueradeAll) {
    findings.push(
      problem(
        "kube-proxy",
        "kube-proxy masquerades everything (masqueradeAll): policies cannot tell pods from each other",
        "turn --masquerade-all (iptables.masqueradeAll) off",
      ),
    );
  }
  if (clusterCidr !== "" && range && !includes(clusterCidr, range)) {
    findings.push(
      problem(
        "kube-proxy",
        `kube-proxy expects pods in ${clusterCidr}, but the range of the network is ${formatCidr(range)}`,
        "set --cluster-cidr (clusterCIDR) to the network's IPALLOC_RANGE, or leave it out",
      ),
    );
  }
  return findings;
}

/** Whether the first of a list of ranges ("10.32.0.0/12,fd00::/64") of IPv4 is the network's. */
function includes(list: string, range: Cidr): boolean {
  return list.split(",").some((text) => {
    try {
      return formatCidr(parseCidr(text.trim())) === formatCidr(range);
    } catch (error) {
      if (error instanceof AddressError) return false;
      throw error;
    }
  });
}

/** The findings about kube-proxy on this host, if it runs. Throws where its configuration cannot be read. */
export function kubeProxyFindings(range: Cidr | undefined): Finding[] {
  for (const pid of processIds()) {
    const args = commandLine(pid);
    if (!args) continue;
    // Its paths are those of its container.
    const settings = readKubeProxy(args, (file) => readRegularFile(`/proc/${pid}/root${file}`, MAX_FILE));
    const problems = kubeProxyProblems(settings, range);
    return problems.length > 0 ? problems : [ok("kube-proxy", "kube-proxy fits the network")];
  }
  return [];
}

/** The command line of a process, if that is kube-proxy. */
function commandLine(pid: string): string[] | undefined {
  try {
    const args = readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0").slice(0, -1);
    const named = /(^|\/)(kube-proxy|hyperkube)$/.test(args[0] ?? "");
    const isProxy = named || readFileSync(`/proc/${pid}/comm`, "utf8").trim() === "kube-proxy";
    return isProxy && managesNetwork(pid) ? args : undefined;
  } catch {
    // It has ended since.
    return undefined;
  }
}
