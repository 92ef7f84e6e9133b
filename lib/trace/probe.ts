// The probe: an ICMP echo request (RFC 792), a TCP SYN (RFC 9293) or a UDP datagram (RFC 768) that is told from other
// packets by its number; and the classification of captured frames. IPv4 only, as all addresses of the network.
import { internetChecksum } from "../address/checksum.ts";
import { type IPv4, ipv4FromOctets, ipv4Octets } from "../address/ipv4.ts";
import { ETHERNET_HEADER } from "../address/mac.ts";
import { viewOf } from "../bytes/view.ts";

export const PROTOCOLS = ["icmp", "tcp", "udp"] as const;
export type ProbeProtocol = (typeof PROTOCOLS)[number];
export const PROTOCOL_NUMBER: Record<ProbeProtocol, number> = { icmp: 1, tcp: 6, udp: 17 };

export interface Probe {
  readonly source: IPv4;
  readonly destination: IPv4;
  readonly protocol: ProbeProtocol;
  /** Destination port; 0 for ICMP. */
  readonly port: number;
  /** Identifier of the echo request, or source port; 1 … 65535. */
  readonly id: number;
}

/**
 * Kinds of frames of a probe: the probe, its answer, a refusal by the other end, or the message that it is too large to
 * be forwarded in one piece (RFC 1191).
 */
export const SIGNS = ["probe", "answer", "refused", "too-large", "arp"] as const;
export type Sign = (typeof SIGNS)[number];

const ETHERTYPE = { ipv4: 0x0800, arp: 0x0806 } as const;
const ICMP = { reply: 0, unreachable: 3, fragmentationNeeded: 4, request: 8 } as const;
const TCP = { flags: 13, syn: 0x02, rst: 0x04 } as const;
const MARK = new TextEncoder().encode("weave trace ");

/**
 * Encode the probe without its IP header, which the kernel adds; `size` is that of the whole IP packet in bytes, if it
 * is larger than the headers.
 */
export function probePayload(probe: Probe, sequence: number, size = 0): Uint8Array {
  const { protocol, id, port, source, destination } = probe;
  const header = protocol === "tcp" ? 20 : 8;
  const length = Math.max(header + (protocol === "tcp" ? 0 : MARK.length), size - 20);
  const bytes = new Uint8Array(length);
  const view = new DataView(bytes.buffer);
  if (protocol !== "tcp") bytes.set(MARK, header);
  if (protocol === "icmp") {
    view.setUint8(0, ICMP.request);
    view.setUint16(4, id);
    view.setUint16(6, sequence);
    view.setUint16(2, internetChecksum(bytes));
    return bytes;
  }
  view.setUint16(0, id);
  view.setUint16(2, port);
  if (protocol === "udp") view.setUint16(4, length);
  else {
    view.setUint32(4, sequence);
    view.setUint8(12, 0x50);
    view.setUint8(TCP.flags, TCP.syn);
    view.setUint16(14, 1024);
  }
  const pseudo = new Uint8Array(12);
  pseudo.set(ipv4Octets(source), 0);
  pseudo.set(ipv4Octets(destination), 4);
  pseudo[9] = PROTOCOL_NUMBER[protocol];
  new DataView(pseudo.buffer).setUint16(10, length);
  view.setUint16(protocol === "tcp" ? 16 : 6, internetChecksum(pseudo, bytes));
  return bytes;
}

/** Classify an Ethernet frame, with or without the four octets of sleeve's tag; return undefined for other traffic. */
export function signOf(frame: Uint8Array, probe: Probe): Sign | undefined {
  const view = viewOf(frame);
  for (const at of [0, 4]) {
    if (frame.length < at + ETHERNET_HEADER + 20) return undefined;
    const type = view.getUint16(at + 12);
    if (type === ETHERTYPE.arp) return "arp";
    if (type === ETHERTYPE.ipv4) return packetSign(frame.subarray(at + ETHERNET_HEADER), probe);
  }
  return undefined;
}

function packetSign(packet: Uint8Array, probe: Probe): Sign | undefined {
  const header = ((packet[0] ?? 0) & 15) * 4;
  const rest = packet.subarray(header);
  if (packet.length < 20 || rest.length < 8) return undefined;
  const source = ipv4FromOctets(packet.subarray(12, 16));
  const forth = source === probe.source && ipv4FromOctets(packet.subarray(16, 20)) === probe.destination;
  const number = packet[9];
  const view = viewOf(rest);
  if (forth) {
    if (number !== PROTOCOL_NUMBER[probe.protocol]) return undefined;
    if (probe.protocol === "icmp")
      return rest[0] === ICMP.request && view.getUint16(4) === probe.id ? "probe" : undefined;
    return view.getUint16(0) === probe.id && view.getUint16(2) === probe.port ? "probe" : undefined;
  }
  if (source !== probe.destination) return undefined;
  if (number === PROTOCOL_NUMBER.icmp && rest[0] === ICMP.unreachable) {
    const quoted = rest.subarray(8);
    if (quoted.length < 28 || packetSign(quoted, probe) !== "probe") return undefined;
    return rest[1] === ICMP.fragmentationNeeded ? "too-large" : "refused";
  }
  if (number !== PROTOCOL_NUMBER[probe.protocol]) return undefined;
  if (probe.protocol === "icmp")
    return rest[0] === ICMP.reply && view.getUint16(4) === probe.id ? "answer" : undefined;
  if (view.getUint16(0) !== probe.port || view.getUint16(2) !== probe.id) return undefined;
  if (probe.protocol === "udp") return "answer";
  return (rest[TCP.flags] ?? 0) & TCP.rst ? "refused" : "answer";
}
