// The link of a container whose runtime moves it into the container itself, and configures it there: Docker's endpoints.
import { type Cidr, formatIPv4 } from "../address/ipv4.ts";
import { linkDelete } from "../netlink/link/delete.ts";
import { LINK_NAME_MAX } from "../netlink/link/message.ts";
import { type Link, linkAdd, linkByIndex, linkByName } from "../netlink/link.ts";
import { NETLINK_ROUTE, NetlinkSocket } from "../netlink/socket.ts";
import { EEXIST, isErrno } from "../sys/errno.ts";
import { inNetns } from "../sys/netns.ts";
import { announce } from "./arp.ts";
import { joinBridge, QUEUES, randomMac } from "./attach.ts";
import { requireBridge } from "./bridge.ts";
import { inspectPorts } from "./containers.ts";
import { applyLinkSettings } from "./linksettings.ts";
import { networkMtuOf, tellMtu } from "./mtu.ts";
import { alternativeVethName, vethAlias, vethName } from "./names.ts";
import { PortGuard } from "./ports/guard.ts";

/** Name of the inner end before it is moved, as the original has it. */
const INNER_PREFIX = "vethwg";

export interface NewEndpoint {
  readonly id: string;
  /** Ethernet address of the inner end; a random one unless given. */
  readonly mac?: string | undefined;
  /** What the container may use where ports are bound to their addresses. */
  readonly addresses: readonly Cidr[];
}

export interface MadeEndpoint {
  /** Names of the two ends, both in this host's namespace. */
  readonly outer: string;
  readonly inner: string;
  readonly alias: string;
  readonly mac: string;
}

/** Make the link of an endpoint, in place of one that was left. Throws NetlinkError, with nothing made. */
export function addEndpoint({ id, mac = randomMac(), addresses }: NewEndpoint): MadeEndpoint {
  using host = new NetlinkSocket(NETLINK_ROUTE);
  const bridge = requireBridge(host);
  const inner = `${INNER_PREFIX}${id.slice(0, LINK_NAME_MAX - INNER_PREFIX.length)}`;
  const owner = { containerId: id, ifName: inner };
  const left = linkByName(host, inner);
  if (left) linkDelete(host, inner);
  const outer = addVeth(host, owner, { name: inner, address: mac, mtu: bridge.mtu });
  try {
    const made = linkByName(host, outer);
    if (!made) throw new Error(`link ${outer} disappeared`);
    using guard = PortGuard.find(host, bridge);
    if (guard) {
      guard.attach(made);
      const bound = addresses.map(({ address }) => formatIPv4(address));
      guard.bind(made.index, { mac, addresses: bound, allowed: undefined });
    }
    const alias = vethAlias(owner);
    joinBridge(host, made, bridge, alias);
    return { outer, inner, alias, mac };
  } catch (error) {
    linkDelete(host, outer);
    throw error;
  }
}

function addVeth(
  host: NetlinkSocket,
  owner: { readonly containerId: string; readonly ifName: string },
  peer: { readonly name: string; readonly address: string; readonly mtu: number },
): string {
  const add = (name: string) => {
    const own = { name, mtu: peer.mtu, address: randomMac(), queues: QUEUES, up: true };
    linkAdd(host, { kind: "veth", ...own, peer: { ...peer, queues: QUEUES } });
    return name;
  };
  try {
    return add(vethName(owner.containerId));
  } catch (error) {
    if (!isErrno(error, EEXIST)) throw error;
    return add(alternativeVethName(owner));
  }
}

/**
 * Finish what the runtime leaves out, once the link with this name has been moved: settings, the MTU of the network, and an
 * announcement of its addresses. Returns its name inside; undefined where it is in no container. Throws NetnsError,
 * NetlinkError.
 */
export function tuneEndpoint(outer: string): string | undefined {
  using host = new NetlinkSocket(NETLINK_ROUTE);
  const port = linkByName(host, outer);
  const inside = port && inspectPorts(host, [port]).get(port.index);
  if (!inside) return undefined;
  const { link, netns } = inside;
  inNetns(netns, () => {
    using nl = new NetlinkSocket(NETLINK_ROUTE);
    applyLinkSettings(nl, link);
    const network = networkMtuOf(requireBridge(host));
    if (network !== undefined) tellMtu(nl, link, network);
    const now: Link | undefined = linkByIndex(nl, link.index);
    if (now) announce(nl, now);
  });
  return link.name;
}
