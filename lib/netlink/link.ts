// Network links by rtnetlink(7): RTM_NEWLINK and its kin (linux/if_link.h). Bytes follow what ip(8) and bridge(8) send.
import { formatMac, parseMac } from "../address/mac.ts";
import { ENODEV, isErrno } from "../sys/errno.ts";
import { AttributeEncoder, type Attributes, decodeAttributes, familyHeader } from "./attributes.ts";
import { type Message, NLM_F_CREATE, NLM_F_EXCL } from "./message.ts";
import type { NetlinkSocket } from "./socket.ts";

export const RTM_NEWLINK = 16;
export const RTM_DELLINK = 17;
const RTM_GETLINK = 18;
const RTM_SETLINK = 19;

const AF_UNSPEC = 0;
const AF_BRIDGE = 7;

const IFINFOMSG = 16;
const IFF_UP = 1;
const IFF_RUNNING = 0x40;
const IFF_NOARP = 0x80;

const IFLA_ADDRESS = 1;
const IFLA_IFNAME = 3;
const IFLA_MTU = 4;
const IFLA_LINK = 5;
const IFLA_MASTER = 10;
const IFLA_PROTINFO = 12;
const IFLA_TXQLEN = 13;
const IFLA_LINKINFO = 18;
const IFLA_IFALIAS = 20;
export const IFLA_GROUP = 27;
const IFLA_EXT_MASK = 29;
const RTEXT_FILTER_SKIP_STATS = 1 << 3;
const IFLA_NET_NS_FD = 28;
const IFLA_LINK_NETNSID = 37;

const IFLA_INFO_KIND = 1;
const IFLA_INFO_DATA = 2;
const IFLA_INFO_SLAVE_DATA = 5;

const VETH_INFO_PEER = 1;
const IFLA_VXLAN_LEARNING = 7;
const IFLA_VXLAN_PORT = 15;
const IFLA_VXLAN_COLLECT_METADATA = 25;

/** Flags of bridge ports: IFLA_BRPORT_MODE and so on, a byte each. */
const BRIDGE_PORT_FLAGS = {
  hairpin: 4,
  guard: 5,
  rootBlock: 6,
  learning: 8,
  flood: 9,
  multicastFlood: 27,
  broadcastFlood: 30,
  isolated: 33,
} as const;

const IFLA_BRPORT_STATE = 1;
/** linux/if_bridge.h */
const BR_STATE_FORWARDING = 3;
const BR_STATE_BLOCKING = 4;

const IFLA_BR_AGEING_TIME = 4;
const IFLA_BR_STP_STATE = 5;
const IFLA_BR_VLAN_FILTERING = 7;
const IFLA_BR_MCAST_SNOOPING = 23;

/** The longest name of a link: IFNAMSIZ without its terminating zero. */
export const LINK_NAME_MAX = 15;
/** Bytes: IFALIASZ without its terminating zero. */
export const LINK_ALIAS_MAX = 255;

/** What a link can be given when it is made, and later. */
export interface LinkSettings {
  readonly name?: string;
  /** Bytes. */
  readonly mtu?: number;
  /** Ethernet address, "aa:bb:cc:dd:ee:ff". */
  readonly address?: string;
  /** ifindex of the bridge it is a port of; 0 takes it out of its bridge. */
  readonly master?: number;
  readonly up?: boolean;
  /** Whether the host answers and asks by ARP there (`ip link set LINK arp on`). */
  readonly arp?: boolean;
  /** Packets that may wait to be sent. */
  readonly queue?: number;
  /** A text of at most LINK_ALIAS_MAX bytes that the kernel keeps with the link. */
  readonly alias?: string;
  /** An open fd of the network namespace it belongs in. */
  readonly netnsFd?: number;
}

/** A link to be made; the next free ifindex unless one is given. */
type Made = LinkSettings & { readonly name: string; readonly index?: number | undefined };

