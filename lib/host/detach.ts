// Detaching a container: its link is removed, or addresses of it.
import { type Cidr, formatIPv4 } from "../address/ipv4.ts";
import { addressDelete, addressList } from "../netlink/address.ts";
import { groupDelete, linksDelete, linksLeave } from "../netlink/link/delete.ts";
import { linkByName, linkList } from "../netlink/link.ts";
import { NETLINK_ROUTE, NetlinkSocket } from "../netlink/socket.ts";
import { inNetns, type Netns, NetnsError, netnsPath } from "../sys/netns.ts";
import { type ContainerLink, hostEnd } from "./hostend.ts";
import { applyLinkSettings } from "./linksettings.ts";
import { networkMtuOf, tellMtu } from "./mtu.ts";
import { BRIDGE, isContainerVeth, isVethAlias, ownerOf } from "./names.ts";
import { PortGuard } from "./ports/guard.ts";

/** Links of containers that are to be removed. */
export interface Detaching {
  /** In the order of the links. */
  readonly outcomes: (boolean | Error)[];
  /** Remove them, in one kernel grace period. Throws NetlinkError; may be called again then. */
  finish(): void;
}

/** Remove links from containers; return the outcomes of beginDetach(). Throws NetlinkError. */
export function detach(links: readonly ContainerLink[]): (boolean | Error)[] {
  const { outcomes, finish } = beginDetach(links);
  finish();
  return outcomes;
}

/**
 * Mark links of containers as leaving: the next router removes them where this process ends before it does. A link that is not
 * in the namespace, or is another container's there, is looked up by its alias. The outcome for each is whether it is certainly
 * gone: not while a container veth without our alias exists (from an older version), or the error of that container. Links that
 * are not ours stay.
 */
export function beginDetach(links: readonly ContainerLink[]): Detaching {
  using host = new NetlinkSocket(NETLINK_ROUTE);
  const ends = links.map((link) => {
    try {
      const end = hostEnd(host, link);
      return isOfAnother(end?.alias, link.alias) ? undefined : end;
    } catch (error) {
      if (error instanceof NetnsError && error.gone) return undefined;
      return error instanceof Error ? error : new Error(String(error));
    }
  });
  const veths = ends.includes(undefined) ? linkList(host).filter(({ kind }) => kind === "veth") : [];
  const allNamed = veths.every(({ name, alias }) => !isContainerVeth(name) || isVethAlias(alias));
  const found = ends.map(
    (end, i) => end ?? veths.find(({ alias }) => alias !== undefined && alias === links[i]?.alias),
  );
  const group = linksLeave(
    host,
    found.flatMap((end) => (end === undefined || end instanceof Error ? [] : [end.index])),
  );
  const outcomes = found.map((end, i) => {
    if (end instanceof Error) return end;
    return end !== undefined || (allNamed && links[i]?.alias !== undefined);
  });
  return {
    outcomes,
    finish() {
      if (group === undefined) return;
      using nl = new NetlinkSocket(NETLINK_ROUTE);
      groupDelete(nl, group);
    },
  };
}

/**
 * Whether a link was made for another container than the one that an alias names: a namespace's path, by a process ID above
 * all, may be another sandbox's by the time that its first one is removed. The network's name may have changed.
 */
function isOfAnother(alias: string | undefined, own: string | undefined): boolean {
  const [owner, wanted] = [ownerOf(alias)?.containerId, ownerOf(own)?.containerId];
  return owner !== undefined && wanted !== undefined && owner !== wanted;
}

/**
 * Remove addresses from a link, and with the last one the link; return those that it had. Throws NetnsError, NetlinkError, and
 * Error where the link is not ours.
 */
export function detachAddresses(netns: Netns, ifName: string, cidrs: readonly Cidr[]): Cidr[] {
  using host = new NetlinkSocket(NETLINK_ROUTE);
  const outer = hostEnd(host, { netns, ifName });
  const bridge = linkByName(host, BRIDGE);
  using guard = bridge && PortGuard.find(host, bridge);
  return inNetns(netns, () => {
    using inside = new NetlinkSocket(NETLINK_ROUTE);
    const link = linkByName(inside, ifName);
    if (!link) return [];
    if (!outer) throw new Error(`interface ${ifName} in ${netnsPath(netns)} is not on the network`);
    // Links of older versions lack some: there, others would go with the first address of their subnet.
    applyLinkSettings(inside, { name: ifName, index: link.index });
    const removed = cidrs.filter((cidr) => addressDelete(inside, ifName, link.index, cidr));
    const gone = removed.map(({ address }) => formatIPv4(address));
    guard?.removeAddresses(outer.index, gone);
    const network = bridge && networkMtuOf(bridge);
    // The kernel makes the route of a subnet anew for the next of its addresses.
    if (network !== undefined) tellMtu(inside, link, network);
    if (addressList(inside, link.index).length === 0) linksDelete(host, [outer.index]);
    return removed;
  });
}
