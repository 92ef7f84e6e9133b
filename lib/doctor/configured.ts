// Links of ours to which another program has given addresses or routes. They only carry frames between the bridge, containers and
// other hosts: a default route by one of them can take what the host sends.
import { formatCidr } from "../address/ipv4.ts";
import { BRIDGE, isContainerVeth } from "../host/names.ts";
import { addressList } from "../netlink/address.ts";
import { type Link, linkList } from "../netlink/link.ts";
import { routeList } from "../netlink/route.ts";
import { NETLINK_ROUTE, NetlinkSocket } from "../netlink/socket.ts";
import { isVxlanLink } from "../overlay/datapath/links.ts";
import { type Finding, problem, warning } from "./finding.ts";

const CHECK = "configured";
/** Links that are named; a program that configures one configures all of its kind. */
const SHOWN = 3;

/** Find ports of the bridge, and the link of sleeve, that have addresses or routes. */
export function configuredFindings(): Finding[] {
  using route = new NetlinkSocket(NETLINK_ROUTE);
  const links = linkList(route);
  const bridge = links.find(({ name, kind }) => name === BRIDGE && kind === "bridge");
  if (!bridge) return [];
  const ours = links.filter((link) => isOurs(link, bridge));
  const addresses = addressList(route);
  const defaults = new Set(
    routeList(route).flatMap(({ destination, link }) => (destination.prefix === 0 ? [link] : [])),
  );
  const found = ours.flatMap(({ name, index }) => {
    const all = [
      ...addresses.filter((address) => address.index === index).map(({ cidr }) => formatCidr(cidr)),
      ...(defaults.has(index) ? ["a default route"] : []),
    ];
    return all.length > 0 ? [`${name} has ${all.join(" and ")}`] : [];
  });
  if (found.length === 0) return [];
  const more = found.length > SHOWN ? `, and ${found.length - SHOWN} more` : "";
  const what = `${found.slice(0, SHOWN).join(", ")}${more}: another program configures links of weave`;
  const advice =
    "exempt them there (see 'weave help troubleshooting': dhcpcd, NetworkManager, systemd-networkd), then 'ip addr flush dev LINK'";
  return [(ours.some(({ index }) => defaults.has(index)) ? problem : warning)(CHECK, what, advice)];
}

/** Whether a link is a port of the bridge that we have made, or the TAP link of sleeve, which need not be one. */
const isOurs = (link: Link, bridge: Link) =>
  (link.kind === "tun" && link.name.startsWith("sleeve-")) ||
  (link.master === bridge.index && (isContainerVeth(link.name) || isVxlanLink(link)));