/** A link to be made. The other end of a veth gets the ifindex given only if this end is given one, too. */
export type NewLink = Made &
  (
    | { readonly kind: "bridge" }
    | { readonly kind: "veth"; readonly peer: Made }
    /** A VXLAN device whose peer and network id come with each packet (`external`); UDP `port`. */
    | { readonly kind: "vxlan"; readonly port: number }
  );

/** Settings of a port of a bridge. */
export type BridgePort = { readonly [Flag in keyof typeof BRIDGE_PORT_FLAGS]?: boolean } & {
  /** It forwards no frames although its link has a carrier; the kernel itself does that to those without one. */
  readonly blocked?: boolean;
};

/** How a bridge works. */
export interface BridgeMode {
  /** How long an Ethernet address is remembered, in 1/100 s. */
  readonly ageingTime: number;
  readonly stp: boolean;
  readonly vlanFiltering: boolean;
  readonly multicastSnooping: boolean;
}

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
  readonly vxlan:
    | { readonly port: number; readonly external: boolean; readonly learning: boolean }
    | undefined;
  /** Whether the other end of a veth is up, too. */
  readonly carrier: boolean;
  /** It is about to be removed by linksDelete(), or was. */
  readonly leaving: boolean;
  readonly bridge: Partial<BridgeMode> | undefined;
  readonly bridgePort: Required<BridgePort> | undefined;
}

/** struct ifinfomsg (linux/rtnetlink.h); flags that are undefined stay as they are. */
function header(family: number, index: number, up: boolean | undefined, arp?: boolean): Uint8Array {
  const bytes = new Uint8Array(IFINFOMSG);
  const view = new DataView(bytes.buffer);
  view.setUint8(0, family);
  view.setInt32(4, index, true);
  view.setUint32(8, (up ? IFF_UP : 0) | (arp === false ? IFF_NOARP : 0), true);
  view.setUint32(12, (up === undefined ? 0 : IFF_UP) | (arp === undefined ? 0 : IFF_NOARP), true);
  return bytes;
}

function encodeSettings(encoder: AttributeEncoder, settings: LinkSettings): void {
  if (settings.address !== undefined) encoder.bytes(IFLA_ADDRESS, parseMac(settings.address));
  if (settings.mtu !== undefined) encoder.u32(IFLA_MTU, settings.mtu);
  if (settings.name !== undefined) encoder.string(IFLA_IFNAME, settings.name);
  if (settings.queue !== undefined) encoder.u32(IFLA_TXQLEN, settings.queue);
  if (settings.alias !== undefined) encoder.bytes(IFLA_IFALIAS, new TextEncoder().encode(settings.alias));
  if (settings.master !== undefined) encoder.u32(IFLA_MASTER, settings.master);
  if (settings.netnsFd !== undefined) encoder.u32(IFLA_NET_NS_FD, settings.netnsFd);
}

/** The body of the RTM_NEWLINK that makes a link. */
export function encodeNewLink(link: NewLink): Uint8Array {
  const encoder = new AttributeEncoder().raw(header(AF_UNSPEC, link.index ?? 0, link.up));
  encodeSettings(encoder, link);
  encoder.nested(
    IFLA_LINKINFO,
    (info) => {
      // ip(8) leaves the terminating zero of the kind away; the kernel takes both.
      info.bytes(IFLA_INFO_KIND, new TextEncoder().encode(link.kind));
      if (link.kind === "veth") info.nested(IFLA_INFO_DATA, (data) => encodePeer(data, link.peer), false);
      if (link.kind === "vxlan") info.nested(IFLA_INFO_DATA, (data) => encodeVxlan(data, link.port), false);
    },
    false,
  );
  return encoder.done();
}

function encodePeer(encoder: AttributeEncoder, peer: Made): void {
  encoder.nested(
    VETH_INFO_PEER,
    (inner) => encodeSettings(inner.raw(header(AF_UNSPEC, peer.index ?? 0, peer.up)), peer),
    false,
  );
}

