// Packets that rules of nftables log (linux/netfilter/nfnetlink_log.h), read by the process itself: no ulogd.
import { closeSync } from "node:fs";
import { ETHERNET_HEADER, formatMac } from "../address/mac.ts";
import type { Watch } from "../sys/readable.ts";
import { sendDatagram } from "../sys/socket.ts";
import { AttributeEncoder, type Attributes, decodeAttributes } from "./attributes.ts";
import { listen } from "./listen.ts";
import { decodeError, encodeMessage, type Message, NLM_F_REQUEST, NLMSG_ERROR } from "./message.ts";
import { NFGENMSG, NFNL_SUBSYS_ULOG, NFPROTO, nfgenmsg, nfnlType } from "./nfnetlink.ts";
import { NETLINK_NETFILTER, openNetlink, SOCKADDR_KERNEL } from "./socket.ts";

/** enum nfulnl_msg_types */
const NFULNL_MSG_PACKET = 0;
const NFULNL_MSG_CONFIG = 1;

/** enum nfulnl_attr_config */
const NFULA_CFG_CMD = 1;
const NFULA_CFG_MODE = 2;
const NFULA_CFG_TIMEOUT = 4;
/** enum nfulnl_msg_config_cmds */
const NFULNL_CFG_CMD_BIND = 1;
const NFULNL_COPY_PACKET = 2;
/** The kernel collects packets for this long, in hundredths of a second. */
const COLLECT = 2;
/** Bytes of a packet to copy: as many as the rule says. */
const COPY_RANGE = 0xffff;

/** enum nfulnl_attr_type */
const NFULA_PACKET_HDR = 1;
const NFULA_PAYLOAD = 9;
const NFULA_PREFIX = 10;
const NFULA_HWHEADER = 16;
const NFULA_VLAN = 20;
const NFULA_L2HDR = 21;
/** enum nfulnl_vlan_attr */
const NFULA_VLAN_PROTO = 1;

/** A packet that a rule logged. */
export interface LoggedPacket {
  /** The prefix of the rule. */
  readonly prefix: string;
  /** The packet from its IP header on, up to the length that the rule says. */
  readonly payload: Uint8Array;
  /** Its frame, where a table of family bridge logged it. */
  readonly frame: LoggedFrame | undefined;
}

export interface LoggedFrame {
  /** Ethernet address; undefined for untagged frames that were logged on their way out. */
  readonly source: string | undefined;
  /** EtherType of the frame, or of its outer tag; less than 0x600 for LLC. */
  readonly type: number;
}

export interface PacketListener {
  packet(packet: LoggedPacket): void;
  /** Packets were lost: more arrived than could be read. */
  lost(): void;
  /** The watch has failed, and begins again. */
  failed(error: Error): void;
}

function configuration(group: number, fill: (body: AttributeEncoder) => void): Uint8Array {
  const body = new AttributeEncoder().raw(nfgenmsg(0, group));
  fill(body);
  const type = nfnlType(NFNL_SUBSYS_ULOG, NFULNL_MSG_CONFIG);
  return encodeMessage({ type, flags: NLM_F_REQUEST, sequence: 0, body: body.done() });
}

/** Return struct nfulnl_msg_config_mode: the range in network byte order, the mode, padding. */
function copyMode(): Uint8Array {
  return Uint8Array.of(0, 0, COPY_RANGE >> 8, COPY_RANGE & 255, NFULNL_COPY_PACKET, 0);
}

/** Return the messages that make a socket receive the packets of a group. */
export function groupMessages(group: number): Uint8Array[] {
  return [
    configuration(group, (body) => body.u8(NFULA_CFG_CMD, NFULNL_CFG_CMD_BIND)),
    configuration(group, (body) => body.bytes(NFULA_CFG_MODE, copyMode()).u32be(NFULA_CFG_TIMEOUT, COLLECT)),
  ];
}

/** Open a socket that receives the packets of a group. A group has one at a time. */
function openGroup(group: number): number {
  const fd = openNetlink("nflog", NETLINK_NETFILTER, [], true);
  try {
    for (const message of groupMessages(group))
      sendDatagram(`nflog group ${group}`, fd, message, SOCKADDR_KERNEL);
  } catch (error) {
    closeSync(fd);
    throw error;
  }
  return fd;
}

/** Watch the packets logged to a group, in the namespace that this thread is in now. */
export function watchPackets(group: number, { packet, lost, failed }: PacketListener): Watch {
  return listen(() => openGroup(group), {
    message(message) {
      if (message.type === NLMSG_ERROR) {
        // The kernel refuses a group that another process reads.
        const error = decodeError(message, `reading nflog group ${group}`);
        if (error) throw error;
      }
      const logged = decodePacket(message);
      if (logged) packet(logged);
    },
    lost,
    failed,
  });
}

/** Return the packet in a message; undefined where it has none. */
export function decodePacket({ type, body }: Pick<Message, "type" | "body">): LoggedPacket | undefined {
  if (type !== nfnlType(NFNL_SUBSYS_ULOG, NFULNL_MSG_PACKET)) return undefined;
  const attributes = decodeAttributes(body.subarray(NFGENMSG));
  const payload = attributes.get(NFULA_PAYLOAD)?.payload;
  if (!payload) return undefined;
  const prefix = attributes.get(NFULA_PREFIX)?.string ?? "";
  return { prefix, payload, frame: body[0] === NFPROTO.bridge ? decodeFrame(attributes) : undefined };
}

function decodeFrame(attributes: Attributes): LoggedFrame {
  const header = (attributes.get(NFULA_L2HDR) ?? attributes.get(NFULA_HWHEADER))?.payload;
  // A tag that the kernel keeps beside the packet is not in the header.
  const tag = attributes.get(NFULA_VLAN)?.nested.get(NFULA_VLAN_PROTO)?.u16be;
  const type = attributes.get(NFULA_PACKET_HDR)?.u16be ?? 0;
  return {
    source: header && header.length >= ETHERNET_HEADER ? formatMac(header.subarray(6, 12)) : undefined,
    type: tag ?? type,
  };
}
