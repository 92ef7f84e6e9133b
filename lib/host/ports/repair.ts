// Puts the link of a container right: the host's end as it was, or all of it anew.

import { bridgePortSet } from "../../netlink/link/bridgeport.ts";
import { type Link, linkSet } from "../../netlink/link.ts";
import type { NetlinkSocket } from "../../netlink/socket.ts";
import { EBUSY, isErrno } from "../../sys/errno.ts";
import { AlreadyAttachedError, attach } from "../attach.ts";
import type { AttachedContainer } from "../containers.ts";
import { portDifference } from "../reconcile/bridgeport.ts";
import { desiredPort, type KnownLink } from "./known.ts";

/** Put the host's end, which is as `now`, back as it was on the bridge; throws NetlinkError. */
export function repairPort(route: NetlinkSocket, { port }: KnownLink, now: Link, bridge: Link): void {
  const { index, name, mtu, alias = "", address } = port;
  const hairpin = port.bridgePort?.hairpin ?? false;
  if (now.name !== name) rename(route, now, name);
  const moved = now.address !== address && address !== undefined ? { address } : {};
  linkSet(route, name, index, { master: bridge.index, up: true, mtu, alias, ...moved });
  // One that was off the bridge is a new port.
  const isPort = now.master === bridge.index;
  const changes = isPort ? portDifference(desiredPort(port), now, bridge) : { hairpin };
  if (Object.keys(changes).length > 0) bridgePortSet(route, name, index, changes);
}

function rename(route: NetlinkSocket, { index, name: now }: Link, name: string): void {
  try {
    linkSet(route, now, index, { name });
  } catch (error) {
    if (!isErrno(error, EBUSY)) throw error;
    // Before Linux 6.2, only what is down can be renamed.
    linkSet(route, now, index, { up: false });
    linkSet(route, now, index, { name });
  }
}

/** Make a link that was removed anew, as it was at both ends; throws NetnsError, NetlinkError. `now` is in ms. */
export function restoreLink(known: KnownLink, inside: AttachedContainer, now: number): void {
  const { port, owner } = known;
  const { name, index, alias, address = "", mtu } = port;
  const { link } = inside;
  try {
    attach({
      netns: inside.netns,
      network: owner?.network,
      containerId: owner?.containerId ?? "",
      ifName: link.name,
      mtu,
      addresses: inside.addresses,
      // Gateways are reached by routes of the link.
      routes: [...inside.routes].sort(
        (a, b) => Number(a.gateway !== undefined) - Number(b.gateway !== undefined),
      ),
      hairpin: port.bridgePort?.hairpin ?? false,
      ends: {
        outer: { name, index, address, alias },
        inner: { name: link.name, index: link.index, address: inside.mac },
      },
    });
  } catch (error) {
    if (!(error instanceof AlreadyAttachedError)) throw error;
    throw new Error(`${inside.netns} has another interface ${link.name}`, { cause: error });
  }
  known.inside = inside;
  known.restoredAt = now;
  known.missingSince = undefined;
  known.removed = false;
  known.inspectedAt = undefined;
}
