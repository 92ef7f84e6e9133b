// Containers of this host with both ends of their links.
import type { IPv4 } from "../address/ipv4.ts";
import { type AttachedContainer, inspectPorts } from "../host/containers.ts";
import { BRIDGE, isContainerVeth } from "../host/names.ts";
import { type Link, linkByName, linkList } from "../netlink/link.ts";
import type { NetlinkSocket } from "../netlink/socket.ts";

/** A container's link: both ends. */
export interface Place {
  readonly port: Link;
  readonly container: AttachedContainer;
}

/** Where a container is, as the router knows it. */
export interface PlaceHint {
  /** Name of the host's end of its link. */
  readonly port: string;
  /** A path of its network namespace; "" where it has to be looked for. */
  readonly netns: string;
}

/** Return the place of a hint, if it is still there; for a router, which cannot afford a full scan. */
export function placeAt(host: NetlinkSocket, { port: name, netns }: PlaceHint): Place | undefined {
  const port = linkByName(host, name);
  const container = port && inspectPorts(host, [{ ...port, netns }]).get(port.index);
  return port && container && { port, container };
}

/**
 * Links of containers, whatever bridge they are on, as far as their namespaces can be seen from here; takes about 1 ms
 * for each. Without ports of these names.
 */
export function places(host: NetlinkSocket, except: ReadonlySet<string> = new Set()): Place[] {
  const bridge = linkByName(host, BRIDGE)?.index;
  const ports = linkList(host).filter(
    ({ kind, master, name }) =>
      kind === "veth" &&
      !except.has(name) &&
      (isContainerVeth(name) || (master !== undefined && master === bridge)),
  );
  const found = inspectPorts(host, ports);
  return ports.flatMap((port) => {
    const container = found.get(port.index);
    return container ? [{ port, container }] : [];
  });
}

/** Return the place that has an address. */
export function placeOf(all: readonly Place[], address: IPv4): Place | undefined {
  return all.find(({ container }) => container.addresses.some((cidr) => cidr.address === address));
}
