// Attaching a container: a veth from the bridge into its network namespace, addresses and routes on the inner end.
// A failed attach removes what it had made.
import { type Cidr, cidrContains, formatIPv4, type IPv4, parseCidr } from "../address/ipv4.ts";
import { addressAdd, addressDelete, addressList } from "../netlink/address.ts";
import { bridgePortSet } from "../netlink/link/bridgeport.ts";
import { linkDelete, linksDelete } from "../netlink/link/delete.ts";
import { type Link, linkAdd, linkByIndex, linkByName, linkList, linkSet } from "../netlink/link.ts";
import { netnsId } from "../netlink/netnsid.ts";
import { type Route, routeAdd, routeList } from "../netlink/route.ts";
import { NETLINK_ROUTE, NetlinkSocket } from "../netlink/socket.ts";
import { EEXIST, isErrno } from "../sys/errno.ts";
import { inNetns, type Netns, NetnsError, netnsPath, refuseOwnNetns } from "../sys/netns.ts";
import { announce } from "./arp.ts";
import { requireBridge } from "./bridge.ts";
import { networkMtuOf, tellMtu } from "./mtu.ts";
import { alternativeVethName, BRIDGE, isContainerVeth, isVethAlias, vethAlias, vethName } from "./names.ts";
import type { Sender } from "./ports/binding.ts";
import { PortGuard } from "./ports/guard.ts";
import { applyLinkSysctls } from "./sysctl.ts";

/** A route in a container; by the gateway of the attachment unless it has its own. */
export interface ContainerRoute {
  readonly destination: Cidr;
  readonly gateway?: IPv4 | undefined;
}

export interface Attachment {
  readonly netns: Netns;
  /** CNI's, where it is attached by CNI. */
  readonly network?: string | undefined;
  readonly containerId: string;
  /** Name of the link inside. */
  readonly ifName: string;
  readonly bridge?: string;
  /** Bytes; the bridge's unless given. */
  readonly mtu?: number | undefined;
  readonly addresses: readonly Cidr[];
  readonly gateway?: IPv4 | undefined;
  readonly routes: readonly ContainerRoute[];
  /** Route multicast to this link. */
  readonly multicastRoute?: boolean;
  /** Let the bridge send frames back by the port that they came from: a container reaches itself by a service address. */
  readonly hairpin?: boolean;
  /** Add addresses to the link where it exists, instead of refusing. */
  readonly extend?: boolean;
  /** Source addresses that it may use beside its own, where ports are bound to their addresses. */
  readonly allowed?: readonly Sender[] | undefined;
  /** The ends of the link as they were, to restore one that was removed. */
  readonly ends?:
    | { readonly outer: LinkEnd & { readonly alias: string | undefined }; readonly inner: LinkEnd }
    | undefined;
}

/** The identity of an end of a link. */
interface LinkEnd {
  readonly name: string;
  readonly index: number;
  /** Ethernet address. */
  readonly address: string;
}

/** The link that the container has now. */
export interface Attached {
  readonly hostName: string;
  readonly hostMac: string;
  readonly mac: string;
  readonly mtu: number;
}

/** The container has a link of that name already. */
export class AlreadyAttachedError extends Error {
  override readonly name = "AlreadyAttachedError";
}

const MULTICAST = parseCidr("224.0.0.0/4");

/** Attach a container. Throws NetnsError, AlreadyAttachedError or NetlinkError, and leaves nothing behind then. */
export function attach(attachment: Attachment): Attached {
  const { netns, ifName } = attachment;
  refuseOwnNetns(netns);
  using host = new NetlinkSocket(NETLINK_ROUTE);
  const bridge = requireBridge(host, attachment.bridge ?? BRIDGE);
  using guard = bridge.name === BRIDGE ? PortGuard.find(host, bridge) : undefined;
  const extended = attachment.extend ? hostEnd(host, { netns, ifName, bridge: bridge.name }) : undefined;
  return inNetns(netns, (netnsFd) => {
    using inside = new NetlinkSocket(NETLINK_ROUTE);
    const existing = linkByName(inside, ifName);
    if (existing && !attachment.extend) {
      throw new AlreadyAttachedError(`${netnsPath(netns)} has an interface ${ifName} already`);
    }
    if (existing && !extended) {
      throw new AlreadyAttachedError(
        `${netnsPath(netns)} has an interface ${ifName} that is not on the network; rename or remove it`,
      );
    }
    const name = existing ? undefined : addVeth(host, attachment, netnsFd, linkMtu(attachment, bridge));
    try {
      const outer = name === undefined ? undefined : linkByName(host, name);
      if (name !== undefined && !outer) throw new Error(`link ${name} disappeared`);
      const inner = existing ?? linkByName(inside, ifName);
      if (!inner) throw new Error(`interface ${ifName} disappeared from ${netnsPath(netns)}`);
      const fresh = configure(inside, inner, attachment);
      const network = networkMtuOf(bridge);
      if (network !== undefined) tellMtu(inside, inner, network);
      if (guard) guardPort(guard, outer, inner, attachment);
      if (outer) join(host, outer, bridge, attachment);
      if (fresh.length > 0) announce(inside, { ...inner, name: ifName });
      return {
        hostName: outer?.name ?? "",
        hostMac: outer?.address ?? "",
        mac: inner.address ?? "",
        mtu: inner.mtu,
      };
    } catch (error) {
      if (name !== undefined) linkDelete(host, name);
      throw error;
    }
  });
}