function encodeVxlan(encoder: AttributeEncoder, port: number): void {
  encoder.u8(IFLA_VXLAN_LEARNING, 0).u16be(IFLA_VXLAN_PORT, port).u8(IFLA_VXLAN_COLLECT_METADATA, 1);
}

/** Makes a link; NetlinkError with EEXIST when the name is taken. */
export function linkAdd(nl: NetlinkSocket, link: NewLink): void {
  nl.request({
    operation: `link add ${link.name}`,
    type: RTM_NEWLINK,
    flags: NLM_F_CREATE | NLM_F_EXCL,
    body: encodeNewLink(link),
  });
}

/** Changes a link. `what` names it in errors. */
export function linkSet(nl: NetlinkSocket, what: string, index: number, settings: LinkSettings): void {
  const encoder = new AttributeEncoder().raw(header(AF_UNSPEC, index, settings.up, settings.arp));
  encodeSettings(encoder, settings);
  nl.request({ operation: `link set ${what}`, type: RTM_NEWLINK, body: encoder.done() });
}

/** Stops a VXLAN link from learning where Ethernet addresses are. `what` names it in errors. */
export function vxlanStopLearning(nl: NetlinkSocket, what: string, index: number): void {
  setKind(nl, `link set ${what} nolearning`, index, "vxlan", (data) => data.u8(IFLA_VXLAN_LEARNING, 0));
}

/** Changes how a bridge works. */
export function bridgeSet(nl: NetlinkSocket, what: string, index: number, mode: Partial<BridgeMode>): void {
  const { ageingTime, stp, vlanFiltering, multicastSnooping } = mode;
  setKind(nl, `bridge set ${what}`, index, "bridge", (data) => {
    if (ageingTime !== undefined) data.u32(IFLA_BR_AGEING_TIME, ageingTime);
    if (stp !== undefined) data.u32(IFLA_BR_STP_STATE, Number(stp));
    if (vlanFiltering !== undefined) data.u8(IFLA_BR_VLAN_FILTERING, Number(vlanFiltering));
    if (multicastSnooping !== undefined) data.u8(IFLA_BR_MCAST_SNOOPING, Number(multicastSnooping));
  });
}

/** Changes what only links of this kind have. */
function setKind(
  nl: NetlinkSocket,
  operation: string,
  index: number,
  kind: string,
  fill: (data: AttributeEncoder) => void,
): void {
  const encoder = new AttributeEncoder().raw(header(AF_UNSPEC, index, undefined));
  encoder.nested(
    IFLA_LINKINFO,
    (info) => {
      info.bytes(IFLA_INFO_KIND, new TextEncoder().encode(kind));
      info.nested(IFLA_INFO_DATA, fill, false);
    },
    false,
  );
  nl.request({ operation, type: RTM_NEWLINK, body: encoder.done() });
}

/** The body of the RTM_SETLINK that changes a port of a bridge. */
export function encodeBridgePort(index: number, port: BridgePort): Uint8Array {
  const encoder = new AttributeEncoder().raw(header(AF_BRIDGE, index, undefined));
  encoder.nested(IFLA_PROTINFO, (info) => {
    const { blocked, ...flags } = port;
    if (blocked !== undefined) info.u8(IFLA_BRPORT_STATE, blocked ? BR_STATE_BLOCKING : BR_STATE_FORWARDING);
    for (const [flag, on] of Object.entries(flags)) {
      info.u8(BRIDGE_PORT_FLAGS[flag as keyof typeof BRIDGE_PORT_FLAGS], Number(on));
    }
  });
  return encoder.done();
}

/** Changes how a bridge treats one of its ports. */
export function bridgePortSet(nl: NetlinkSocket, what: string, index: number, port: BridgePort): void {
  nl.request({
    operation: `bridge port set ${what}`,
    type: RTM_SETLINK,
    body: encodeBridgePort(index, port),
  });
}

