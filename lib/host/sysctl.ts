// Kernel settings under /proc/sys, in the network namespace of the calling thread. In a container /proc/sys is read-only; there,
// our manifests mount the part of networks elsewhere, writable.
import { existsSync, writeFileSync } from "node:fs";
import { readText } from "../sys/textfile.ts";

/** Where /proc/sys/net is writable in a container that is not privileged. */
export const CONTAINER_SYSCTLS = "/host/proc/sys/net";

let written = "/proc/sys/net";

/** Return the path to write a setting to. */
function writable(name: string): string {
  return name.startsWith("net/") ? `${written}${name.slice(3)}` : `/proc/sys/${name}`;
}

/** Return a value; undefined where the kernel does not have it. */
export function sysctlGet(name: string): string | undefined {
  try {
    return readText(`/proc/sys/${name}`).trim();
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return undefined;
    throw error;
  }
}

/** Set a value; false where the kernel does not have it (IPv6 switched off) or /proc/sys is read-only. */
export function sysctlSet(name: string, value: string): boolean {
  try {
    writeFileSync(writable(name), value);
    return true;
  } catch (error) {
    const code = error instanceof Error && "code" in error ? error.code : undefined;
    if (code === "EROFS" && written !== CONTAINER_SYSCTLS && existsSync(CONTAINER_SYSCTLS)) {
      written = CONTAINER_SYSCTLS;
      return sysctlSet(name, value);
    }
    if (code === "ENOENT" || code === "EROFS" || code === "EACCES" || code === "EINVAL") return false;
    throw error;
  }
}

/** A setting under /proc/sys, "net/ipv4/ip_forward", and its value. */
export interface Sysctl {
  readonly name: string;
  readonly value: string;
}

/**
 * Return the settings of a link on the network. It notices within 5 s instead of 30 that an address has moved to another host.
 * It takes no routes from IPv6 router advertisements, and solicits none: that would go to every host. It drops unicast packets
 * in multicast frames (RFC 1122, 3.3.6): policies judge by the frame who a packet is for. Its addresses of a subnet do not go with
 * the first of them, as is the kernel's default.
 */
export function linkSysctls(link: string): Sysctl[] {
  return [
    { name: `net/ipv4/neigh/${link}/base_reachable_time`, value: "5" },
    { name: `net/ipv4/neigh/${link}/delay_first_probe_time`, value: "2" },
    { name: `net/ipv4/neigh/${link}/ucast_solicit`, value: "1" },
    { name: `net/ipv6/conf/${link}/accept_ra`, value: "0" },
    { name: `net/ipv6/conf/${link}/router_solicitations`, value: "0" },
    { name: `net/ipv4/conf/${link}/drop_unicast_in_l2_multicast`, value: "1" },
    { name: `net/ipv6/conf/${link}/drop_unicast_in_l2_multicast`, value: "1" },
    { name: `net/ipv4/conf/${link}/promote_secondaries`, value: "1" },
  ];
}

/** Return the settings of a link that carries frames of others and sends none of the host's own. */
export function silentSysctls(link: string): Sysctl[] {
  return [{ name: `net/ipv6/conf/${link}/disable_ipv6`, value: "1" }];
}

export function applyLinkSysctls(link: string): void {
  for (const { name, value } of linkSysctls(link)) sysctlSet(name, value);
}