/** Bind the port to its source addresses, before it is on the network. */
function guardPort(guard: PortGuard, outer: Link | undefined, inner: Link, attachment: Attachment): void {
  const addresses = attachment.addresses.map(({ address }) => formatIPv4(address));
  if (outer) {
    guard.attach(outer);
    // A restored link has its old ifindex, and the bindings of that.
    if (attachment.ends) return;
    guard.bind(outer.index, { mac: inner.address ?? "", addresses, allowed: attachment.allowed });
  } else if (inner.peerIndex !== undefined) guard.addAddresses(inner.peerIndex, addresses);
}

/** Return the wanted MTU, in bytes: the bridge drops what is larger than its own. */
function linkMtu({ mtu }: Attachment, bridge: Link): number {
  return mtu && mtu < bridge.mtu ? mtu : bridge.mtu;
}

/** Makes the link; returns the name of the host's end. */
function addVeth(host: NetlinkSocket, attachment: Attachment, netnsFd: number, mtu: number): string {
  const { containerId, ifName, ends } = attachment;
  const add = (name: string) => {
    const peer = { ...ends?.inner, name: ifName, mtu, netnsFd };
    const { index, address } = ends?.outer ?? {};
    linkAdd(host, { index, ...(address && { address }), kind: "veth", name, mtu, up: true, peer });
  };
  const name = ends?.outer.name ?? vethName(containerId);
  try {
    add(name);
    return name;
  } catch (error) {
    if (!isErrno(error, EEXIST) || ends) throw error;
    const alternative = alternativeVethName(attachment);
    add(alternative);
    return alternative;
  }
}

/**
 * Put the outer end on the bridge: last, so that no half-configured container is on the network. It gets its alias once it
 * is complete.
 */
function join(host: NetlinkSocket, outer: Link, bridge: Link, attachment: Attachment): void {
  const { hairpin = false, ends } = attachment;
  const alias = ends ? (ends.outer.alias ?? "") : vethAlias(attachment);
  linkSet(host, outer.name, outer.index, { master: bridge.index, ...(hairpin ? {} : { alias }) });
  if (!hairpin) return;
  bridgePortSet(host, outer.name, outer.index, { hairpin });
  linkSet(host, outer.name, outer.index, { alias });
}

/** Configure the inner end, with this thread in the container's namespace; return the addresses that are new to it. */
function configure(inside: NetlinkSocket, link: Link, attachment: Attachment): Cidr[] {
  const { ifName, addresses, gateway, routes, multicastRoute } = attachment;
  applyLinkSysctls(ifName);
  const fresh = addresses.filter((cidr) => addressAdd(inside, ifName, link.index, cidr));
  linkSet(inside, ifName, link.index, { up: true });
  if (multicastRoute) routeAdd(inside, { destination: MULTICAST, link: link.index });
  const onLink = (ip: IPv4) => addresses.some((cidr) => cidrContains(cidr, ip));
  for (const route of routes) {
    const via = route.gateway ?? gateway;
    if (via !== undefined && !onLink(via)) {
      routeAdd(inside, { destination: { address: via, prefix: 32 }, link: link.index });
    }
    routeAdd(inside, { destination: route.destination, gateway: via, link: link.index });
  }
  return fresh;
}

/** A link of ours in a container. */
export interface ContainerLink {
  /** Undefined where the namespace is not known. */
  readonly netns: Netns | undefined;
  /** Its name inside. */
  readonly ifName: string;
  /** The alias of the host's end. */
  readonly alias?: string | undefined;
  /** The bridge whose ports count as ours, beside links that we made; our own unless given. */
  readonly bridge?: string | undefined;
}

/**
 * Remove links from containers, in one kernel grace period for all; a link that is not in the namespace is looked up by its
 * alias. Return for each whether it is certainly gone: not while a container veth without our alias exists (from an older
 * version), or the error of that container. Links that are not ours stay.
 */
