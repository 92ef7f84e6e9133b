// Neighbour entries by rtnetlink(7): ARP entries and bridge forwarding entries (linux/neighbour.h).
import { formatIPv4, type IPv4, ipv4FromOctets, ipv4Octets } from "../address/ipv4.ts";
import { formatMac, parseMac } from "../address/mac.ts";
import { AF_INET } from "../sys/socket.ts";
import { AttributeEncoder, decodeAttributes, familyHeader } from "./attributes.ts";
import { NLM_F_CREATE, NLM_F_REPLACE } from "./message.ts";
import type { NetlinkSocket } from "./socket.ts";

const RTM_NEWNEIGH = 28;
const RTM_GETNEIGH = 30;

const NDMSG = 12;
export const NUD_FAILED = 0x20;
export const NUD_PERMANENT = 0x80;
const NDA_DST = 1;
const NDA_LLADDR = 2;

/** An ARP entry: who has an IPv4 address on a link. */
export interface Neighbour {
  readonly link: number;
  readonly address: IPv4;
  /** Ethernet address; undefined while it is not known. */
  readonly mac: string | undefined;
  /** NUD_… (linux/neighbour.h). */
  readonly state: number;
}

function header(link: number): Uint8Array {
  const bytes = new Uint8Array(NDMSG);
  const view = new DataView(bytes.buffer);
  view.setUint8(0, AF_INET);
  view.setInt32(4, link, true);
  view.setUint16(8, NUD_PERMANENT, true);
  return bytes;
}

/** The body of an RTM_NEWNEIGH for a permanent entry. */
export function encodeNeighbour(link: number, address: IPv4, mac: string): Uint8Array {
  return new AttributeEncoder()
    .raw(header(link))
    .bytes(NDA_DST, ipv4Octets(address))
    .bytes(NDA_LLADDR, parseMac(mac))
    .done();
}

/** Sets a permanent ARP entry, in place of any there was. */
export function neighbourSet(nl: NetlinkSocket, link: number, address: IPv4, mac: string): void {
  nl.request({
    operation: `neighbour set ${formatIPv4(address)}`,
    type: RTM_NEWNEIGH,
    flags: NLM_F_CREATE | NLM_F_REPLACE,
    body: encodeNeighbour(link, address, mac),
  });
}

/** The ARP entries of the namespace. */
export function neighbourList(nl: NetlinkSocket): Neighbour[] {
  const body = new Uint8Array(NDMSG);
  body[0] = AF_INET;
  return nl.dump({ operation: "neighbour list", type: RTM_GETNEIGH, body }).map(({ body: found }) => {
    const view = familyHeader(found, NDMSG);
    const attributes = decodeAttributes(found.subarray(NDMSG));
    const mac = attributes.get(NDA_LLADDR)?.payload;
    return {
      link: view.getInt32(4, true),
      address: ipv4FromOctets(attributes.need(NDA_DST).payload),
      mac: mac && formatMac(mac),
      state: view.getUint16(8, true),
    };
  });
}
