// Addresses of links by rtnetlink(7): RTM_NEWADDR and its kin (linux/if_addr.h).
import { type Ip, ipFromOctets } from "../address/ip.ts";
import { type Cidr, cidrRange, formatCidr, ipv4FromOctets, ipv4Octets } from "../address/ipv4.ts";
import { EADDRNOTAVAIL, EEXIST } from "../sys/errno.ts";
import { AF_INET, AF_INET6 } from "../sys/socket.ts";
import { AttributeEncoder, decodeBody } from "./attributes.ts";
import { NLM_F_CREATE, NLM_F_EXCL } from "./message.ts";
import { attempt, type NetlinkSocket, type Request } from "./socket.ts";

const RTM_NEWADDR = 20;
const RTM_DELADDR = 21;
const RTM_GETADDR = 22;

const IFADDRMSG = 8;
const IFA_ADDRESS = 1;
const IFA_LOCAL = 2;
const IFA_BROADCAST = 4;

/** An address and the link that has it. */
export interface LinkAddress {
  readonly index: number;
  readonly cidr: Cidr;
}

function header(index: number, prefix: number): Uint8Array {
  const bytes = new Uint8Array(IFADDRMSG);
  const view = new DataView(bytes.buffer);
  view.setUint8(0, index === 0 && prefix === 0 ? 0 : AF_INET);
  view.setUint8(1, prefix);
  view.setUint32(4, index, true);
  return bytes;
}

/** Return the body of an RTM_NEWADDR (with the subnet's broadcast address, as `ip addr add … brd +`) or RTM_DELADDR. */
export function encodeAddress(index: number, cidr: Cidr, broadcast: boolean): Uint8Array {
  const octets = ipv4Octets(cidr.address);
  const encoder = new AttributeEncoder().raw(header(index, cidr.prefix));
  encoder.bytes(IFA_LOCAL, octets).bytes(IFA_ADDRESS, octets);
  if (broadcast && cidr.prefix < 31) encoder.bytes(IFA_BROADCAST, ipv4Octets(cidrRange(cidr).end - 1));
  return encoder.done();
}

/** Return the request that adds an address to a link; refused with EEXIST if it has it. `what` names the link in errors. */
export function addressAddition(what: string, index: number, cidr: Cidr): Request {
  const operation = `address add ${formatCidr(cidr)} to ${what}`;
  const body = encodeAddress(index, cidr, true);
  return { operation, type: RTM_NEWADDR, flags: NLM_F_CREATE | NLM_F_EXCL, body };
}

/** Add an address to a link; false if it had it already. `what` names the link in errors. */
export function addressAdd(nl: NetlinkSocket, what: string, index: number, cidr: Cidr): boolean {
  return attempt(nl, addressAddition(what, index, cidr), EEXIST);
}

/** Delete an address of a link; false if it did not have it. */
export function addressDelete(nl: NetlinkSocket, what: string, index: number, cidr: Cidr): boolean {
  const operation = `address delete ${formatCidr(cidr)} from ${what}`;
  const body = encodeAddress(index, cidr, false);
  return attempt(nl, { operation, type: RTM_DELADDR, body }, EADDRNOTAVAIL);
}

/** Return the IPv4 addresses of one link, or of all links of the namespace. */
export function addressList(nl: NetlinkSocket, index?: number): LinkAddress[] {
  const addresses = list(nl, AF_INET).map(({ index: link, prefix, octets }) => ({
    index: link,
    cidr: { address: ipv4FromOctets(octets), prefix },
  }));
  return index === undefined ? addresses : addresses.filter((address) => address.index === index);
}

/** Return the IPv6 addresses of one link. */
export function address6List(nl: NetlinkSocket, index: number): Ip[] {
  return list(nl, AF_INET6).flatMap((found) => (found.index === index ? [ipFromOctets(found.octets)] : []));
}

function list(nl: NetlinkSocket, family: number): { index: number; prefix: number; octets: Uint8Array }[] {
  const body = header(0, 0);
  body[0] = family;
  return nl.dump({ operation: "address list", type: RTM_GETADDR, body }).flatMap(({ body: found }) => {
    // A kernel without that family answers with all others.
    if (found[0] !== family) return [];
    const { header: ifaddrmsg, attributes } = decodeBody(found, IFADDRMSG);
    const octets = (attributes.get(IFA_LOCAL) ?? attributes.need(IFA_ADDRESS)).payload;
    return [{ index: ifaddrmsg.getUint32(4, true), prefix: ifaddrmsg.getUint8(1), octets }];
  });
}
