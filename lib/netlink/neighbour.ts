// ARP entries by rtnetlink(7): RTM_NEWNEIGH and its kin (linux/neighbour.h).
import { formatIPv4, type IPv4, ipv4FromOctets, ipv4Octets } from "../address/ipv4.ts";
import { formatMac, parseMac } from "../address/mac.ts";
import { AF_INET } from "../sys/socket.ts";
import { AttributeEncoder, decodeBody } from "./attributes.ts";
import { NLM_F_CREATE, NLM_F_REPLACE } from "./message.ts";
import type { NetlinkSocket } from "./socket.ts";

const RTM_NEWNEIGH = 28;
const RTM_GETNEIGH = 30;

const NDMSG = 12;
const NUD_FAILED = 0x20;
export const NUD_PERMANENT = 0x80;
const NDA_DST = 1;
const NDA_LLADDR = 2;

/** An ARP entry: the Ethernet address of an IPv4 address on a link. */
export interface Neighbour {
  readonly link: number;
  readonly address: IPv4;
  /** Ethernet address; undefined while it is not known. */
  readonly mac: string | undefined;
  /** NUD_… (linux/neighbour.h). */
  readonly state: number;
}

/** Whether nobody has answered for an entry; one that is only asked for again still has its address. */
export function hasFailed({ mac, state }: Pick<Neighbour, "mac" | "state">): boolean {
  return (state & NUD_FAILED) !== 0 || mac === undefined;
}

function header(link: number): Uint8Array {
  const bytes = new Uint8Array(NDMSG);
  const view = new DataView(bytes.buffer);
  view.setUint8(0, AF_INET);
  view.setInt32(4, link, true);
  view.setUint16(8, NUD_PERMANENT, true);
  return bytes;
}

/** Return the body of an RTM_NEWNEIGH for a permanent entry. */
export function encodeNeighbour(link: number, address: IPv4, mac: string): Uint8Array {
  return new AttributeEncoder()
    .raw(header(link))
    .bytes(NDA_DST, ipv4Octets(address))
    .bytes(NDA_LLADDR, parseMac(mac))
    .done();
}

/** Set a permanent ARP entry, in place of any there was. */
export function neighbourSet(nl: NetlinkSocket, link: number, address: IPv4, mac: string): void {
  nl.request({
    operation: `neighbour set ${formatIPv4(address)}`,
    type: RTM_NEWNEIGH,
    flags: NLM_F_CREATE | NLM_F_REPLACE,
    body: encodeNeighbour(link, address, mac),
  });
}

/** Return the ARP entries of the namespace. */
export function neighbourList(nl: NetlinkSocket): Neighbour[] {
  const body = new Uint8Array(NDMSG);
  body[0] = AF_INET;
  return nl.dump({ operation: "neighbour list", type: RTM_GETNEIGH, body }).map(({ body: found }) => {
    const { header: ndmsg, attributes } = decodeBody(found, NDMSG);
    const mac = attributes.get(NDA_LLADDR)?.payload;
    return {
      link: ndmsg.getInt32(4, true),
      address: ipv4FromOctets(attributes.need(NDA_DST).payload),
      mac: mac && formatMac(mac),
      state: ndmsg.getUint16(8, true),
    };
  });
}
