// Layout of Ethernet frames with IPv4 and TCP (RFC 894, 791, 9293).
import { ETHERNET_HEADER } from "../../address/mac.ts";
import type { Arena } from "../../sys/arena.ts";
import { completeChecksum, fold, sum, swap16 } from "./checksum.ts";

export const ETHERTYPE = 12;
export const ETHERTYPE_IPV4 = 0x0800;

/** Offsets in an IPv4 header. */
export const IP = {
  tos: 1,
  length: 2,
  id: 4,
  fragment: 6,
  ttl: 8,
  protocol: 9,
  checksum: 10,
  source: 12,
  destination: 16,
} as const;
export const IP_HEADER = 20;
export const IP_DF = 0x4000;
export const IP_MF = 0x2000;
export const IP_OFFSET = 0x1fff;
export const PROTOCOL_ICMP = 1;
const PROTOCOL_TCP = 6;

/** Offsets in a TCP header. */
export const TCP = {
  sequence: 4,
  acknowledgement: 8,
  offset: 12,
  flags: 13,
  window: 14,
  checksum: 16,
} as const;
const TCP_HEADER = 20;
export const TCP_FIN = 0x01;
export const TCP_PSH = 0x08;
export const TCP_ACK = 0x10;
export const TCP_CWR = 0x80;

/** Return the length of the IPv4 header in a frame; 0 where the frame holds no whole IPv4 packet. */
export function ipv4HeaderLength({ bytes, view }: Arena, at: number, length: number): number {
  if (length < ETHERNET_HEADER + IP_HEADER) return 0;
  if (view.getUint16(at + ETHERTYPE, false) !== ETHERTYPE_IPV4) return 0;
  const ip = at + ETHERNET_HEADER;
  const first = bytes[ip] as number;
  const header = (first & 0xf) * 4;
  if (first >> 4 !== 4 || header < IP_HEADER) return 0;
  const total = view.getUint16(ip + IP.length, false);
  return total >= header && ETHERNET_HEADER + total <= length ? header : 0;
}

/** Return the offset of the payload in a frame that holds one TCP segment; 0 for other frames. */
export function tcpPayload(arena: Arena, at: number, length: number): number {
  const ipHeader = ipv4HeaderLength(arena, at, length);
  if (ipHeader === 0) return 0;
  const { bytes, view } = arena;
  const ip = at + ETHERNET_HEADER;
  if (bytes[ip + IP.protocol] !== PROTOCOL_TCP) return 0;
  if (view.getUint16(ip + IP.fragment, false) & (IP_MF | IP_OFFSET)) return 0;
  const room = length - ETHERNET_HEADER - ipHeader;
  if (room < TCP_HEADER) return 0;
  const tcpHeader = ((bytes[ip + ipHeader + TCP.offset] as number) >> 4) * 4;
  if (tcpHeader < TCP_HEADER || tcpHeader > room) return 0;
  return ETHERNET_HEADER + ipHeader + tcpHeader;
}

/** Return true for a frame that holds one TCP segment and nothing behind it. */
export function isWholeSegment(arena: Arena, at: number, length: number): boolean {
  if (tcpPayload(arena, at, length) === 0) return false;
  return ETHERNET_HEADER + arena.view.getUint16(at + ETHERNET_HEADER + IP.length, false) === length;
}

/** Complete the TCP checksum of such a frame, which holds only the sum of the pseudo-header. */
export function completeSegment(arena: Arena, at: number, length: number): void {
  const tcp = ETHERNET_HEADER + ipv4HeaderLength(arena, at, length);
  completeChecksum(arena, at + tcp, length - tcp, at + tcp + TCP.checksum);
}

/** Sum the pseudo-header (RFC 9293) of a TCP segment of `length` bytes behind the IPv4 header at `ip`. */
export function pseudoHeaderSum(arena: Arena, ip: number, length: number): number {
  return fold(sum(arena, ip + IP.source, IP_HEADER - IP.source) + swap16(PROTOCOL_TCP) + swap16(length));
}
