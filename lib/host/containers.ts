// Which containers are attached, found out from the kernel: network namespaces with the other end of a port of ours.
import { closeSync, openSync, readdirSync, statSync } from "node:fs";
import type { Cidr } from "../address/ipv4.ts";
import { addressList } from "../netlink/address.ts";
import { linkList } from "../netlink/link.ts";
import { netnsId } from "../netlink/netnsid.ts";
import { NETLINK_ROUTE, NetlinkSocket } from "../netlink/socket.ts";
import { inNetns } from "../sys/netns.ts";
import { requireBridge } from "./bridge.ts";

const NAMED = "/run/netns";

/** A link in a container that is attached to our bridge. */
export interface AttachedContainer {
  readonly netns: string;
  readonly mac: string;
  readonly addresses: readonly Cidr[];
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
    ...entries("/proc")
      .filter((name) => /^\d+$/.test(name))
      .map((pid) => `/proc/${pid}/ns/net`),
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

/** All containers attached to the bridge. */
export function attachedContainers(host: NetlinkSocket): AttachedContainer[] {
  const bridge = requireBridge(host);
  const ports = linkList(host).filter((link) => link.kind === "veth" && link.master === bridge.index);
  return namespaces().flatMap((netns) => {
    try {
      const id = idOf(host, netns);
      const inner = new Set(ports.filter((port) => port.peerNetns === id).map((port) => port.peerIndex));
      return id === undefined || inner.size === 0 ? [] : inside(netns, inner);
    } catch {
      // It has gone since, or is no network namespace (a leftover file).
      return [];
    }
  });
}

function idOf(host: NetlinkSocket, netns: string): number | undefined {
  const fd = openSync(netns, "r");
  try {
    return netnsId(host, fd);
  } finally {
    closeSync(fd);
  }
}

function inside(netns: string, indexes: ReadonlySet<number | undefined>): AttachedContainer[] {
  return inNetns(netns, () => {
    using nl = new NetlinkSocket(NETLINK_ROUTE);
    return linkList(nl)
      .filter((link) => indexes.has(link.index))
      .map((link) => ({
        netns,
        mac: link.address ?? "",
        addresses: addressList(nl, link.index).map(({ cidr }) => cidr),
      }));
  });
}
