// Attaching a container: a veth from the bridge into its network namespace, addresses and routes on the inner end.
// A failed attach removes what it had made.
import { type Cidr, cidrContains, formatIPv4, type IPv4, parseCidr } from "../address/ipv4.ts";
import { formatMac } from "../address/mac.ts";
import { addressAddition } from "../netlink/address.ts";
import { bridgePortChange } from "../netlink/link/bridgeport.ts";
import { linkDelete } from "../netlink/link/delete.ts";
import { type Link, linkAdd, linkByName, linkChange } from "../netlink/link.ts";
import { type Route, RT_SCOPE_LINK, RT_TABLE_MAIN, routeAddition } from "../netlink/route.ts";
import { NETLINK_ROUTE, NetlinkSocket } from "../netlink/socket.ts";
import { EEXIST, isErrno } from "../sys/errno.ts";
import { inNetns, type Netns, netnsPath, refuseOwnNetns } from "../sys/netns.ts";
import { announce } from "./arp.ts";
import { bridgeAddresses, requireBridge } from "./bridge.ts";
import { hostEnd } from "./hostend.ts";
import { ipv4Settings, writeIpv6Settings } from "./linksettings.ts";
import { networkMtuOf, tellMtu } from "./mtu.ts";
import { alternativeVethName, BRIDGE, vethAlias, vethName } from "./names.ts";
import type { Sender } from "./ports/binding.ts";
import { PortGuard } from "./ports/guard.ts";

/** A route in a container; by the gateway of the attachment unless it has its own. */
export interface ContainerRoute {
  readonly destination: Cidr;
  readonly gateway?: IPv4 | undefined;
  /** Bytes; unless given, those of the link and of the path. */
  readonly mtu?: number | undefined;
  readonly advmss?: number | undefined;
  readonly priority?: number | undefined;
  /** Routing table; the main one unless given. */
  readonly table?: number | undefined;
  /** RT_SCOPE_… */
  readonly scope?: number | undefined;
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
  /** Ethernet address inside; by default the kernel's choice. */
  readonly mac?: string | undefined;
  readonly addresses: readonly Cidr[];
  /** "bridge": the host's address on the bridge, that of the first address's subnet if there are several. */
  readonly gateway?: IPv4 | "bridge" | undefined;
  readonly routes: readonly ContainerRoute[];
  /** Route multicast to this link. */
  readonly multicastRoute?: boolean;
  /**
   * Let the bridge send frames back by the port that they came from: a container reaches itself by a service address.
   * Default true, as with the original (weave: prog/weaveutil/attach.go).
   */
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

/** What has to be known of a container's end. */
type InnerEnd = Pick<Link, "index" | "address" | "mtu" | "peerIndex">;

/** The link that the container has now. */
export interface Attached {
  readonly hostName: string;
  readonly hostMac: string;
  readonly mac: string;
  readonly mtu: number;
  readonly gateway: IPv4 | undefined;
}

/** The gateway is to be the host, which has no address on the bridge. */
export class NoGatewayError extends Error {
  override readonly name = "NoGatewayError";
}

/** The container has a link of that name already. */
export class AlreadyAttachedError extends Error {
  override readonly name = "AlreadyAttachedError";
}

const MULTICAST = parseCidr("224.0.0.0/4");

/** A link that another program is making is waited for this often, so long. */
const ATTEMPTS = 50;
const PAUSE_MS = 20;

/**
 * Attach a container. Throws NetnsError, AlreadyAttachedError, NoGatewayError or NetlinkError, and leaves nothing behind
 * then. A link that others make at the same moment (a command, and the router once a container is started) is extended, where
 * that is wished for.
 */
export function attach(attachment: Attachment): Attached {
  using host = new NetlinkSocket(NETLINK_ROUTE);
  return attachBy(host, attachment);
}

/** Do so by a socket of the host's namespace. */
export function attachBy(host: NetlinkSocket, attachment: Attachment): Attached {
  for (let i = 1; ; i++) {
    try {
      return attachOnce(host, attachment);
    } catch (error) {
      const meanwhile =
        isErrno(error, EEXIST) ||
        (error instanceof AlreadyAttachedError && (i > 1 || hasOurs(host, attachment)));
      if (!attachment.extend || !meanwhile || i === ATTEMPTS) throw error;
      Bun.sleepSync(PAUSE_MS);
    }
  }
}

/** Return whether the container has a link of ours now: one that was not there yet when it was looked for. */
function hasOurs(host: NetlinkSocket, { netns, ifName, bridge = BRIDGE }: Attachment): boolean {
  return hostEnd(host, { netns, ifName, bridge }) !== undefined;
}

function attachOnce(host: NetlinkSocket, attachment: Attachment): Attached {
  const { netns, ifName } = attachment;
  refuseOwnNetns(netns);
  const bridge = requireBridge(host, attachment.bridge ?? BRIDGE);
  using guard = bridge.name === BRIDGE ? PortGuard.find(host, bridge) : undefined;
  const extended = attachment.extend ? hostEnd(host, { netns, ifName, bridge: bridge.name }) : undefined;
  return inNetns(netns, (netnsFd) => {
    using inside = new NetlinkSocket(NETLINK_ROUTE);
    const existing = attachment.extend ? linkByName(inside, ifName) : undefined;
    if (existing && !extended) {
      throw new AlreadyAttachedError(
        `${netnsPath(netns)} has an interface ${ifName} that is not on the network; rename or remove it`,
      );
    }
    const gateway = gatewayOf(host, bridge, attachment);
    const made = existing
      ? undefined
      : addVeth(host, inside, attachment, netnsFd, linkMtu(attachment, bridge));
    try {
      const inner = existing ?? made?.inner ?? linkByName(inside, ifName);
      if (inner?.peerIndex === undefined)
        throw new Error(`interface ${ifName} disappeared from ${netnsPath(netns)}`);
      const outer = made && { name: made.name, address: made.address, index: inner.peerIndex };
      const fresh = configure(inside, inner, { ...attachment, gateway });
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
        gateway,
      };
    } catch (error) {
      if (made) linkDelete(host, made.name);
      throw error;
    }
  });
}

