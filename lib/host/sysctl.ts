// Kernel settings under /proc/sys, in the network namespace of the calling thread. In a container /proc/sys is read-only; there,
// our manifests mount the part of networks elsewhere, writable.
import { existsSync, writeFileSync } from "node:fs";
import type { Link } from "../netlink/link.ts";
import { arpTimingChange, ipv4Change } from "../netlink/linkipv4.ts";
import type { Request } from "../netlink/socket.ts";
import { KeptFile } from "../sys/keptfile.ts";
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
  return orUndefined(() => readText(pathOf(name)));
}

/** Values that are read again and again, in the network namespace of the thread that read them first. */
export class KeptSysctls {
  readonly #files = new Map<string, KeptFile>();

  /** Return a value now; undefined where the kernel does not have it. */
  get(name: string): string | undefined {
    const file = this.#files.get(name) ?? new KeptFile(pathOf(name));
    this.#files.set(name, file);
    return orUndefined(() => file.read());
  }

  close(): void {
    for (const file of this.#files.values()) file.close();
  }
}

const pathOf = (name: string) => `/proc/sys/${name}`;

function orUndefined(read: () => string): string | undefined {
  try {
    return read().trim();
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
 * The settings of a link on the network. It notices within 5 s instead of 30 that an address has moved to another host. It takes no
 * routes from IPv6 router advertisements, and solicits none: that would go to every host. It drops unicast packets in multicast
 * frames (RFC 1122, 3.3.6): policies judge by the frame who a packet is for. Its addresses of a subnet do not go with the first of
 * them, as is the kernel's default.
 */
const ARP = { base_reachable_time: 5, delay_first_probe_time: 2, ucast_solicit: 1 } as const;
const IPV4 = { drop_unicast_in_l2_multicast: 1, promote_secondaries: 1 } as const;
const IPV6 = { accept_ra: 0, router_solicitations: 0, drop_unicast_in_l2_multicast: 1 } as const;

/** Return them as files. */
export function linkSysctls(link: string): Sysctl[] {
  return [
    ...sysctlsIn(`net/ipv4/neigh/${link}`, ARP),
    ...sysctlsIn(`net/ipv4/conf/${link}`, IPV4),
    ...sysctlsIn(`net/ipv6/conf/${link}`, IPV6),
  ];
}

const sysctlsIn = (folder: string, values: Readonly<Record<string, number>>): Sysctl[] =>
  Object.entries(values).map(([name, value]) => ({ name: `${folder}/${name}`, value: String(value) }));

/** Return the settings of a link that carries frames of others and sends none of the host's own. */
export function silentSysctls(link: string): Sysctl[] {
  return [{ name: `net/ipv6/conf/${link}/disable_ipv6`, value: "1" }];
}

/** Apply those that are files alone, with this thread in the link's namespace; return the requests for the others. */
export function linkSettings(link: Pick<Link, "name" | "index">): Request[] {
  for (const { name, value } of sysctlsIn(`net/ipv6/conf/${link.name}`, IPV6)) sysctlSet(name, value);
  return [arpTimingChange(link.name, link.index, ARP), ipv4Change(link.name, link.index, IPV4)];
}
