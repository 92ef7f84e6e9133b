// IPv4 addresses as plain numbers (0 … 2^32-1, first octet highest), subnets and half-open ranges of them.
// Above the wire formats of Weave Net 2.x nothing depends on the number form: see parseCidr and formatCidr.

/** An IPv4 address as an unsigned 32-bit number. */
export type IPv4 = number;

/** An address and its prefix length in bits: "10.32.0.1/12". Also a subnet, when the host bits are zero. */
export interface Cidr {
  readonly address: IPv4;
  readonly prefix: number;
}

/** The addresses start … end-1. `end` may be 2^32. */
export interface AddressRange {
  readonly start: IPv4;
  readonly end: number;
}

/** Invalid text for an address, name or list; the message quotes it. */
export class AddressError extends Error {
  override readonly name: string = "AddressError";
}

/** Say what is wrong with dotted decimal, if that is known. */
function fault(text: string): string {
  if (!/^\d{1,9}(\.\d{1,9})+$/.test(text)) return "";
  const numbers = text.split(".");
  if (numbers.length !== 4) return `: it has ${numbers.length} numbers, not 4`;
  const large = numbers.find((number) => Number(number) > 255);
  if (large !== undefined) return `: ${large} is more than 255`;
  const padded = numbers.find((number) => /^0\d/.test(number));
  return padded === undefined ? "" : `: ${padded} has a leading zero`;
}

/** Whether a text can only be meant as an address; digits alone may be a name, or begin an ID in hexadecimal. */
export const resemblesIPv4 = (text: string): boolean => /^[\d.]*\.\d[\d.]*$/.test(text);

/** The strict form of RFC 6943, 3.1.1. No leading zeros: some programs read these as octal. */
const OCTET = "(?:25[0-5]|2[0-4]\\d|1\\d\\d|[1-9]?\\d)";
const DOTTED_DECIMAL = new RegExp(`^${OCTET}(?:\\.${OCTET}){3}$`);

/** Return whether a text is an address in that form. */
export const isIPv4 = (text: string): boolean => DOTTED_DECIMAL.test(text);

/** Parse dotted decimal; throws AddressError. */
export function parseIPv4(text: string): IPv4 {
  if (!isIPv4(text)) throw new AddressError(`"${text}" is not an IPv4 address${fault(text)}`);
  return text.split(".").reduce((address, octet) => address * 256 + Number(octet), 0);
}

export function formatIPv4(address: IPv4): string {
  return `${address >>> 24}.${(address >>> 16) & 255}.${(address >>> 8) & 255}.${address & 255}`;
}

/** The four octets in network byte order. */
export function ipv4Octets(address: IPv4): Uint8Array {
  return Uint8Array.of(address >>> 24, address >>> 16, address >>> 8, address);
}

/** Read four octets in network byte order. */
export function ipv4FromOctets(octets: Uint8Array): IPv4 {
  if (octets.length !== 4) throw new AddressError(`an IPv4 address has 4 octets, not ${octets.length}`);
  return new DataView(octets.buffer, octets.byteOffset, 4).getUint32(0, false);
}

/** Parse "address/prefix"; throws AddressError. */
export function parseCidr(text: string): Cidr {
  const match = /^([^/]+)\/(\d{1,3})$/.exec(text);
  const prefix = Number(match?.[2]);
  if (prefix > 32) throw new AddressError(`"${text}": prefix length ${prefix} is more than 32`);
  if (!match?.[1]) {
    throw new AddressError(`"${text}" is not an IPv4 address with a prefix length, such as 10.32.0.0/12`);
  }
  return { address: parseIPv4(match[1]), prefix };
}

/** Parse a subnet: like parseCidr, and all bits behind the prefix have to be zero. */
export function parseSubnet(text: string): Cidr {
  const cidr = parseCidr(text);
  if (subnetOf(cidr).address !== cidr.address) {
    throw new AddressError(`invalid subnet - bits after network prefix are not all zero: ${text}`);
  }
  return cidr;
}

export function formatCidr(cidr: Cidr): string {
  return `${formatIPv4(cidr.address)}/${cidr.prefix}`;
}

/** The number of addresses in the subnet of a CIDR. */
export function cidrSize(cidr: Cidr): number {
  return 2 ** (32 - cidr.prefix);
}

/** Return the subnet of an address: host bits cleared. */
export function subnetOf(cidr: Cidr): Cidr {
  const size = cidrSize(cidr);
  return { address: Math.floor(cidr.address / size) * size, prefix: cidr.prefix };
}

/** All addresses of a subnet. */
export function cidrRange(cidr: Cidr): AddressRange {
  const { address } = subnetOf(cidr);
  return { start: address, end: address + cidrSize(cidr) };
}

/** Return the host addresses of a subnet: without the first and the last (RFC 1122). */
export function hostRange(cidr: Cidr): AddressRange {
  const { start, end } = cidrRange(cidr);
  return { start: start + 1, end: end - 1 };
}

export function rangeSize(range: AddressRange): number {
  return range.end - range.start;
}

export function rangeContains(range: AddressRange, address: IPv4): boolean {
  return address >= range.start && address < range.end;
}

export function cidrContains(cidr: Cidr, address: IPv4): boolean {
  return rangeContains(cidrRange(cidr), address);
}

/** Return whether two lists have the same ranges in the same order. */
export function sameRanges(a: readonly AddressRange[], b: readonly AddressRange[]): boolean {
  return (
    a === b ||
    (a.length === b.length && a.every(({ start, end }, i) => start === b[i]?.start && end === b[i]?.end))
  );
}

export function rangesOverlap(a: AddressRange, b: AddressRange): boolean {
  return a.start < b.end && b.start < a.end;
}

/** "10.32.0.0/12" where the range is one subnet's, else "10.32.0.0-10.32.0.6". */
export function formatRange(range: AddressRange): string {
  const prefix = 32 - Math.log2(rangeSize(range));
  if (Number.isInteger(prefix) && range.start % rangeSize(range) === 0) {
    return formatCidr({ address: range.start, prefix });
  }
  return `${formatIPv4(range.start)}-${formatIPv4(range.end - 1)}`;
}
