// Which containers are attached, found out from the kernel: network namespaces with the other end of a port of ours.
import { closeSync, readdirSync, statSync } from "node:fs";
import type { Ip } from "../address/ip.ts";
import type { Cidr } from "../address/ipv4.ts";
import { address6List, addressList } from "../netlink/address.ts";
import { type Link, linkByName, linkList } from "../netlink/link.ts";
import { netnsId } from "../netlink/netnsid.ts";
import { NETLINK_ROUTE, NetlinkSocket } from "../netlink/socket.ts";
import { inNetns, openNetns } from "../sys/netns.ts";
import { processIds } from "../sys/processes.ts";
import { type AttachmentName, BRIDGE, isContainerVeth, ownerOf } from "./names.ts";

const NAMED = "/run/netns";

/** A link in a container that is attached to our bridge. */
export interface AttachedContainer {
  readonly netns: string;
  readonly mac: string;
  readonly addresses: readonly Cidr[];
  /** Those of IPv6. */
  readonly addresses6: readonly Ip[];
  /** Whose it is, where that is known. */
  readonly owner: AttachmentName | undefined;
}

/** Addresses on links of containers. */
export interface Sighting {
  readonly addresses: readonly (Cidr & { readonly owner?: AttachmentName | undefined })[];
  /** Every container could be looked into. */
  readonly complete: boolean;
}

function entries(directory: string): string[] {
  try {
    return readdirSync(directory);
  } catch {
    return [];
  }
}

/** A path for each network namespace of the machine that has a name or a process. */
function namespaces(): string[] {
  const paths = [
    ...entries(NAMED).map((name) => `${NAMED}/${name}`),
    ...processIds().map((pid) => `/proc/${pid}/ns/net`),
  ];
  const byInode = new Map<bigint, string>();
  for (const path of paths) {
    try {
      const { ino } = statSync(path, { bigint: true });
      if (!byInode.has(ino)) byInode.set(ino, path);
    } catch {
      // The process has ended since.
    }
  }
  return [...byInode.values()];
}

/**
 * Ports of our bridge, and links that we have made for containers, whatever bridge they are on; those also while somebody
 * has removed the bridge.
 */
function containerPorts(host: NetlinkSocket): Link[] {
  const bridge = linkByName(host, BRIDGE)?.index;
  return linkList(host).filter(
    ({ kind, master, name }) =>
      kind === "veth" && (isContainerVeth(name) || (master !== undefined && master === bridge)),
  );
}

/** All containers that are attached, as far as their namespaces can be seen from here. */
export function attachedContainers(host: NetlinkSocket): AttachedContainer[] {
  return [...lookInside(host, containerPorts(host)).values()].flat();
}

/** Addresses of all containers that are attached. It takes about 1 ms for each of them. */
export function attachedAddresses(host: NetlinkSocket): Sighting {
  const ports = containerPorts(host);
  const found = lookInside(host, ports);
  return {
    addresses: [...found.values()]
      .flat()
      .flatMap(({ addresses, owner }) => addresses.map((cidr) => ({ ...cidr, owner }))),
    complete: ports.every(({ index }) => found.has(index)),
  };
}

/** What is at the other end of each port, by the index of the port; without those that cannot be seen from here. */
export function lookInside(host: NetlinkSocket, ports: readonly Link[]): Map<number, AttachedContainer[]> {
  const found = new Map<number, AttachedContainer[]>();
  if (ports.length === 0) return found;
  for (const netns of namespaces()) {
    try {
      const id = idOf(host, netns);
      const here = ports.filter((port) => id !== undefined && port.peerNetns === id);
      if (here.length === 0) continue;
      const links = inside(
        netns,
        here.map(({ peerIndex }) => peerIndex),
      );
      for (const port of here) {
        const owner = ownerOf(port.alias);
        found.set(
          port.index,
          links.flatMap(({ index, ...link }) => (index === port.peerIndex ? [{ ...link, owner }] : [])),
        );
      }
    } catch {
      // It has gone since, or is no network namespace (a leftover file).
    }
  }
  return found;
}

function idOf(host: NetlinkSocket, netns: string): number | undefined {
  const fd = openNetns(netns);
  try {
    return netnsId(host, fd);
  } finally {
    closeSync(fd);
  }
}

function inside(netns: string, wanted: readonly (number | undefined)[]) {
  return inNetns(netns, () => {
    using nl = new NetlinkSocket(NETLINK_ROUTE);
    const links = linkList(nl).filter(({ index }) => wanted.includes(index));
    return links.map(({ index, address }) => ({
      index,
      netns,
      mac: address ?? "",
      addresses: addressList(nl, index).map(({ cidr }) => cidr),
      addresses6: address6List(nl, index),
    }));
  });
}
