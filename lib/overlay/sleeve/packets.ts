// IPv4 packets that are too big for a link: cut into fragments (RFC 791), or answered by 'fragmentation needed' where
// they must not be cut (RFC 792, 1191).
import { ETHERNET_HEADER } from "../../address/mac.ts";
import type { Arena } from "../../sys/arena.ts";
import { complement, sum } from "./checksum.ts";
import {
  ETHERTYPE,
  ETHERTYPE_IPV4,
  IP,
  IP_DF,
  IP_HEADER,
  IP_MF,
  IP_OFFSET,
  PROTOCOL_ICMP,
} from "./ethernet.ts";

const MAC = 6;
const ICMP_HEADER = 8;
const ICMP_UNREACHABLE = 3;
const ICMP_FRAGMENTATION_NEEDED = 4;
const TTL = 64;
/** Bytes quoted of a packet behind its IP header. */
const QUOTED = 8;
/** The longest 'fragmentation needed' there can be: the quoted IP header has at most 60 bytes. */
export const FRAGMENTATION_NEEDED_MAX = ETHERNET_HEADER + IP_HEADER + ICMP_HEADER + 60 + QUOTED;

/**
 * Write to `to` the answer to a frame whose packet is longer than `mtu` bytes: from the packet's destination to its
 * source, in IPv4 as in Ethernet. Returns its length. The frame has to hold a whole IPv4 packet.
 */
export function writeFragmentationNeeded(arena: Arena, at: number, mtu: number, to: number): number {
  const { bytes, view } = arena;
  const ip = at + ETHERNET_HEADER;
  const quoted = Math.min(((bytes[ip] as number) & 0xf) * 4 + QUOTED, view.getUint16(ip + IP.length, false));
  const total = IP_HEADER + ICMP_HEADER + quoted;
  bytes.copyWithin(to, at + MAC, at + 2 * MAC);
  bytes.copyWithin(to + MAC, at, at + MAC);
  view.setUint16(to + ETHERTYPE, ETHERTYPE_IPV4, false);

  const answer = to + ETHERNET_HEADER;
  bytes.fill(0, answer, answer + IP_HEADER + ICMP_HEADER);
  bytes[answer] = 0x45;
  bytes[answer + IP.tos] = bytes[ip + IP.tos] as number;
  view.setUint16(answer + IP.length, total, false);
  bytes[answer + IP.ttl] = TTL;
  bytes[answer + IP.protocol] = PROTOCOL_ICMP;
  bytes.copyWithin(answer + IP.source, ip + IP.destination, ip + IP.destination + 4);
  bytes.copyWithin(answer + IP.destination, ip + IP.source, ip + IP.source + 4);
  view.setUint16(answer + IP.checksum, complement(sum(arena, answer, IP_HEADER)), true);

  const icmp = answer + IP_HEADER;
  bytes[icmp] = ICMP_UNREACHABLE;
  bytes[icmp + 1] = ICMP_FRAGMENTATION_NEEDED;
  view.setUint16(icmp + 6, mtu, false);
  bytes.copyWithin(icmp + ICMP_HEADER, ip, ip + quoted);
  view.setUint16(icmp + 2, complement(sum(arena, icmp, ICMP_HEADER + quoted)), true);
  return ETHERNET_HEADER + total;
}

/** Cut a packet into fragments: `start`, then `next` and `write` for each of them, as a frame. */
export class Fragmenter {
  #at = 0;
  #header = 0;
  #payload = 0;
  #size = 0;
  #offset = 0;
  #taken = 0;
  #fragment = 0;

  constructor(private readonly arena: Arena) {}

  /** Begin with the frame at `at`, which has to hold a whole IPv4 packet with a header of `header` bytes. */
  start(at: number, header: number, mtu: number): void {
    const { view } = this.arena;
    const ip = at + ETHERNET_HEADER;
    this.#at = at;
    this.#header = header;
    this.#payload = view.getUint16(ip + IP.length, false) - header;
    this.#size = Math.max(8, (mtu - header) & ~7);
    this.#offset = 0;
    this.#taken = 0;
    this.#fragment = view.getUint16(ip + IP.fragment, false);
  }

  /** Return the length of the next fragment as a frame; 0 at the end. */
  next(): number {
    this.#offset += this.#taken;
    this.#taken = Math.min(this.#size, this.#payload - this.#offset);
    return this.#taken > 0 ? ETHERNET_HEADER + this.#header + this.#taken : 0;
  }

  write(to: number): void {
    const { arena } = this;
    const { bytes, view } = arena;
    const headers = ETHERNET_HEADER + this.#header;
    const from = this.#at + headers + this.#offset;
    bytes.copyWithin(to, this.#at, this.#at + headers);
    bytes.copyWithin(to + headers, from, from + this.#taken);
    const ip = to + ETHERNET_HEADER;
    const last = this.#offset + this.#taken >= this.#payload;
    const more = last ? this.#fragment & IP_MF : IP_MF;
    const offset = ((this.#fragment & IP_OFFSET) + (this.#offset >> 3)) & IP_OFFSET;
    view.setUint16(ip + IP.length, this.#header + this.#taken, false);
    view.setUint16(ip + IP.fragment, (this.#fragment & IP_DF) | more | offset, false);
    view.setUint16(ip + IP.checksum, 0);
    view.setUint16(ip + IP.checksum, complement(sum(arena, ip, this.#header)), true);
  }
}
