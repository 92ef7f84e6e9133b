// What a packet says of its connection: addresses, protocol, ports (RFC 791, RFC 8200).
import { type Ip, ipFromOctets } from "../address/ip.ts";
import { readBe16 } from "../bytes/bigendian.ts";
import { viewOf } from "../bytes/view.ts";
import type { Protocol } from "./objects.ts";

const IPV4_HEADER = 20;
const IPV6_HEADER = 40;
const NUMBERS: Readonly<Record<number, Protocol>> = { 6: "TCP", 17: "UDP", 132: "SCTP" };
/** IPv6 headers that another header comes behind: hop-by-hop, routing, destination options. */
const EXTENSIONS = new Set([0, 43, 60]);
const MAX_EXTENSIONS = 8;
const TCP_FLAGS = 13;
const TCP_SYN = 0x02;
const TCP_RST = 0x04;
const TCP_ACK = 0x10;
/** As far as the flags. */
const TCP_NEEDED = 14;

export interface Connection {
  readonly source: Ip;
  readonly destination: Ip;
  /** "TCP", or the number of another protocol. */
  readonly protocol: Protocol | number;
  /** 0 where the protocol has none. */
  readonly sourcePort: number;
  readonly port: number;
  /** What a TCP segment says; undefined for other protocols, and where the header is cut off. */
  readonly segment: Segment | undefined;
}

interface Segment {
  readonly sequence: number;
  readonly acknowledgement: number;
  /** The first packet of a connection: SYN and no ACK. */
  readonly opens: boolean;
  readonly acknowledges: boolean;
  readonly resets: boolean;
}

/** Reads a packet from its IP header on; undefined for what is none, or too short. */
export function readPacket(packet: Uint8Array): Connection | undefined {
  const version = (packet[0] ?? 0) >> 4;
  if (version === 4 && packet.length >= IPV4_HEADER) {
    const end = ((packet[0] ?? 0) & 15) * 4;
    return connection(packet.subarray(12, 16), packet.subarray(16, 20), packet[9] ?? 0, packet.subarray(end));
  }
  if (version !== 6 || packet.length < IPV6_HEADER) return undefined;
  let next = packet[6] ?? 0;
  let rest = packet.subarray(IPV6_HEADER);
  for (let i = 0; i < MAX_EXTENSIONS && EXTENSIONS.has(next) && rest.length >= 8; i++) {
    next = rest[0] ?? 0;
    rest = rest.subarray(8 * ((rest[1] ?? 0) + 1));
  }
  return connection(packet.subarray(8, 24), packet.subarray(24, 40), next, rest);
}

function connection(
  source: Uint8Array,
  destination: Uint8Array,
  number: number,
  transport: Uint8Array,
): Connection {
  const protocol = NUMBERS[number];
  return {
    source: ipFromOctets(source),
    destination: ipFromOctets(destination),
    protocol: protocol ?? number,
    sourcePort: protocol ? readBe16(transport, 0) : 0,
    port: protocol ? readBe16(transport, 2) : 0,
    segment: protocol === "TCP" && transport.length >= TCP_NEEDED ? segment(transport) : undefined,
  };
}

function segment(bytes: Uint8Array): Segment {
  const view = viewOf(bytes);
  const flags = view.getUint8(TCP_FLAGS);
  return {
    sequence: view.getUint32(4),
    acknowledgement: view.getUint32(8),
    opens: (flags & (TCP_SYN | TCP_ACK)) === TCP_SYN,
    acknowledges: (flags & TCP_ACK) !== 0,
    resets: (flags & TCP_RST) !== 0,
  };
}
