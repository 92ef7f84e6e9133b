// Attached containers, as the kernel has them: network namespaces with the other end of a port of ours.
import { closeSync, readdirSync } from "node:fs";
import type { Ip } from "../address/ip.ts";
import type { Cidr } from "../address/ipv4.ts";
import { address6List, addressList } from "../netlink/address.ts";
import { type Link, linkByIndex, linkByName, linkList } from "../netlink/link.ts";
import { netnsId } from "../netlink/netnsid.ts";
import { type Route, RTPROT_BOOT, routeList } from "../netlink/route.ts";
import { NETLINK_ROUTE, NetlinkSocket } from "../netlink/socket.ts";
import { inNetns, openNetns } from "../sys/netns.ts";
import { netnsInode } from "../sys/netnsinode.ts";
import { processIds } from "../sys/processes.ts";
import { type AttachmentName, BRIDGE, isContainerVeth, ownerOf } from "./names.ts";

const NAMED = "/run/netns";

/** A link in a container that is attached to our bridge. */
export interface AttachedContainer {
  readonly netns: string;
  /** Inode of the namespace; reused for others once that is gone. */
  readonly inode: string;
  /** SO_NETNS_COOKIE: never reused; undefined before Linux 5.14. */
  readonly cookie: bigint | undefined;
  /** The inner end. */
  readonly link: Link;
  readonly mac: string;
  readonly addresses: readonly Cidr[];
  /** Routes by this link in the main table, as attach or an administrator added them; none of routing daemons. */
  readonly routes: readonly Route[];
  /** IPv6 addresses. */
  readonly addresses6: readonly Ip[];
  /** The owner by the port's alias, if it has one of ours. */
  readonly owner: AttachmentName | undefined;
}

/** Addresses in use by containers. */
export interface Sighting {
  readonly addresses: readonly (Cidr & { readonly owner?: AttachmentName | undefined })[];
  /** All containers could be inspected. */
  readonly complete: boolean;
}

function entries(directory: string): string[] {
  try {
    return readdirSync(directory);
  } catch {
    return [];
  }
}

/** Return a path for each network namespace that has a name or a process, by its inode. */
function namespaces(): Map<string, string> {
  const paths = [
    ...entries(NAMED).map((name) => `${NAMED}/${name}`),
    ...processIds().map((pid) => `/proc/${pid}/ns/net`),
  ];
  const byInode = new Map<string, string>();
  for (const path of paths) {
    const inode = netnsInode(path);
    // The process may have ended since.
    if (inode !== "" && !byInode.has(inode)) byInode.set(inode, path);
  }
  return byInode;
}

/** Return the ports of our bridge, and links that we made for containers on any bridge, or on none; none that are leaving. */
export function containerPorts(host: NetlinkSocket): Link[] {
  const bridge = linkByName(host, BRIDGE)?.index;
  return linkList(host).filter(
    ({ kind, leaving, master, name }) =>
      kind === "veth" && !leaving && (isContainerVeth(name) || (master !== undefined && master === bridge)),
  );
}

/** Return all attached containers whose namespaces can be seen from here. */
export function attachedContainers(host: NetlinkSocket): AttachedContainer[] {
  return [...inspectPorts(host, containerPorts(host)).values()].flatMap((container) => container ?? []);
}

/** Return the addresses of all attached containers. Takes about 1 ms for each. */
export function attachedAddresses(host: NetlinkSocket): Sighting {
  const ports = containerPorts(host);
  const found = inspectPorts(host, ports);
  return {
    addresses: [...found.values()].flatMap((container) =>
      (container?.addresses ?? []).map((cidr) => ({ ...cidr, owner: container?.owner })),
    ),
    // The other end in this namespace: Docker has not moved it into the container yet, or never does.
    complete: ports.every(({ index, peerNetns }) => peerNetns === undefined || found.has(index)),
  };
}

/** A port, and the last known path of its other end's namespace. */
export type PortToInspect = Pick<Link, "index" | "alias" | "peerIndex" | "peerNetns"> & {
  readonly netns?: string | undefined;
};

/**
 * Return what is at the other end of each port, by the index of the port; undefined where the link has just gone. Leaves out
 * ports whose other end cannot be seen from here.
 */
export function inspectPorts(
  host: NetlinkSocket,
  ports: readonly PortToInspect[],
): Map<number, AttachedContainer | undefined> {
  const found = new Map<number, AttachedContainer | undefined>();
  const look = (netns: string) => {
    try {
      const id = idOf(host, netns);
      const here = ports.filter(({ index, peerNetns }) => peerNetns === id && !found.has(index));
      if (id !== undefined && here.length > 0) inside(netns, here, found);
    } catch {
      // The namespace has gone since, or the path is a leftover file.
    }
  };
  for (const netns of new Set(ports.map((port) => port.netns))) if (netns !== undefined) look(netns);
  const incomplete = () => ports.some(({ index }) => !found.has(index));
  if (!incomplete()) return found;
  for (const netns of namespaces().values()) {
    look(netns);
    if (!incomplete()) break;
  }
  return found;
}

/** Return a path to the namespace of a container, if that still exists. */
export function findNetns({ netns, inode, cookie }: AttachedContainer): string | undefined {
  const isIt = (path: string | undefined) =>
    path !== undefined && netnsInode(path) === inode && cookieOf(path) === cookie;
  if (isIt(netns)) return netns;
  if (cookie === undefined) return undefined;
  const other = namespaces().get(inode);
  return isIt(other) ? other : undefined;
}

/** Return the cookie of a namespace; undefined where it is gone, or before Linux 5.14. */
function cookieOf(netns: string): bigint | undefined {
  try {
    return inNetns(netns, () => {
      using nl = new NetlinkSocket(NETLINK_ROUTE);
      return nl.netnsCookie;
    });
  } catch {
    return undefined;
  }
}

function idOf(host: NetlinkSocket, netns: string): number | undefined {
  const fd = openNetns(netns);
  try {
    return netnsId(host, fd);
  } finally {
    closeSync(fd);
  }
}

function inside(
  netns: string,
  ports: readonly PortToInspect[],
  found: Map<number, AttachedContainer | undefined>,
): void {
  inNetns(netns, () => {
    using nl = new NetlinkSocket(NETLINK_ROUTE);
    const cookie = nl.netnsCookie;
    for (const { index, alias, peerIndex = 0 } of ports) {
      const link = linkByIndex(nl, peerIndex);
      const container = link && {
        netns,
        inode: netnsInode(netns),
        cookie,
        link,
        mac: link.address ?? "",
        addresses: addressList(nl, link.index).map(({ cidr }) => cidr),
        addresses6: address6List(nl, link.index),
        routes: routeList(nl, { link: link.index, protocol: RTPROT_BOOT }),
        owner: ownerOf(alias),
      };
      found.set(index, container);
    }
  });
}