/** Removes a link; true if it was there. */
export function linkDelete(nl: NetlinkSocket, name: string): boolean {
  const body = new AttributeEncoder()
    .raw(header(AF_UNSPEC, 0, undefined))
    .string(IFLA_IFNAME, name)
    .done();
  return (
    unlessGone(() => nl.request({ operation: `link delete ${name}`, type: RTM_DELLINK, body })) !== undefined
  );
}

/** Groups of links that are being removed: random numbers from here to twice that. */
const LEAVING_GROUPS = 1 << 30;

/** Whether links of a group are about to be removed by linksDelete(). */
export const isLeavingGroup = (group: number) => group >= LEAVING_GROUPS && group < 2 * LEAVING_GROUPS;

/**
 * Removes links by their index; those that are gone already are no error. All at once: a removal waits for the kernel's
 * grace period (10 to 20 ms), and links of one group share that (50 in 50 ms instead of 1.1 s). The group also tells
 * those who hear of the removal that it was meant.
 */
export function linksDelete(nl: NetlinkSocket, indices: readonly number[]): void {
  const group = LEAVING_GROUPS | ((crypto.getRandomValues(new Uint32Array(1))[0] ?? 0) >>> 2);
  const gather = (index: number) =>
    unlessGone(() =>
      nl.request({
        operation: `link set ${index} group ${group}`,
        type: RTM_SETLINK,
        body: new AttributeEncoder()
          .raw(header(AF_UNSPEC, index, undefined))
          .u32(IFLA_GROUP, group)
          .done(),
      }),
    ) !== undefined;
  if (indices.filter(gather).length === 0) return;
  const body = new AttributeEncoder()
    .raw(header(AF_UNSPEC, 0, undefined))
    .u32(IFLA_GROUP, group)
    .done();
  unlessGone(() => nl.request({ operation: `link delete group ${group}`, type: RTM_DELLINK, body }));
}

/** The link of this index, if there is one. */
export function linkByIndex(nl: NetlinkSocket, index: number): Link | undefined {
  const body = header(AF_UNSPEC, index, undefined);
  return first(unlessGone(() => nl.request({ operation: `link get ${index}`, type: RTM_GETLINK, body })));
}

/** The link of this name, if there is one. */
export function linkByName(nl: NetlinkSocket, name: string): Link | undefined {
  const body = new AttributeEncoder()
    .raw(header(AF_UNSPEC, 0, undefined))
    .string(IFLA_IFNAME, name)
    .done();
  return first(unlessGone(() => nl.request({ operation: `link get ${name}`, type: RTM_GETLINK, body })));
}

/** All links of the namespace. */
export function linkList(nl: NetlinkSocket): Link[] {
  // Counters are half of what the kernel would tell.
  const body = new AttributeEncoder()
    .raw(header(AF_UNSPEC, 0, undefined))
    .u32(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS)
    .done();
  return nl.dump({ operation: "link list", type: RTM_GETLINK, body }).map(decodeLink);
}

function first(messages: Message[] | undefined): Link | undefined {
  const message = messages?.[0];
  return message && decodeLink(message);
}

function unlessGone<T>(fn: () => T): T | undefined {
  try {
    return fn();
  } catch (error) {
    if (isErrno(error, ENODEV)) return undefined;
    throw error;
  }
}

/** The part of an RTM_NEWLINK or RTM_DELLINK that tells whether packets leave by a link: up, and with a carrier. */
export function linkState({ body }: Message): { readonly index: number; readonly running: boolean } {
  const view = new DataView(body.buffer, body.byteOffset, body.length);
  const flags = view.getUint32(8, true);
  return { index: view.getInt32(4, true), running: (flags & IFF_UP) !== 0 && (flags & IFF_RUNNING) !== 0 };
}

