// Overlap of a range with routes of this host.
import { AddressError, type Cidr, cidrRange, formatCidr, rangesOverlap } from "../address/ipv4.ts";
import { routeList } from "../netlink/route.ts";
import type { NetlinkSocket } from "../netlink/socket.ts";
import { findBridge } from "./bridge.ts";

/**
 * Return a route of the host that overlaps with the range, as text, other than those of our bridge; `peer`, where it is known,
 * is the Ethernet address of that. Undefined where there is none.
 */
export function overlappingRoute(nl: NetlinkSocket, range: Cidr, peer?: string): string | undefined {
  const own = findBridge(nl, peer)?.index;
  const route = routeList(nl).find(
    ({ destination, link }) =>
      destination.prefix > 0 && link !== own && rangesOverlap(cidrRange(destination), cidrRange(range)),
  );
  return route && formatCidr(route.destination);
}

/** Throw AddressError for a range that would take traffic away from a network that the host is on. */
export function refuseOverlap(nl: NetlinkSocket, range: Cidr, peer?: string): void {
  const route = overlappingRoute(nl, range, peer);
  if (route === undefined) return;
  throw new AddressError(
    `IPALLOC_RANGE ${formatCidr(range)} overlaps with existing route ${route} of this host: choose a range that no host uses, the same on all`,
  );
}
