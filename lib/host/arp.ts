// Gratuitous ARP: tells all hosts of the network where an address is now. The kernel sends it for a link with arp_notify when
// the link's Ethernet address is set, even to the same. A packet socket would do, too, but closing one waits for an RCU
// grace period, which takes longer than all the rest of attaching a container.
import { type Link, linkChange } from "../netlink/link.ts";
import { ipv4Change } from "../netlink/linkipv4.ts";
import type { NetlinkSocket } from "../netlink/socket.ts";

/** Announce all addresses of a link, by a socket of its namespace. Throws NetlinkError. */
export function announce(
  nl: NetlinkSocket,
  { name, index, address }: Pick<Link, "name" | "index" | "address">,
): void {
  if (address === undefined) return;
  nl.requests([ipv4Change(name, index, { arp_notify: 1 }), linkChange(name, index, { address })]);
}
