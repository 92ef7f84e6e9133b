// Matches on the transport header.
import type { Cidr } from "../../address/ipv4.ts";
import { bitwise } from "./expr/bitwise.ts";
import { cmp } from "./expr/cmp.ts";
import type { Expression } from "./expr/expression.ts";
import { meta } from "./expr/meta.ts";
import { NFT_PAYLOAD_TRANSPORT_HEADER, payload } from "./expr/payload.ts";
import { range } from "./expr/range.ts";
import { matchSubnet } from "./subnet.ts";

const IPPROTO_ICMP = 1;
const IPPROTO_TCP = 6;
const IPPROTO_UDP = 17;
const IPPROTO_SCTP = 132;
const IPPROTO_ICMPV6 = 58;
/** Offset of the destination port, in TCP and UDP. */
const DESTINATION_AT = 2;
const TCP_FLAGS_AT = 13;
const TCP_SYN = 2;
const TCP_RST = 4;
const TCP_ACK = 16;
const SCTP_CHUNK_TYPE_AT = 12;
const SCTP_INIT = 1;
/** ICMP type and code (RFC 792), and the offset of the destination address in the quoted IPv4 header. */
const FRAGMENTATION_NEEDED = Uint8Array.of(3, 4);
const ICMP_DESTINATION_AT = 8 + 16;
/** Types of ICMPv6 (RFC 4861), from router solicitation to redirect. */
const NEIGHBOUR_DISCOVERY = { first: 133, last: 137 } as const;

const transport = (offset: number, length: number) => payload(NFT_PAYLOAD_TRANSPORT_HEADER, offset, length);

/** Match packets of an IP protocol. */
export function matchProtocol(number: number): Expression[] {
  return [meta("l4proto"), cmp(Uint8Array.of(number))];
}

/** Match octets of the transport header. */
export function matchTransport(offset: number, octets: Uint8Array): Expression[] {
  return [transport(offset, octets.length), cmp(octets)];
}

function matchPort(protocol: number, port: number): Expression[] {
  return [
    ...matchProtocol(protocol),
    ...matchTransport(DESTINATION_AT, Uint8Array.of(port >> 8, port & 255)),
  ];
}

/** Match TCP packets to a destination port. */
export function matchTcpPort(port: number): Expression[] {
  return matchPort(IPPROTO_TCP, port);
}

/** Match UDP packets to a destination port. */
export function matchUdpPort(port: number): Expression[] {
  return matchPort(IPPROTO_UDP, port);
}

/** Match ICMP's 'fragmentation needed' (RFC 1191); with `about`, only where the quoted packet is to that subnet. */
export function matchFragmentationNeeded(about?: Cidr): Expression[] {
  return [
    ...matchProtocol(IPPROTO_ICMP),
    ...matchTransport(0, FRAGMENTATION_NEEDED),
    ...(about ? matchSubnet(transport(ICMP_DESTINATION_AT, 4), about) : []),
  ];
}

/** Match TCP segments that reset a connection. */
export function matchTcpReset(): Expression[] {
  return [...matchProtocol(IPPROTO_TCP), ...matchTransport(TCP_FLAGS_AT, Uint8Array.of(TCP_RST))];
}

/** Match TCP segments that begin no connection: those with ACK and without SYN. */
export function matchTcpMidStream(): Expression[] {
  return [
    ...matchProtocol(IPPROTO_TCP),
    transport(TCP_FLAGS_AT, 1),
    bitwise(Uint8Array.of(TCP_SYN | TCP_ACK)),
    cmp(Uint8Array.of(TCP_ACK)),
  ];
}

/** Match SCTP packets that begin no association: those whose first chunk is not INIT. */
export function matchSctpMidStream(): Expression[] {
  return [
    ...matchProtocol(IPPROTO_SCTP),
    transport(SCTP_CHUNK_TYPE_AT, 1),
    cmp(Uint8Array.of(SCTP_INIT), false),
  ];
}

/** Match what IPv6 finds its neighbours and routers by (RFC 4861). */
export function matchNeighbourDiscovery(): Expression[] {
  const { first, last } = NEIGHBOUR_DISCOVERY;
  return [
    ...matchProtocol(IPPROTO_ICMPV6),
    transport(0, 1),
    range(Uint8Array.of(first), Uint8Array.of(last)),
  ];
}