/** Reads an RTM_NEWLINK or RTM_DELLINK. */
export function decodeLink(message: Message): Link {
  const { body } = message;
  const view = familyHeader(body, IFINFOMSG);
  const attributes = decodeAttributes(body.subarray(IFINFOMSG));
  const info = attributes.get(IFLA_LINKINFO)?.nested;
  const kind = info?.get(IFLA_INFO_KIND)?.string;
  const address = attributes.get(IFLA_ADDRESS)?.payload;
  const carrier = (view.getUint32(8, true) & IFF_RUNNING) !== 0;
  return {
    index: view.getInt32(4, true),
    name: attributes.get(IFLA_IFNAME)?.string ?? "",
    kind,
    alias: attributes.get(IFLA_IFALIAS)?.string,
    mtu: attributes.get(IFLA_MTU)?.u32 ?? 0,
    address: address && formatMac(address),
    master: attributes.get(IFLA_MASTER)?.u32,
    peerIndex: attributes.get(IFLA_LINK)?.u32,
    peerNetns: attributes.get(IFLA_LINK_NETNSID)?.u32,
    up: (view.getUint32(8, true) & IFF_UP) !== 0,
    arp: (view.getUint32(8, true) & IFF_NOARP) === 0,
    queue: attributes.get(IFLA_TXQLEN)?.u32 ?? 0,
    carrier,
    leaving: isLeavingGroup(attributes.get(IFLA_GROUP)?.u32 ?? 0),
    vxlan: kind === "vxlan" ? decodeVxlan(info?.get(IFLA_INFO_DATA)?.nested) : undefined,
    bridge: kind === "bridge" ? decodeBridge(info?.get(IFLA_INFO_DATA)?.nested) : undefined,
    bridgePort:
      attributes.get(IFLA_MASTER) && decodeBridgePort(info?.get(IFLA_INFO_SLAVE_DATA)?.nested, carrier),
  };
}

/** As far as the kernel tells: it may be built without VLANs or snooping. */
function decodeBridge(data: Attributes | undefined): Partial<BridgeMode> {
  const [ageingTime, stp] = [data?.get(IFLA_BR_AGEING_TIME)?.u32, data?.get(IFLA_BR_STP_STATE)?.u32];
  const vlanFiltering = data?.get(IFLA_BR_VLAN_FILTERING)?.u8;
  const multicastSnooping = data?.get(IFLA_BR_MCAST_SNOOPING)?.u8;
  return {
    ...(ageingTime !== undefined && { ageingTime }),
    ...(stp !== undefined && { stp: stp !== 0 }),
    ...(vlanFiltering !== undefined && { vlanFiltering: vlanFiltering !== 0 }),
    ...(multicastSnooping !== undefined && { multicastSnooping: multicastSnooping !== 0 }),
  };
}

function decodeVxlan(data: Attributes | undefined): Link["vxlan"] {
  return {
    port: data?.get(IFLA_VXLAN_PORT)?.u16be ?? 0,
    external: (data?.get(IFLA_VXLAN_COLLECT_METADATA)?.u8 ?? 0) !== 0,
    learning: (data?.get(IFLA_VXLAN_LEARNING)?.u8 ?? 0) !== 0,
  };
}

function decodeBridgePort(data: Attributes | undefined, carrier: boolean): Required<BridgePort> | undefined {
  if (!data) return undefined;
  const flag = (type: number) => (data.get(type)?.u8 ?? 0) !== 0;
  return {
    hairpin: flag(BRIDGE_PORT_FLAGS.hairpin),
    guard: flag(BRIDGE_PORT_FLAGS.guard),
    rootBlock: flag(BRIDGE_PORT_FLAGS.rootBlock),
    learning: flag(BRIDGE_PORT_FLAGS.learning),
    flood: flag(BRIDGE_PORT_FLAGS.flood),
    multicastFlood: flag(BRIDGE_PORT_FLAGS.multicastFlood),
    broadcastFlood: flag(BRIDGE_PORT_FLAGS.broadcastFlood),
    isolated: flag(BRIDGE_PORT_FLAGS.isolated),
    blocked: carrier && data.get(IFLA_BRPORT_STATE)?.u8 !== BR_STATE_FORWARDING,
  };
}
