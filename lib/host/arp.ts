// Gratuitous ARP: tells everybody on the network where an address is now. The kernel does it, for a link with arp_notify
// set whose Ethernet address is set (even to what it was). A packet socket could, too, but closing one waits for
// every processor to pass by, which takes longer than all the rest of attaching a container.
import { type Link, linkSet } from "../netlink/link.ts";
import type { NetlinkSocket } from "../netlink/socket.ts";
import { sysctlSet } from "./sysctl.ts";

/** Announces all addresses of a link of the namespace that both this thread and the socket are in. */
export function announce(nl: NetlinkSocket, link: Link): void {
  if (link.address === undefined || !sysctlSet(`net/ipv4/conf/${link.name}/arp_notify`, "1")) return;
  linkSet(nl, link.name, link.index, { address: link.address });
}
