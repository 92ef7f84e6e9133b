// The MTU of the network on this host. Links of containers take as much as any path so far; containers are told what the
// network carries by the MTU of their routes. So frames that are larger arrive while peers change it one after another, and
// established connections follow. The bridge's alias tells it to all that attach containers.
import { type Link, linkByIndex, linkSet } from "../netlink/link.ts";
import { routesSetMtu } from "../netlink/routemtu.ts";
import { NETLINK_ROUTE, NetlinkSocket } from "../netlink/socket.ts";
import { ENODEV, unlessErrno } from "../sys/errno.ts";
import { inNetns } from "../sys/netns.ts";
import { containerPorts, inspectPorts } from "./containers.ts";

const ALIAS = "network mtu ";

/** What links accept and the network carries, in bytes. */
export interface MtuChange {
  /** Links that had the MTU `from` get the MTU `link`. */
  readonly from: number;
  readonly link: number;
  /** MTU of the network; undefined where links have it. */
  readonly network: number | undefined;
}

/** Return the alias of the bridge that tells the MTU of the network; without one links have it. */
export const mtuAlias = (network: number | undefined) => (network === undefined ? "" : `${ALIAS}${network}`);

/** Return the MTU of the network, as the bridge tells it; undefined where links have it. */
export function networkMtuOf({ alias = "" }: Link): number | undefined {
  const mtu = alias.startsWith(ALIAS) ? Number(alias.slice(ALIAS.length)) : Number.NaN;
  return Number.isInteger(mtu) && mtu >= 576 && mtu <= 65_535 ? mtu : undefined;
}

/** Tell a container, from inside its namespace, what the network carries. */
export function tellMtu(
  inside: NetlinkSocket,
  link: Pick<Link, "index" | "mtu">,
  network: number | undefined,
): void {
  routesSetMtu(inside, link.index, network !== undefined && network < link.mtu ? network : undefined);
}

/** Apply a change to all containers that can be seen from here; takes about 1 ms for each. */
export function applyMtu(host: NetlinkSocket, { from, link: mtu, network }: MtuChange): void {
  const ports = containerPorts(host);
  // The container may have ended since.
  for (const port of ports)
    if (port.mtu === from && from !== mtu)
      unlessErrno([ENODEV], () => linkSet(host, port.name, port.index, { mtu }));
  for (const container of inspectPorts(host, ports).values()) {
    if (!container) continue;
    try {
      inNetns(container.netns, () => {
        using inside = new NetlinkSocket(NETLINK_ROUTE);
        const { name, index } = container.link;
        if (container.link.mtu === from && from !== mtu) linkSet(inside, name, index, { mtu });
        const link = linkByIndex(inside, index);
        if (link) tellMtu(inside, link, network);
      });
    } catch {
      // The container has ended since.
    }
  }
}
