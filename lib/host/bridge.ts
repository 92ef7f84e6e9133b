// The bridge that containers are attached to.
import type { Cidr } from "../address/ipv4.ts";
import { addressList } from "../netlink/address.ts";
import { linkDelete, linksDelete } from "../netlink/link/delete.ts";
import { type Link, linkByName, linkList } from "../netlink/link.ts";
import type { NetlinkSocket } from "../netlink/socket.ts";
import { BRIDGE, isContainerVeth } from "./names.ts";

export interface BridgeSettings {
  /** Ethernet address: the peer's name. */
  readonly address: string;
  readonly mtu: number;
  /** Tells the MTU of the network (mtu.ts). */
  readonly alias?: string | undefined;
}

/** Return the bridge, if there is one; where others have renamed it, known by its Ethernet address: the peer's name. */
export function findBridge(nl: NetlinkSocket, address: string | undefined): Link | undefined {
  const bridge = linkByName(nl, BRIDGE);
  if (bridge || address === undefined) return bridge;
  return linkList(nl).find((link) => link.kind === "bridge" && link.address === address);
}

/** Return the bridge; throws an Error that says what to do where there is none. */
export function requireBridge(nl: NetlinkSocket, name = BRIDGE): Link {
  const bridge = linkByName(nl, name);
  if (!bridge) throw new Error(`bridge "${name}" not present; did you launch weave?`);
  if (bridge.kind !== "bridge")
    throw new Error(`link "${name}" is in the way: not a bridge; remove or rename it`);
  return bridge;
}

/** Return the addresses of the bridge, with which the host is exposed. */
export function bridgeAddresses(nl: NetlinkSocket, bridge = requireBridge(nl)): Cidr[] {
  return addressList(nl, bridge.index).map(({ cidr }) => cidr);
}

/** Remove the bridge, the containers' veths and the given other links; missing ones are no error. */
export function removeLinks(nl: NetlinkSocket, others: readonly string[]): void {
  const veths = linkList(nl).filter(({ name }) => isContainerVeth(name));
  linksDelete(
    nl,
    veths.map(({ index }) => index),
  );
  for (const name of [...others, BRIDGE]) linkDelete(nl, name);
}
