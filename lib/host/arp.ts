// Gratuitous ARP: tells all hosts of the network where an address is now. The kernel sends it for a link with arp_notify when
// the link's Ethernet address is set, even to the same. A packet socket would do, too, but closing one waits for an RCU
// grace period, which takes longer than all the rest of attaching a container.
import { type Link, linkSet } from "../netlink/link.ts";
import type { NetlinkSocket } from "../netlink/socket.ts";
import { sysctlSet } from "./sysctl.ts";

/** Announce all addresses of a link; the socket and this thread have to be in its namespace. Throws NetlinkError. */
export function announce(nl: NetlinkSocket, link: Link): void {
  if (link.address === undefined || !sysctlSet(`net/ipv4/conf/${link.name}/arp_notify`, "1")) return;
  linkSet(nl, link.name, link.index, { address: link.address });
}
