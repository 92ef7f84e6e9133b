// Packets that rules of nftables tell of (linux/netfilter/nfnetlink_log.h), read by the process itself: no ulogd.
import { closeSync } from "node:fs";
import type { Watch } from "../sys/readable.ts";
import { sendDatagram } from "../sys/socket.ts";
import { AttributeEncoder, decodeAttributes } from "./attributes.ts";
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

const ATTRIBUTE = { payload: 9, prefix: 10 } as const;

/** A packet that a rule told of. */
export interface LoggedPacket {
  /** The text of the rule. */
  readonly prefix: string;
  /** From its IP header on; as much as the rule said. */
  readonly payload: Uint8Array;
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
  return payload && { prefix: attributes.get(ATTRIBUTE.prefix)?.string ?? "", payload };
}
