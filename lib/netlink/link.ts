// Network links by rtnetlink(7): RTM_NEWLINK and its kin (linux/if_link.h).
import { formatMac } from "../address/mac.ts";
import { ENODEV, unlessErrno } from "../sys/errno.ts";
import { AttributeEncoder, decodeBody, familyHeader } from "./attributes.ts";
import { decodeBridge, type FoundBridge } from "./link/bridge.ts";
import { type BridgePort, decodeBridgePort } from "./link/bridgeport.ts";
import { isLeavingGroup } from "./link/delete.ts";
import {
  encodeKind,
  encodeSettings,
  IFF_NOARP,
  IFF_RUNNING,
  IFF_UP,
  IFINFOMSG,
  IFLA_ADDRESS,
  IFLA_EXT_MASK,
  IFLA_GROUP,
  IFLA_IFALIAS,
  IFLA_IFNAME,
  IFLA_INFO_DATA,
  IFLA_INFO_KIND,
  IFLA_INFO_SLAVE_DATA,
  IFLA_LINK,
  IFLA_LINK_NETNSID,
  IFLA_LINKINFO,
  IFLA_MASTER,
  IFLA_MTU,
  IFLA_QDISC,
  IFLA_TXQLEN,
  ifinfomsg,
  type LinkSettings,
  linkMessage,
  RTM_GETLINK,
  RTM_NEWLINK,
} from "./link/message.ts";
import { decodeVxlan, encodeVxlan, type Vxlan } from "./link/vxlan.ts";
import { type Message, NLM_F_CREATE, NLM_F_ECHO, NLM_F_EXCL } from "./message.ts";
import type { NetlinkSocket, Request } from "./socket.ts";

/** Counters would double the size of an answer. */
const RTEXT_FILTER_SKIP_STATS = 1 << 3;
const VETH_INFO_PEER = 1;

/** A link to make; with the next free ifindex unless one is given. */
type Made = LinkSettings & { readonly name: string; readonly index?: number | undefined };

/** A link to make. The other end of a veth gets its ifindex only if this end has one, too. */
export type NewLink = Made &
  (
    | { readonly kind: "bridge" }
    | { readonly kind: "veth"; readonly peer: Made }
    /** A VXLAN device whose peer and network id come with each packet (`external`); UDP `port`. */
    | { readonly kind: "vxlan"; readonly port: number }
  );

/** A link as the kernel describes it. */
export interface Link {
  readonly index: number;
  readonly name: string;
  readonly kind: string | undefined;
  readonly alias: string | undefined;
  readonly mtu: number;
  readonly address: string | undefined;
  readonly master: number | undefined;
  /** For a veth, the ifindex of the other end (in that end's namespace). */
  readonly peerIndex: number | undefined;
  /** The other end's namespace, by its id in this one (netns.ts); undefined where it is this one. */
  readonly peerNetns: number | undefined;
  readonly up: boolean;
  readonly arp: boolean;
  /** Packets that may wait to be sent. */
  readonly queue: number;
  /** The root queueing discipline: "noqueue" for a veth that nobody has given one. */
  readonly qdisc?: string | undefined;
  readonly vxlan: Vxlan | undefined;
  /** Whether the other end of a veth is up, too. */
  readonly carrier: boolean;
  /** linksDelete() is removing it, or has. */
  readonly leaving: boolean;
  readonly bridge: FoundBridge | undefined;
  readonly bridgePort: BridgePort | undefined;
}

/** Return the body of the RTM_NEWLINK that makes a link. */
export function encodeNewLink(link: NewLink): Uint8Array {
  const encoder = new AttributeEncoder().raw(ifinfomsg(link.index ?? 0, link.up));
  encodeSettings(encoder, link);
  switch (link.kind) {
    case "bridge":
      return encodeKind(encoder, "bridge").done();
    case "veth":
      return encodeKind(encoder, "veth", (data) => encodePeer(data, link.peer)).done();
    case "vxlan":
      return encodeKind(encoder, "vxlan", (data) => encodeVxlan(data, link.port)).done();
  }
}

function encodePeer(encoder: AttributeEncoder, peer: Made): void {
  encoder.nested(
    VETH_INFO_PEER,
    (inner) => encodeSettings(inner.raw(ifinfomsg(peer.index ?? 0, peer.up)), peer),
    false,
  );
}

