// Kernel state of one end: its link inside, the route to the other end, and its bridge port.
import { formatCidr, formatIPv4, type IPv4 } from "../address/ipv4.ts";
import { findProgram, type HookLink } from "../host/ports/hook.ts";
import { closePortMaps, mapsOf } from "../host/ports/maps.ts";
import { PROGRAM_NAMES } from "../host/ports/program.ts";
import { type Link, linkByIndex } from "../netlink/link.ts";
import { hasFailed, neighbourList } from "../netlink/neighbour.ts";
import { pathTo } from "../netlink/path.ts";
import { routeList } from "../netlink/route.ts";
import { NETLINK_ROUTE, NetlinkSocket } from "../netlink/socket.ts";
import { inNetns } from "../sys/netns.ts";
import type { Place } from "./places.ts";
import type { EndState } from "./side.ts";

export type Dropped = EndState["dropped"];
export const NOTHING_DROPPED: Dropped = { spoofed: 0, protocol: 0, flood: 0 };

/**
 * Return the state of an end; `before` are drops of its port. Throw NetnsError if its namespace is gone, and
 * NetlinkError.
 */
export function endState(host: NetlinkSocket, place: Place, other: IPv4, before: Dropped): EndState {
  const { container } = place;
  const port = linkByIndex(host, place.port.index) ?? place.port;
  const inside = inNetns(container.netns, () => lookFromInside(place, other));
  const { bound, dropped: now } = guardAt(host, port);
  return {
    id: container.owner?.containerId ?? "",
    ...inside,
    port: {
      ...linkState(port),
      bridge: port.master === undefined ? null : (linkByIndex(host, port.master)?.name ?? null),
      bound,
    },
    dropped: {
      spoofed: now.spoofed - before.spoofed,
      protocol: now.protocol - before.protocol,
      flood: now.flood - before.flood,
    },
  };
}

const linkState = ({ name, up, carrier, mtu }: Link) => ({ name, up, carrier, mtu });

function lookFromInside({ container }: Place, other: IPv4): Pick<EndState, "inside" | "route" | "neighbour"> {
  using nl = new NetlinkSocket(NETLINK_ROUTE);
  const link = linkByIndex(nl, container.link.index) ?? container.link;
  const path = pathTo(nl, other);
  const by = path?.link === undefined ? undefined : linkByIndex(nl, path.link);
  const hop = path?.gateway ?? other;
  const entry = neighbourList(nl).find((each) => each.address === hop && each.link === path?.link);
  const text = (address: IPv4 | undefined) => (address === undefined ? null : formatIPv4(address));
  return {
    inside: {
      ...linkState(link),
      mtu: Math.min(link.mtu, ...routeList(nl, { link: link.index }).flatMap(({ mtu }) => mtu ?? [])),
      mac: link.address ?? null,
      addresses: container.addresses.map(formatCidr),
    },
    route: path && by ? { link: by.name, gateway: text(path.gateway), source: text(path.source) } : null,
    neighbour: entry
      ? {
          address: formatIPv4(hop),
          mac: entry.mac ?? null,
          failed: hasFailed(entry),
        }
      : null,
  };
}

/** Return the state of the program at a port: whether it enforces source addresses, and its drops so far. */
export function guardAt(
  host: NetlinkSocket,
  port: HookLink,
): { readonly bound: boolean; readonly dropped: Dropped } {
  const program = findProgram(host, port, "ingress")?.program;
  const maps = program && mapsOf(program);
  program?.close();
  try {
    const entry = maps?.ports.get(port.index);
    const { spoofed = 0n, protocol = 0n, flood = 0n } = entry?.dropped ?? {};
    return {
      bound: program?.name === PROGRAM_NAMES.strict && entry?.mac !== undefined,
      dropped: { spoofed: Number(spoofed), protocol: Number(protocol), flood: Number(flood) },
    };
  } finally {
    if (maps) closePortMaps(maps);
  }
}
