// The host's end of a container's link, found by the container's end.
import { type Link, linkByIndex, linkByName } from "../netlink/link.ts";
import { netnsId } from "../netlink/netnsid.ts";
import { NETLINK_ROUTE, NetlinkSocket } from "../netlink/socket.ts";
import { inNetns, type Netns, refuseOwnNetns } from "../sys/netns.ts";
import { BRIDGE, isContainerVeth } from "./names.ts";

/** A link of ours in a container. */
export interface ContainerLink {
  /** Undefined where the namespace is not known. */
  readonly netns: Netns | undefined;
  /** Its name inside. */
  readonly ifName: string;
  /** The alias of the host's end. */
  readonly alias?: string | undefined;
  /** The bridge whose ports count as ours, beside links that we made; our own unless given. */
  readonly bridge?: string | undefined;
}

/** Return the host end of a link, if it is our veth or any on our bridge. Throws NetnsError. */
export function hostEnd(host: NetlinkSocket, link: ContainerLink): Link | undefined {
  const { netns, ifName, bridge = BRIDGE } = link;
  if (netns === undefined) return undefined;
  refuseOwnNetns(netns);
  return inNetns(netns, (fd) => {
    using inside = new NetlinkSocket(NETLINK_ROUTE);
    const inner = linkByName(inside, ifName);
    if (inner?.kind !== "veth" || inner.peerIndex === undefined) return undefined;
    // Indices are per namespace: both ends have to name each other, and each other's namespace.
    const outer = linkByIndex(host, inner.peerIndex);
    if (outer?.kind !== "veth" || outer.peerIndex !== inner.index) return undefined;
    if (outer.peerNetns === undefined || outer.peerNetns !== netnsId(host, fd)) return undefined;
    const ours = isContainerVeth(outer.name) || outer.master === linkByName(host, bridge)?.index;
    return ours ? outer : undefined;
  });
}