/**
 * Make a link and return it; undefined before Linux 6.2, which does not tell. Throws NetlinkError, with EEXIST when the name is
 * taken.
 */
export function linkAdd(nl: NetlinkSocket, link: NewLink): Link | undefined {
  const [made] = nl.request({
    operation: `link add ${link.name}`,
    type: RTM_NEWLINK,
    flags: NLM_F_CREATE | NLM_F_EXCL | NLM_F_ECHO,
    body: encodeNewLink(link),
  });
  return made && decodeLink(made);
}

/** Change a link. `what` names it in errors. */
export function linkSet(nl: NetlinkSocket, what: string, index: number, settings: LinkSettings): void {
  nl.request(linkChange(what, index, settings));
}

/** Return the request of linkSet(). */
export function linkChange(what: string, index: number, settings: LinkSettings): Request {
  const encoder = new AttributeEncoder().raw(ifinfomsg(index, settings.up, settings.arp));
  encodeSettings(encoder, settings);
  return { operation: `link set ${what}`, type: RTM_NEWLINK, body: encoder.done() };
}

/** Return the link of this index, if there is one. */
export function linkByIndex(nl: NetlinkSocket, index: number): Link | undefined {
  return getLink(nl, index, linkMessage(index));
}

/** Return the link of this name, if there is one. */
export function linkByName(nl: NetlinkSocket, name: string): Link | undefined {
  return getLink(nl, name, linkMessage().string(IFLA_IFNAME, name));
}

/** Return all links of the namespace. */
export function linkList(nl: NetlinkSocket): Link[] {
  const body = linkMessage().u32(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS).done();
  return nl.dump({ operation: "link list", type: RTM_GETLINK, body }).map(decodeLink);
}

function getLink(nl: NetlinkSocket, which: number | string, query: AttributeEncoder): Link | undefined {
  const body = query.u32(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS).done();
  const request = { operation: `link get ${which}`, type: RTM_GETLINK, body };
  const [message] = unlessErrno([ENODEV], () => nl.request(request)) ?? [];
  return message && decodeLink(message);
}

/** Read of an RTM_NEWLINK or RTM_DELLINK whether a link is up and has a carrier. */
export function linkState({ body }: Message): { readonly index: number; readonly running: boolean } {
  const view = familyHeader(body, IFINFOMSG);
  const flags = view.getUint32(8, true);
  return { index: view.getInt32(4, true), running: (flags & IFF_UP) !== 0 && (flags & IFF_RUNNING) !== 0 };
}

/** Read an RTM_NEWLINK or RTM_DELLINK. */
export function decodeLink({ body }: Pick<Message, "body">): Link {
  const { header, attributes } = decodeBody(body, IFINFOMSG);
  const info = attributes.get(IFLA_LINKINFO)?.nested;
  const kind = info?.get(IFLA_INFO_KIND)?.string;
  const address = attributes.get(IFLA_ADDRESS)?.payload;
  const flags = header.getUint32(8, true);
  const carrier = (flags & IFF_RUNNING) !== 0;
  const data = info?.get(IFLA_INFO_DATA)?.nested;
  return {
    index: header.getInt32(4, true),
    name: attributes.get(IFLA_IFNAME)?.string ?? "",
    kind,
    alias: attributes.get(IFLA_IFALIAS)?.string,
    mtu: attributes.get(IFLA_MTU)?.u32 ?? 0,
    address: address && formatMac(address),
    master: attributes.get(IFLA_MASTER)?.u32,
    peerIndex: attributes.get(IFLA_LINK)?.u32,
    peerNetns: attributes.get(IFLA_LINK_NETNSID)?.u32,
    up: (flags & IFF_UP) !== 0,
    arp: (flags & IFF_NOARP) === 0,
    queue: attributes.get(IFLA_TXQLEN)?.u32 ?? 0,
    qdisc: attributes.get(IFLA_QDISC)?.string,
    carrier,
    leaving: isLeavingGroup(attributes.get(IFLA_GROUP)?.u32 ?? 0),
    vxlan: kind === "vxlan" ? decodeVxlan(data) : undefined,
    bridge: kind === "bridge" ? decodeBridge(data) : undefined,
    bridgePort:
      attributes.get(IFLA_MASTER) && decodeBridgePort(info?.get(IFLA_INFO_SLAVE_DATA)?.nested, carrier),
  };
}
