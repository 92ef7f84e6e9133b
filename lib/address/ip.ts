// Addresses of both families in their canonical text (RFC 5952 for IPv6), and ranges of them.
import type { Address6 } from "ip-address";
import { AddressError, formatIPv4, ipv4Octets, parseCidr, parseIPv4, subnetOf } from "./ipv4.ts";

export type Family = 4 | 6;

/** An address in its canonical text: "10.32.0.1", "fd00::1". */
export type Ip = string;

/** The addresses first … last of a family, as numbers. */
export interface IpRange {
  readonly family: Family;
  readonly first: bigint;
  readonly last: bigint;
}

export const BITS: Record<Family, number> = { 4: 32, 6: 128 };

/** Read an address of either family; throws AddressError. */
export function parseIp(text: string): Ip {
  if (!text.includes(":")) return formatIPv4(parseIPv4(text));
  return address6(text, false).correctForm();
}

export function familyOf(ip: Ip): Family {
  return ip.includes(":") ? 6 : 4;
}

/** The number of an address, its first octet highest. */
export function ipNumber(ip: Ip): bigint {
  return familyOf(ip) === 4 ? BigInt(parseIPv4(ip)) : address6(ip, false).bigInt();
}

export function ipFromNumber(family: Family, value: bigint): Ip {
  return family === 4 ? formatIPv4(Number(value)) : ipv6().Address6.fromBigInt(value).correctForm();
}

/** The octets of an address, or of a number of that family, in network byte order. */
export function octets(family: Family, value: bigint): Uint8Array {
  const bytes = new Uint8Array(BITS[family] / 8);
  for (let i = bytes.length - 1, rest = value; i >= 0; i--, rest >>= 8n) bytes[i] = Number(rest & 255n);
  return bytes;
}

export function ipOctets(ip: Ip): Uint8Array {
  return familyOf(ip) === 4 ? ipv4Octets(parseIPv4(ip)) : octets(6, ipNumber(ip));
}

/** Read 4 or 16 octets in network byte order. */
export function ipFromOctets(bytes: Uint8Array): Ip {
  if (bytes.length !== 4 && bytes.length !== 16) {
    throw new AddressError(`an IP address has 4 or 16 octets, not ${bytes.length}`);
  }
  const value = bytes.reduce((sum, octet) => (sum << 8n) | BigInt(octet), 0n);
  return ipFromNumber(bytes.length === 4 ? 4 : 6, value);
}

/** The addresses of a subnet of either family ("10.32.0.0/12", "fd00::/8"); host bits do not matter. Throws AddressError. */
export function parseIpSubnet(text: string): IpRange {
  if (!text.includes(":")) {
    const { address, prefix } = subnetOf(parseCidr(text));
    return subnetRange(4, BigInt(address), prefix);
  }
  if (!text.includes("/")) throw new AddressError(`"${text}" has no prefix length, such as fd00::/8 has`);
  const address = address6(text, true);
  return subnetRange(6, address.startAddress().bigInt(), address.subnetMask);
}

function subnetRange(family: Family, first: bigint, prefix: number): IpRange {
  return { family, first, last: first + (1n << BigInt(BITS[family] - prefix)) - 1n };
}

/** Load the module at the first IPv6 address only: it parses tables of IPv6 networks when it is loaded. */
const ipv6 = () => require("ip-address/dist/ipv6.js") as typeof import("ip-address");

function address6(text: string, subnet: boolean): Address6 {
  const { Address6 } = ipv6();
  // Zones name links of one host, which means nothing to others.
  const plain = !text.includes("%") && (subnet || !text.includes("/")) && Address6.isValid(text);
  if (!plain) throw new AddressError(`"${text}" is not an IPv6 ${subnet ? "subnet" : "address"}`);
  return new Address6(text);
}
