// Inspecting the link of a container, for checks.
import type { Cidr } from "../address/ipv4.ts";
import { addressList } from "../netlink/address.ts";
import { type Link, linkByIndex, linkByName } from "../netlink/link.ts";
import { type Route, routeList } from "../netlink/route.ts";
import { NETLINK_ROUTE, NetlinkSocket } from "../netlink/socket.ts";
import { inNetns, type Netns, refuseOwnNetns } from "../sys/netns.ts";
import { hostEnd } from "./hostend.ts";

/** A link in a container. */
export interface Inspected {
  readonly link: Link;
  readonly addresses: readonly Cidr[];
  /** Those of all tables of the namespace: plugins behind ours may move them. */
  readonly routes: readonly Route[];
  /** The other end and its bridge, where these are in the host's namespace. */
  readonly port: Link | undefined;
  readonly bridge: string | undefined;
}

/** Inspect a link in a container; undefined where there is none. Throws NetnsError. */
export function inspect(netns: Netns, ifName: string): Inspected | undefined {
  refuseOwnNetns(netns);
  using host = new NetlinkSocket(NETLINK_ROUTE);
  const found = inNetns(netns, () => {
    using inside = new NetlinkSocket(NETLINK_ROUTE);
    const link = linkByName(inside, ifName);
    if (!link) return undefined;
    const addresses = addressList(inside, link.index).map(({ cidr }) => cidr);
    return { link, addresses, routes: routeList(inside, { table: "all" }) };
  });
  if (!found) return undefined;
  const port = hostEnd(host, { netns, ifName });
  const bridge = port?.master === undefined ? undefined : linkByIndex(host, port.master);
  return { ...found, port, bridge: bridge?.name };
}
