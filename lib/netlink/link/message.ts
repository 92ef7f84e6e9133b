// Messages about links by rtnetlink(7): struct ifinfomsg (linux/rtnetlink.h) and IFLA_* (linux/if_link.h). Bytes follow what
// ip(8) and bridge(8) send.
import { parseMac } from "../../address/mac.ts";
import { AttributeEncoder } from "../attributes.ts";
import type { NetlinkSocket } from "../socket.ts";

export const RTM_NEWLINK = 16;
export const RTM_DELLINK = 17;
export const RTM_GETLINK = 18;
export const RTM_SETLINK = 19;

export const AF_UNSPEC = 0;

/** Bytes of struct ifinfomsg. */
export const IFINFOMSG = 16;
export const IFF_UP = 1;
export const IFF_RUNNING = 0x40;
export const IFF_NOARP = 0x80;

export const IFLA_ADDRESS = 1;
export const IFLA_IFNAME = 3;
export const IFLA_MTU = 4;
export const IFLA_LINK = 5;
export const IFLA_MASTER = 10;
export const IFLA_QDISC = 6;
export const IFLA_TXQLEN = 13;
export const IFLA_LINKINFO = 18;
export const IFLA_IFALIAS = 20;
export const IFLA_GROUP = 27;
const IFLA_NET_NS_FD = 28;
export const IFLA_EXT_MASK = 29;
const IFLA_NUM_TX_QUEUES = 31;
const IFLA_NUM_RX_QUEUES = 32;
export const IFLA_LINK_NETNSID = 37;

export const IFLA_INFO_KIND = 1;
export const IFLA_INFO_DATA = 2;
export const IFLA_INFO_SLAVE_DATA = 5;

/** The longest name of a link: IFNAMSIZ without its terminating zero. */
export const LINK_NAME_MAX = 15;
/** Bytes: IFALIASZ without its terminating zero. */
export const LINK_ALIAS_MAX = 255;

/** Settings of a link, when it is made and later. */
export interface LinkSettings {
  readonly name?: string;
  /** Bytes. */
  readonly mtu?: number;
  /** Ethernet address, "aa:bb:cc:dd:ee:ff". */
  readonly address?: string;
  /** ifindex of its bridge; 0 for none. */
  readonly master?: number;
  readonly up?: boolean;
  /** Whether the host answers and asks by ARP there (`ip link set LINK arp on`). */
  readonly arp?: boolean;
  /** Length of the transmit queue, in packets. */
  readonly queue?: number;
  /** Queues to make it with, for each direction; the kernel's choice for its kind unless given. */
  readonly queues?: number;
  /** A text of at most LINK_ALIAS_MAX bytes that the kernel keeps with the link. */
  readonly alias?: string;
  /** An open fd of the network namespace to move it to. */
  readonly netnsFd?: number;
}

/** struct ifinfomsg (linux/rtnetlink.h); flags that are undefined stay as they are. */
export function ifinfomsg(index: number, up?: boolean, arp?: boolean, family = AF_UNSPEC): Uint8Array {
  const bytes = new Uint8Array(IFINFOMSG);
  const view = new DataView(bytes.buffer);
  view.setUint8(0, family);
  view.setInt32(4, index, true);
  view.setUint32(8, (up ? IFF_UP : 0) | (arp === false ? IFF_NOARP : 0), true);
  view.setUint32(12, (up === undefined ? 0 : IFF_UP) | (arp === undefined ? 0 : IFF_NOARP), true);
  return bytes;
}

/** Begin a message about the link of this index; 0 where a name or group says which. */
export function linkMessage(index = 0): AttributeEncoder {
  return new AttributeEncoder().raw(ifinfomsg(index));
}

export function encodeSettings(encoder: AttributeEncoder, settings: LinkSettings): void {
  if (settings.address !== undefined) encoder.bytes(IFLA_ADDRESS, parseMac(settings.address));
  if (settings.mtu !== undefined) encoder.u32(IFLA_MTU, settings.mtu);
  if (settings.name !== undefined) encoder.string(IFLA_IFNAME, settings.name);
  if (settings.queue !== undefined) encoder.u32(IFLA_TXQLEN, settings.queue);
  if (settings.queues !== undefined)
    encoder.u32(IFLA_NUM_TX_QUEUES, settings.queues).u32(IFLA_NUM_RX_QUEUES, settings.queues);
  if (settings.alias !== undefined) encoder.bytes(IFLA_IFALIAS, new TextEncoder().encode(settings.alias));
  if (settings.master !== undefined) encoder.u32(IFLA_MASTER, settings.master);
  if (settings.netnsFd !== undefined) encoder.u32(IFLA_NET_NS_FD, settings.netnsFd);
}

/** Encode IFLA_LINKINFO: the kind, and what only links of it have. */
export function encodeKind(
  encoder: AttributeEncoder,
  kind: string,
  fill?: (data: AttributeEncoder) => void,
): AttributeEncoder {
  return encoder.nested(
    IFLA_LINKINFO,
    (info) => {
      // ip(8) leaves the terminating zero of the kind away; the kernel takes both.
      info.bytes(IFLA_INFO_KIND, new TextEncoder().encode(kind));
      if (fill) info.nested(IFLA_INFO_DATA, fill, false);
    },
    false,
  );
}

/** Change what only links of this kind have; throws NetlinkError. */
export function setKind(
  nl: NetlinkSocket,
  operation: string,
  index: number,
  kind: string,
  fill: (data: AttributeEncoder) => void,
): void {
  const body = encodeKind(linkMessage(index), kind, fill).done();
  nl.request({ operation, type: RTM_NEWLINK, body });
}