function gatewayOf(host: NetlinkSocket, bridge: Link, { gateway, addresses }: Attachment): IPv4 | undefined {
  if (gateway !== "bridge") return gateway;
  const found = nearest(bridgeAddresses(host, bridge), addresses);
  if (!found) throw new NoGatewayError(`bridge ${bridge.name} has no address`);
  return found.address;
}

/** Return the first of the addresses that is in the subnet of a container's first address, else any. */
export function nearest(addresses: readonly Cidr[], [own]: readonly Cidr[]): Cidr | undefined {
  return addresses.find(({ address }) => own && cidrContains(own, address)) ?? addresses[0];
}

/** Bind the port to its source addresses, before it is on the network. */
function guardPort(
  guard: PortGuard,
  outer: LinkEnd | undefined,
  inner: InnerEnd,
  attachment: Attachment,
): void {
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

/**
 * Queues of either end. By default, the kernel makes one for each processor, and removes all but one: that waits for two grace
 * periods, 0.1 ms with two processors.
 */
export const QUEUES = 1;

/** Makes the link; returns the host's end, and the other where the kernel tells its ifindex. */
function addVeth(
  host: NetlinkSocket,
  inside: NetlinkSocket,
  attachment: Attachment,
  netnsFd: number,
  mtu: number,
): Omit<LinkEnd, "index"> & { readonly inner: InnerEnd | undefined } {
  const { netns, containerId, ifName, ends, extend, mac } = attachment;
  const add = (name: string) => {
    // Given here, addresses need not be asked for; and udev leaves them.
    const inner = { address: mac ?? randomMac(), ...ends?.inner };
    const peer = { ...inner, name: ifName, mtu, queues: QUEUES, netnsFd };
    const index = ends?.outer.index;
    const address = ends?.outer.address || randomMac();
    const made = linkAdd(host, { index, address, kind: "veth", name, mtu, queues: QUEUES, up: true, peer });
    const known = made?.peerIndex !== undefined && inner.address !== "";
    return {
      name,
      address,
      inner: known
        ? { index: made.peerIndex, address: inner.address, mtu, peerIndex: made.index }
        : undefined,
    };
  };
  const name = ends?.outer.name ?? vethName(containerId);
  try {
    return add(name);
  } catch (error) {
    if (!isErrno(error, EEXIST)) throw error;
    if (!extend && linkByName(inside, ifName))
      throw new AlreadyAttachedError(`${netnsPath(netns)} has an interface ${ifName} already`);
    if (ends) throw error;
    return add(alternativeVethName(attachment));
  }
}

/** Return a random unicast address, locally administered. */
export function randomMac(): string {
  const octets = crypto.getRandomValues(new Uint8Array(6));
  octets[0] = ((octets[0] ?? 0) & 0xfe) | 2;
  return formatMac(octets);
}

/**
 * Put the outer end on the bridge: last, so that no half-configured container is on the network. It gets its alias once it
 * is complete.
 */
function join(host: NetlinkSocket, outer: LinkEnd, bridge: Link, attachment: Attachment): void {
  const { hairpin = true, ends } = attachment;
  joinBridge(host, outer, bridge, ends ? (ends.outer.alias ?? "") : vethAlias(attachment), hairpin);
}

/** Put the host's end of a link on the bridge, with its alias. Throws NetlinkError. */
export function joinBridge(
  host: NetlinkSocket,
  { name, index }: Pick<LinkEnd, "name" | "index">,
  bridge: Link,
  alias: string,
  hairpin = false,
): void {
  host.requests([
    linkChange(name, index, { master: bridge.index }),
    ...(hairpin ? [bridgePortChange(name, index, { hairpin })] : []),
    linkChange(name, index, { alias }),
  ]);
}

/** Configure the inner end, with this thread in the container's namespace; return the addresses that are new to it. */
function configure(
  inside: NetlinkSocket,
  link: InnerEnd,
  attachment: Attachment & { readonly gateway: IPv4 | undefined },
): Cidr[] {
  const { ifName, addresses, gateway, routes, multicastRoute } = attachment;
  writeIpv6Settings(ifName);
  const requests = [
    ...addresses.map((cidr) => addressAddition(ifName, link.index, cidr)),
    ...ipv4Settings({ name: ifName, index: link.index }),
    linkChange(ifName, link.index, { up: true }),
  ];
  const route = (wanted: Route) => requests.push(routeAddition({ ...wanted, link: link.index }));
  if (multicastRoute) route({ destination: MULTICAST });
  // What can be reached without a gateway so far: a route by one needs that.
  const onLink = [...addresses];
  for (const wanted of routes) {
    // One whose scope is the link has no gateway.
    const via = wanted.gateway ?? (wanted.scope === RT_SCOPE_LINK ? undefined : gateway);
    const { table } = wanted;
    if (via !== undefined && !onLink.some((cidr) => cidrContains(cidr, via)))
      route({ destination: { address: via, prefix: 32 }, table });
    route({ ...wanted, gateway: via });
    if (via === undefined && (table ?? RT_TABLE_MAIN) === RT_TABLE_MAIN) onLink.push(wanted.destination);
  }
  // An extended link has some of them.
  const done = inside.attempts(requests, EEXIST);
  return addresses.filter((_, i) => done[i]);
}
