// Settings of the host's own network that break ours: MTU, forwarding, filters.
import { type Cidr, formatCidr } from "../address/ipv4.ts";
import { hasModule } from "../host/modules.ts";
import { networkMtuOf } from "../host/mtu.ts";
import { BRIDGE } from "../host/names.ts";
import { overlappingRoute } from "../host/overlap.ts";
import { sysctlGet } from "../host/sysctl.ts";
import { addressList } from "../netlink/address.ts";
import { type Link, linkByName, linkList } from "../netlink/link.ts";
import { routeList } from "../netlink/route.ts";
import { NETLINK_ROUTE, NetlinkSocket } from "../netlink/socket.ts";
import { DEFAULT_MTU } from "../overlay/encapsulation.ts";
import type { Encapsulation } from "./encapsulation.ts";
import { type Finding, ok, problem, warning } from "./finding.ts";
import type { Fix } from "./fix.ts";

export interface NetworkQuestions {
  readonly encapsulation: Encapsulation;
  /** The range of the network, where it is known. */
  readonly range: Cidr | undefined;
  /** It is a node of Kubernetes. */
  readonly kubernetes: boolean;
  /** Our router runs, and sees to the bridge and the packet filter itself. */
  readonly running: boolean;
  /** The router measures the MTU: --mtu auto. */
  readonly auto: boolean;
}

export function networkFindings(questions: NetworkQuestions): Finding[] {
  using route = new NetlinkSocket(NETLINK_ROUTE);
  return [
    mtu(route, questions),
    ...overlap(route, questions.range),
    ...switches(questions.kubernetes, uplinks(route)),
  ];
}

/** Links by which other hosts are reached: with a route by default, or else all that have an address, but for ours. */
function uplinks(route: NetlinkSocket): Link[] {
  const byDefault = new Set(
    routeList(route)
      .filter(({ destination }) => destination.prefix === 0)
      .map(({ link }) => link),
  );
  const addressed = new Set(addressList(route).map(({ index }) => index));
  const links = linkList(route).filter(
    ({ name, up, index }) => up && name !== "lo" && name !== BRIDGE && addressed.has(index),
  );
  const chosen = links.filter(({ index }) => byDefault.has(index));
  return chosen.length > 0 ? chosen : links;
}

function mtu(route: NetlinkSocket, { encapsulation, running, auto }: NetworkQuestions): Finding {
  const bridge = linkByName(route, BRIDGE);
  const wanted = Number(process.env["WEAVE_MTU"]) || undefined;
  // Without a port, the MTU of a bridge means nothing.
  const own = bridge && bridge.mtu <= 9_600 ? (networkMtuOf(bridge) ?? bridge.mtu) : (wanted ?? DEFAULT_MTU);
  const around = `${encapsulation.bytes} bytes of encapsulation (${encapsulation.by})`;
  const smallest = uplinks(route).sort((a, b) => a.mtu - b.mtu)[0];
  if (!smallest) return warning("mtu", "no link to other hosts is up", "bring one up");
  const fits = smallest.mtu - encapsulation.bytes;
  if (own > fits) {
    const exceeds = `frames of ${own} bytes and ${around} exceed the MTU of ${smallest.name}, ${smallest.mtu}`;
    // A lower --mtu would outlast the cause.
    if (auto)
      return warning(
        "mtu",
        exceeds,
        "the routers lower the MTU within seconds; if it stays, see the paths by sleeve in 'weave status connections': there, ICMP tells senders the MTU meanwhile",
      );
    return problem(
      "mtu",
      exceeds,
      `launch weave with --mtu ${fits} (or WEAVE_MTU=${fits}) on all hosts, or less if the path between them has a lower MTU`,
      bridge && !running ? [{ action: "set-mtu", link: BRIDGE, index: bridge.index, mtu: fits }] : [],
    );
  }
  return ok("mtu", `${own} bytes and ${around} fit the MTU of ${smallest.name}, ${smallest.mtu}`);
}

function overlap(route: NetlinkSocket, range: Cidr | undefined): Finding[] {
  const found = range && overlappingRoute(route, range);
  if (!range || found === undefined) return [];
  return [
    problem(
      "range",
      `the network's range ${formatCidr(range)} overlaps with route ${found} of this host`,
      "choose another --ipalloc-range (IPALLOC_RANGE), the same on all hosts, that no host uses",
    ),
  ];
}

/**
 * Packets are dropped on a link unless the way back is by it: the stricter number is the lower one, the higher counts.
 */
function isStrict(link: string): boolean {
  const [all, own] = ["all", link].map((name) => sysctlGet(`net/ipv4/conf/${name}/rp_filter`));
  return own !== undefined && Math.max(Number(all ?? 0), Number(own)) === STRICT;
}

const STRICT = 1;
const BRIDGED = ["iptables", "ip6tables"].map((name) => `net/bridge/bridge-nf-call-${name}`);
const BR_NETFILTER = "br_netfilter";

/** What has the packets filtered that the bridge passes on; `now`: whether it does, where it can. */
function bridgeNetfilterFix(now: string | undefined): Fix[] {
  if (now === undefined && !hasModule(BR_NETFILTER)) return [];
  return [
    ...(now === undefined ? [{ action: "load-module", module: BR_NETFILTER } as const] : []),
    ...BRIDGED.map((name) => ({ action: "set-sysctl", name, value: "1" }) as const),
  ];
}

function switches(kubernetes: boolean, links: readonly Link[]): Finding[] {
  const findings: Finding[] = [];
  if (sysctlGet("net/ipv4/ip_forward") === "0") {
    findings.push(
      warning(
        "ip_forward",
        "IP forwarding is off: containers cannot reach anything outside the network",
        "'sysctl -w net.ipv4.ip_forward=1' ('weave expose' does it), and find out what turns it off",
        [{ action: "set-sysctl", name: "net/ipv4/ip_forward", value: "1" }],
      ),
    );
  }
  const [bridged] = BRIDGED.map(sysctlGet);
  if (bridged !== "1") {
    const found =
      bridged === undefined
        ? "br_netfilter is not loaded"
        : "bridged packets are not filtered (bridge-nf-call-iptables is 0)";
    const advice =
      "'modprobe br_netfilter' and 'sysctl -w net.bridge.bridge-nf-call-iptables=1'; weave setup does both";
    const what = `${found}: network policies and kube-proxy do not see traffic between pods of a node`;
    findings.push(
      (kubernetes ? problem : warning)("br_netfilter", what, advice, bridgeNetfilterFix(bridged)),
    );
  } else findings.push(ok("br_netfilter", "bridged packets are filtered"));
  const strict = [...links.map(({ name }) => name), BRIDGE].filter(isStrict);
  if (strict.length > 1 && links.length > 1) {
    findings.push(
      warning(
        "rp_filter",
        `strict reverse path filtering (rp_filter=1) on ${strict.join(", ")}, and this host has several uplinks: packets on asymmetric paths are dropped`,
        "'sysctl -w net.ipv4.conf.LINK.rp_filter=2' for each, or make routes symmetric",
        strict.map((link) => ({ action: "set-sysctl", name: `net/ipv4/conf/${link}/rp_filter`, value: "2" })),
      ),
    );
  } else findings.push(ok("rp_filter", "reverse path filtering drops nothing"));
  return findings;
}
