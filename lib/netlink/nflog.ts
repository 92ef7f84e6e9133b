// Packets that rules of nftables tell of (linux/netfilter/nfnetlink_log.h), read by the process itself: no ulogd.
import { closeSync } from "node:fs";
import { formatMac } from "../address/mac.ts";
import type { Watch } from "../sys/readable.ts";
import { sendDatagram } from "../sys/socket.ts";
import { AttributeEncoder, type Attributes, decodeAttributes } from "./attributes.ts";
import { listen } from "./listen.ts";
import { decodeError, encodeMessage, type Message, NLM_F_REQUEST, NLMSG_ERROR } from "./message.ts";
import { NETLINK_NETFILTER, openNetlink, SOCKADDR_KERNEL } from "./socket.ts";

const SUBSYSTEM = 4;
const MESSAGE = { packet: 0, config: 1 } as const;
const FAMILY_HEADER = 4;

const CONFIG = { command: 1, mode: 2, timeout: 4 } as const;
const COMMAND_BIND = 1;
const COPY_PACKET = 2;
/** The kernel collects packets for so long, in hundredths of a second. */
const COLLECT = 2;
/** As much of a packet as the rule says. */
const WHOLE = 0xffff;

const ATTRIBUTE = { packet: 1, payload: 9, prefix: 10, header: 16, vlan: 20, taggedHeader: 21 } as const;
const VLAN_PROTOCOL = 1;
const ETHERNET_HEADER = 14;
/** Table family, as messages begin with it. */
const BRIDGE = 7;

/** A packet that a rule told of. */
export interface LoggedPacket {
  /** The text of the rule. */
  readonly prefix: string;
  /** From its IP header on; as much as the rule said. */
  readonly payload: Uint8Array;
  /** Where a table of a bridge told of it, its frame. */
  readonly frame: LoggedFrame | undefined;
}

export interface LoggedFrame {
  /** Ethernet address; undefined for untagged frames that were logged on their way out. */
  readonly source: string | undefined;
  /** Of the outer tag, if it has one; less than 0x600 for LLC. */
  readonly type: number;
}

export interface PacketListener {
  packet(packet: LoggedPacket): void;
  /** More came than could be read: some are lost. */
  lost(): void;
  /** The watch has ended for another reason. */
  failed(error: Error): void;
}

function configuration(group: number, fill: (body: AttributeEncoder) => void): Uint8Array {
  const body = new AttributeEncoder().raw(Uint8Array.of(0, 0, group >> 8, group & 255));
  fill(body);
  const type = (SUBSYSTEM << 8) | MESSAGE.config;
  return encodeMessage({ type, flags: NLM_F_REQUEST, sequence: 0, body: body.done() });
}

/** Opens a socket that gets the packets of a group. There is one of it at a time. */
function openGroup(group: number): number {
  const fd = openNetlink("nflog", NETLINK_NETFILTER, [], true);
  const send = (fill: (body: AttributeEncoder) => void) =>
    sendDatagram(`nflog group ${group}`, fd, configuration(group, fill), SOCKADDR_KERNEL);
  try {
    send((body) => body.u8(CONFIG.command, COMMAND_BIND));
    send((body) =>
      body
        .bytes(CONFIG.mode, Uint8Array.of(0, 0, WHOLE >> 8, WHOLE & 255, COPY_PACKET, 0))
        .u32be(CONFIG.timeout, COLLECT),
    );
  } catch (error) {
    closeSync(fd);
    throw error;
  }
  return fd;
}

/** Reads the packets that are told to a group in the namespace that this thread is in now. */
export function watchPackets(group: number, { packet, lost, failed }: PacketListener): Watch {
  return listen(() => openGroup(group), {
    message(message) {
      if (message.type === NLMSG_ERROR) {
        // The group is refused while somebody else reads it.
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

/** The packet that a message tells of. */
function decodePacket({ type, body }: Message): LoggedPacket | undefined {
  if (type !== ((SUBSYSTEM << 8) | MESSAGE.packet)) return undefined;
  const attributes = decodeAttributes(body.subarray(FAMILY_HEADER));
  const payload = attributes.get(ATTRIBUTE.payload)?.payload;
  if (!payload) return undefined;
  const prefix = attributes.get(ATTRIBUTE.prefix)?.string ?? "";
  return { prefix, payload, frame: body[0] === BRIDGE ? decodeFrame(attributes) : undefined };
}

function decodeFrame(attributes: Attributes): LoggedFrame {
  const header = (attributes.get(ATTRIBUTE.taggedHeader) ?? attributes.get(ATTRIBUTE.header))?.payload;
  // A tag that the kernel keeps beside the packet is not in the header.
  const tag = attributes.get(ATTRIBUTE.vlan)?.nested.get(VLAN_PROTOCOL)?.u16be;
  const type = attributes.get(ATTRIBUTE.packet)?.u16be ?? 0;
  return {
    source: header && header.length >= ETHERNET_HEADER ? formatMac(header.subarray(6, 12)) : undefined,
    type: tag ?? type,
  };
}
