// Packet filter rules that block our traffic, or that are missing. A running router repairs its own.
import { type Cidr, formatCidr } from "../address/ipv4.ts";
import { bridgeAddresses } from "../host/bridge.ts";
import { FIREWALL, firewallTable } from "../host/firewall.ts";
import { forwardDrops } from "../host/forwarding/forwarding.ts";
import { BRIDGE } from "../host/names.ts";
import { linkByName } from "../netlink/link.ts";
import { fillTable } from "../netlink/nftables/replace.ts";
import { readTable, stateOf, type TableState } from "../netlink/nftables/state.ts";
import { NETLINK_NETFILTER, NETLINK_ROUTE, NetlinkSocket } from "../netlink/socket.ts";
import { type Finding, ok, problem, warning } from "./finding.ts";

/** `running`: our router, which sees to the packet filter itself. */
export function filterFindings(running: boolean): Finding[] {
  using route = new NetlinkSocket(NETLINK_ROUTE);
  using nf = new NetlinkSocket(NETLINK_NETFILTER);
  const launched = linkByName(route, BRIDGE)?.kind === "bridge";
  return [
    forwardPolicy(forwardDrops(nf), launched, running),
    ...(launched ? tableFindings(nf, bridgeAddresses(route), running) : []),
  ];
}

/** What of the packet filters that drop forwarded packets, `launched`: there is a bridge of ours. */
export function forwardPolicy(
  dropping: ReturnType<typeof forwardDrops>,
  launched: boolean,
  running: boolean,
): Finding {
  if (dropping.length === 0) return ok("forward", "no FORWARD policy drops packets");
  const names = dropping.map(({ variant }) => variant).join(", ");
  if (!launched)
    return ok(
      "forward",
      `${names} drops forwarded packets by policy; 'weave launch' has those of weave accepted`,
    );
  if (dropping.every(({ accepts }) => accepts))
    return ok(
      "forward",
      `${names} drops forwarded packets by policy; chain WEAVE-FORWARD accepts those of weave`,
    );
  return problem(
    "forward",
    `${names} drops forwarded packets by policy, and no rule accepts those of weave`,
    running
      ? "'weave status' shows why the router does not add that rule"
      : "'weave launch' adds that rule; or 'iptables -P FORWARD ACCEPT'",
    running ? [] : [{ action: "accept-forwarded", variants: dropping.map(({ variant }) => variant) }],
  );
}

/** Our table, as far as the addresses of the bridge tell what has to be in it. */
export function tableFindings(nf: NetlinkSocket, exposed: readonly Cidr[], running: boolean): Finding[] {
  const advice = running
    ? "'weave status' shows why the router does not repair it"
    : "'weave launch' repairs it";
  const of = (addresses: readonly Cidr[]) =>
    stateOf(
      fillTable(
        firewallTable({
          exposed: addresses.map((cidr) => ({ cidr, masquerade: true })),
          controlPort: undefined,
          local: [],
        }),
      ),
    );
  const wanted = of(exposed);
  const found = readTable(nf, FIREWALL, wanted);
  const table = `nftables table ${FIREWALL.family} ${FIREWALL.name}`;
  if (!found)
    return [
      problem(
        "firewall",
        `${table} is missing: traffic of the network is neither accepted nor masqueraded`,
        advice,
      ),
    ];
  const wrong = [
    ...(found.dormant ? ["it is dormant"] : []),
    ...[...wanted.chains]
      .filter(([name, { hook }]) => found.chains.get(name)?.hook !== hook)
      .map(([name]) => `chain ${name} is missing or has another hook`),
    ...(missing(wanted, found, "forward").length > 0 ? ["chain forward lacks rules of weave"] : []),
  ];
  if (wrong.length > 0) return [problem("firewall", `${table} was changed: ${wrong.join(", ")}`, advice)];
  const bare = running
    ? []
    : exposed.filter((cidr) => missing(of([cidr]), found, "postrouting").length > 0).map(formatCidr);
  if (bare.length === 0) return [ok("firewall", `${table} is in place`)];
  return [
    warning(
      "firewall",
      `no masquerading for the exposed address ${bare.join(", ")}: it was exposed with --no-masq, or rules were removed`,
      advice,
    ),
  ];
}

function missing(wanted: TableState, found: TableState, chain: string): string[] {
  const there = found.chains.get(chain)?.rules ?? [];
  return (wanted.chains.get(chain)?.rules ?? []).filter((rule) => !there.includes(rule));
}