export function detach(links: readonly ContainerLink[]): (boolean | Error)[] {
  using host = new NetlinkSocket(NETLINK_ROUTE);
  const ends = links.map((link) => {
    try {
      return hostEnd(host, link);
    } catch (error) {
      if (error instanceof NetnsError && error.gone) return undefined;
      return error instanceof Error ? error : new Error(String(error));
    }
  });
  const veths = ends.includes(undefined) ? linkList(host).filter(({ kind }) => kind === "veth") : [];
  const allNamed = veths.every(({ name, alias }) => !isContainerVeth(name) || isVethAlias(alias));
  const found = ends.map(
    (end, i) => end ?? veths.find(({ alias }) => alias !== undefined && alias === links[i]?.alias),
  );
  linksDelete(
    host,
    found.flatMap((end) => (end === undefined || end instanceof Error ? [] : [end.index])),
  );
  return found.map((end, i) => {
    if (end instanceof Error) return end;
    return end !== undefined || (allNamed && links[i]?.alias !== undefined);
  });
}

/** Return the host end of a link, if it is our veth or any on our bridge. Throws NetnsError. */
function hostEnd(host: NetlinkSocket, link: ContainerLink): Link | undefined {
  const { netns, ifName, bridge = BRIDGE } = link;
  if (netns === undefined) return undefined;
  refuseOwnNetns(netns);
  return inNetns(netns, (fd) => {
    using inside = new NetlinkSocket(NETLINK_ROUTE);
    const inner = linkByName(inside, ifName);
    if (inner?.kind !== "veth" || inner.peerIndex === undefined) return undefined;
    // Indices are per namespace: both ends have to name each other, and each other's namespace.
    const outer = linkByIndex(host, inner.peerIndex);
    if (outer?.kind !== "veth" || outer.peerIndex !== inner.index) return undefined;
    if (outer.peerNetns === undefined || outer.peerNetns !== netnsId(host, fd)) return undefined;
    const ours = isContainerVeth(outer.name) || outer.master === linkByName(host, bridge)?.index;
    return ours ? outer : undefined;
  });
}

/**
 * Remove addresses from a link, and with the last one the link; return those that it had. Throws NetnsError, NetlinkError, and
 * Error where the link is not ours.
 */
export function detachAddresses(netns: Netns, ifName: string, cidrs: readonly Cidr[]): Cidr[] {
  using host = new NetlinkSocket(NETLINK_ROUTE);
  const outer = hostEnd(host, { netns, ifName });
  const bridge = linkByName(host, BRIDGE);
  using guard = bridge && PortGuard.find(host, bridge);
  return inNetns(netns, () => {
    using inside = new NetlinkSocket(NETLINK_ROUTE);
    const link = linkByName(inside, ifName);
    if (!link) return [];
    if (!outer) throw new Error(`interface ${ifName} in ${netnsPath(netns)} is not on the network`);
    const removed = cidrs.filter((cidr) => addressDelete(inside, ifName, link.index, cidr));
    const gone = removed.map(({ address }) => formatIPv4(address));
    guard?.removeAddresses(outer.index, gone);
    if (addressList(inside, link.index).length === 0) linksDelete(host, [outer.index]);
    return removed;
  });
}

/** A link in a container, for checks. */
export interface Inspected {
  readonly link: Link;
  readonly addresses: readonly Cidr[];
  /** Those of the namespace's main table. */
  readonly routes: readonly Route[];
  /** The other end and its bridge, where these are in the host's namespace. */
  readonly port: Link | undefined;
  readonly bridge: string | undefined;
}

/** Inspect a link in a container; undefined where there is none. Throws NetnsError. */
export function inspect(netns: Netns, ifName: string): Inspected | undefined {
  refuseOwnNetns(netns);
  using host = new NetlinkSocket(NETLINK_ROUTE);
  const found = inNetns(netns, () => {
    using inside = new NetlinkSocket(NETLINK_ROUTE);
    const link = linkByName(inside, ifName);
    if (!link) return undefined;
    const addresses = addressList(inside, link.index).map(({ cidr }) => cidr);
    return { link, addresses, routes: routeList(inside) };
  });
  if (!found) return undefined;
  const port = hostEnd(host, { netns, ifName });
  const bridge = port?.master === undefined ? undefined : linkByIndex(host, port.master);
  return { ...found, port, bridge: bridge?.name };
}

/** Format addresses without their prefixes, separated by spaces. */
export function formatAddresses(cidrs: readonly Cidr[]): string {
  return cidrs.map(({ address }) => formatIPv4(address)).join(" ");
}
