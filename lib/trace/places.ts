// Containers of this host with both ends of their links.
import type { IPv4 } from "../address/ipv4.ts";
import { type AttachedContainer, lookInside } from "../host/containers.ts";
import { BRIDGE, isContainerVeth } from "../host/names.ts";
import { type Link, linkByName, linkList } from "../netlink/link.ts";
import type { NetlinkSocket } from "../netlink/socket.ts";

/** A container's link: the host's end, and what is at the other one. */
export interface Place {
  readonly port: Link;
  readonly container: AttachedContainer;
}

/**
 * Links of containers, whatever bridge they are on, as far as their namespaces can be seen from here; takes about 1 ms for
 * each. `netns` is where the other end is looked for first.
 */
export function places(host: NetlinkSocket, netns?: string): Place[] {
  const bridge = linkByName(host, BRIDGE)?.index;
  const ports = linkList(host).filter(
    ({ kind, master, name }) =>
      kind === "veth" && (isContainerVeth(name) || (master !== undefined && master === bridge)),
  );
  const found = lookInside(
    host,
    ports.map((port) => ({ ...port, netns })),
  );
  return ports.flatMap((port) => {
    const container = found.get(port.index);
    return container ? [{ port, container }] : [];
  });
}

/** The one that has an address. */
export function placeOf(all: readonly Place[], address: IPv4): Place | undefined {
  return all.find(({ container }) => container.addresses.some((cidr) => cidr.address === address));
}
