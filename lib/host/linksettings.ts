// The settings of links of a weave network: as files under /proc/sys, and those of IPv4 as netlink messages, which need no file
// each.
import type { Link } from "../netlink/link.ts";
import { arpTimingChange, ipv4Change } from "../netlink/linkipv4.ts";
import type { NetlinkSocket, Request } from "../netlink/socket.ts";
import { type Sysctl, sysctlSet } from "./sysctl.ts";

/**
 * The settings of a link on the network. It notices within 5 s instead of 30 that an address has moved to another host. It takes no
 * routes from IPv6 router advertisements, and solicits none: that would go to every host. It drops unicast packets in multicast
 * frames (RFC 1122, 3.3.6): policies judge by the frame who a packet is for. Its addresses of a subnet do not go with the first of
 * them, as is the kernel's default.
 */
const ARP = { base_reachable_time: 5, delay_first_probe_time: 2, ucast_solicit: 1 } as const;
const IPV4 = { drop_unicast_in_l2_multicast: 1, promote_secondaries: 1 } as const;
const IPV6 = { accept_ra: 0, router_solicitations: 0, drop_unicast_in_l2_multicast: 1 } as const;

/** Return them as files. */
export function linkSysctls(link: string): Sysctl[] {
  return [
    ...sysctlsIn(`net/ipv4/neigh/${link}`, ARP),
    ...sysctlsIn(`net/ipv4/conf/${link}`, IPV4),
    ...ipv6Sysctls(link),
  ];
}

const ipv6Sysctls = (link: string) => sysctlsIn(`net/ipv6/conf/${link}`, IPV6);

const sysctlsIn = (folder: string, values: Readonly<Record<string, number>>): Sysctl[] =>
  Object.entries(values).map(([name, value]) => ({ name: `${folder}/${name}`, value: String(value) }));

/** Return the settings of a link that carries frames of others and sends none of the host's own. */
export function silentSysctls(link: string): Sysctl[] {
  return [{ name: `net/ipv6/conf/${link}/disable_ipv6`, value: "1" }];
}

/** Apply all settings of a link on the network, with this thread in its namespace. Throws NetlinkError. */
export function applyLinkSettings(nl: NetlinkSocket, link: Pick<Link, "name" | "index">): void {
  writeIpv6Settings(link.name);
  nl.requests(ipv4Settings(link));
}

/** Write the settings of IPv6, which no netlink message takes, with this thread in the link's namespace. */
export function writeIpv6Settings(link: string): void {
  for (const { name, value } of ipv6Sysctls(link)) sysctlSet(name, value);
}

/** Return the requests that apply the settings of IPv4. */
export function ipv4Settings({ name, index }: Pick<Link, "name" | "index">): Request[] {
  return [arpTimingChange(name, index, ARP), ipv4Change(name, index, IPV4)];
}
