// Kernel settings under /proc/sys, in the network namespace of the calling thread.
import { existsSync, readFileSync, writeFileSync } from "node:fs";

/** A value; undefined where the kernel does not have it. */
export function sysctlGet(name: string): string | undefined {
  const path = `/proc/sys/${name}`;
  return existsSync(path) ? readFileSync(path, "utf8").trim() : undefined;
}

/** Sets a value; false where the kernel does not have it (IPv6 switched off) or /proc/sys is read-only. */
export function sysctlSet(name: string, value: string): boolean {
  try {
    writeFileSync(`/proc/sys/${name}`, value);
    return true;
  } catch (error) {
    const code = error instanceof Error && "code" in error ? error.code : undefined;
    if (code === "ENOENT" || code === "EROFS" || code === "EACCES" || code === "EINVAL") return false;
    throw error;
  }
}

/**
 * Makes a link notice quickly that an address has moved to another host: ARP entries are checked after 5 s instead
 * of 30. Takes no routes from IPv6 router advertisements, and asks for none: that would go to every host. Takes no
 * packet for this host out of a frame for many (RFC 1122, 3.3.6): policies judge by the frame who it is for.
 */
export function sysctlsForLink(link: string): void {
  sysctlSet(`net/ipv4/neigh/${link}/base_reachable_time`, "5");
  sysctlSet(`net/ipv4/neigh/${link}/delay_first_probe_time`, "2");
  sysctlSet(`net/ipv4/neigh/${link}/ucast_solicit`, "1");
  sysctlSet(`net/ipv6/conf/${link}/accept_ra`, "0");
  sysctlSet(`net/ipv6/conf/${link}/router_solicitations`, "0");
  sysctlSet(`net/ipv4/conf/${link}/drop_unicast_in_l2_multicast`, "1");
  sysctlSet(`net/ipv6/conf/${link}/drop_unicast_in_l2_multicast`, "1");
}
