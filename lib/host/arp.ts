// Gratuitous ARP (RFC 5227, section 2.3): tells everybody on the network where an address is now.
import { closeSync } from "node:fs";
import { type IPv4, ipv4Octets } from "../address/ipv4.ts";
import { parseMac } from "../address/mac.ts";
import { AF_PACKET, openSocket, SOCK_RAW, sendDatagram, sockaddrLinkLayer } from "../sys/socket.ts";

const ETHERTYPE_ARP = 0x0806;

/** The Ethernet frame of an ARP announcement: a request for the sender's own address. */
export function encodeAnnouncement(mac: string, address: IPv4): Uint8Array {
  const sender = parseMac(mac);
  const ip = ipv4Octets(address);
  const frame = new Uint8Array(42);
  const view = new DataView(frame.buffer);
  frame.fill(0xff, 0, 6);
  frame.set(sender, 6);
  view.setUint16(12, ETHERTYPE_ARP, false);
  view.setUint16(14, 1, false);
  view.setUint16(16, 0x0800, false);
  view.setUint8(18, 6);
  view.setUint8(19, 4);
  view.setUint16(20, 1, false);
  frame.set(sender, 22);
  frame.set(ip, 28);
  frame.set(ip, 38);
  return frame;
}

/** Announces an address on a link of the namespace that this thread is in. */
export function announce(link: { readonly index: number; readonly address: string }, address: IPv4): void {
  const fd = openSocket("ARP socket", AF_PACKET, SOCK_RAW, 0);
  try {
    const to = sockaddrLinkLayer(link.index, ETHERTYPE_ARP);
    sendDatagram("announcing an address", fd, encodeAnnouncement(link.address, address), to);
  } finally {
    closeSync(fd);
  }
}
