// Kernel features that the network needs, tried in a temporary network namespace.
import { closeSync, existsSync } from "node:fs";
import { Assembler, R0 } from "../bpf/assembler.ts";
import { liftMemoryLimit } from "../bpf/bpf.ts";
import { loadProgram } from "../bpf/program.ts";
import { systemRandom } from "../clock/random.ts";
import { hasModule, isLoaded } from "../host/modules.ts";
import { DEFAULT_PORT } from "../mesh/port.ts";
import { linkAdd } from "../netlink/link.ts";
import { masquerade } from "../netlink/nftables/expr/masq.ts";
import { tableReplace } from "../netlink/nftables/replace.ts";
import { NETLINK_NETFILTER, NETLINK_ROUTE, NetlinkSocket } from "../netlink/socket.ts";
import { openTap } from "../netlink/tap.ts";
import { Esp } from "../overlay/fastdp/esp.ts";
import { whyNoFlowCache } from "../overlay/flowcache/probe.ts";
import { fastdpPort } from "../overlay/ports.ts";
import { inNewNetns } from "../sys/netns.ts";
import { reasonOf } from "../sys/reason.ts";
import { type Finding, ok, problem, warning } from "./finding.ts";
import type { Fix } from "./fix.ts";

/** A feature, its module, and a test that throws if it is missing. */
interface Feature {
  readonly name: string;
  readonly module: string;
  /** What works without it; undefined if it is required. */
  readonly without?: string;
  try(): void;
}

const FEATURES: readonly Feature[] = [
  {
    name: "bridge",
    module: "bridge",
    try: () => withRoute((nl) => linkAdd(nl, { kind: "bridge", name: "b" })),
  },
  {
    name: "veth",
    module: "veth",
    try: () => withRoute((nl) => linkAdd(nl, { kind: "veth", name: "v", peer: { name: "w" } })),
  },
  {
    name: "VXLAN",
    module: "vxlan",
    without: "only sleeve connects hosts, which is slower",
    try: () => withRoute((nl) => linkAdd(nl, { kind: "vxlan", name: "x", port: fastdpPort(DEFAULT_PORT) })),
  },
  {
    name: "TAP",
    module: "tun",
    try() {
      if (!existsSync("/dev/net/tun")) throw new Error("/dev/net/tun does not exist");
      closeSync(openTap("t", true));
    },
  },
  {
    name: "eBPF",
    module: "",
    try() {
      liftMemoryLimit();
      loadProgram("doctor", new Assembler().mov(R0, { imm: 0 }).exit().assemble()).close();
    },
  },
  {
    name: "flow cache",
    module: "",
    without: "established flows take the slow path",
    try() {
      const why = whyNoFlowCache();
      if (why !== undefined) throw new Error(why);
    },
  },
  {
    name: "nftables",
    module: "nft_chain_nat",
    try() {
      using nf = new NetlinkSocket(NETLINK_NETFILTER);
      const base = { type: "nat", hook: "postrouting", priority: 100, policy: "accept" } as const;
      tableReplace(nf, {
        family: "ip",
        name: "doctor",
        chains: [{ name: "c", base, rules: [[masquerade()]] }],
      });
    },
  },
];

/** For networks with a password. */
const ENCRYPTION: Feature = {
  name: "ESP",
  module: "esp4",
  without: "encrypted traffic uses sleeve, which is slower",
  try() {
    const esp = new Esp(systemRandom, fastdpPort(DEFAULT_PORT));
    esp.close();
    if (esp.lacking !== undefined) throw new Error(esp.lacking);
  },
};

/** The findings. */
export function kernelFindings(encrypted: boolean): Finding[] {
  const features = encrypted ? [...FEATURES, ENCRYPTION] : FEATURES;
  const missing = inNewNetns(() => features.flatMap((feature) => lacking(feature) ?? []));
  const names = features
    .filter(({ name }) => !missing.some(({ check }) => check === name))
    .map(({ name }) => name);
  return [...(names.length > 0 ? [ok("kernel", `the kernel has ${names.join(", ")}`)] : []), ...missing];
}

function lacking({ name, module, without, try: attempt }: Feature): Finding | undefined {
  try {
    attempt();
    return undefined;
  } catch (error) {
    const loadable = module !== "" && hasModule(module);
    const advice =
      module === ""
        ? "use a kernel that has it"
        : loadable
          ? `'modprobe ${module}' loads it; name it in /etc/modules-load.d to have it after a reboot`
          : `install the kernel's module ${module}, or use a kernel that has it`;
    const fixes: readonly Fix[] = loadable && !isLoaded(module) ? [{ action: "load-module", module }] : [];
    const found = `${name} does not work here: ${reasonOf(error)}`;
    return without === undefined
      ? problem(name, found, advice, fixes)
      : warning(name, `${found}; ${without}`, advice, fixes);
  }
}

function withRoute(fn: (nl: NetlinkSocket) => unknown): void {
  using nl = new NetlinkSocket(NETLINK_ROUTE);
  fn(nl);
}
