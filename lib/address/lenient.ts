// Addresses and subnets as API servers of Kubernetes accept them, which is more than is canonical: decimal numbers and
// groups with leading zeros (net.ParseIP of Go before 1.17, kept as netutils.ParseIPSloppy), and IPv4 addresses mapped into
// IPv6 (RFC 4291, 2.5.5.2), which mean the IPv4 address.
import { type Ip, type IpRange, ipFromNumber, parseIp, parseIpSubnet } from "./ip.ts";
import { AddressError } from "./ipv4.ts";

/** Longer than any address with its prefix and some leading zeros. */
const MAX_LENGTH = 128;
const MAPPED = 0xffffn;
const MAPPED_SHIFT = 32n;

/** Read an address of either family; throws AddressError. */
export function parseLenientIp(text: string): Ip {
  const ip = parseIp(canonical(text));
  if (!ip.includes(":")) return ip;
  const { family, first } = unmapped(parseIpSubnet(`${ip}/128`));
  return ipFromNumber(family, first);
}

/** Read a subnet of either family; host bits do not matter. Throws AddressError. */
export function parseLenientSubnet(text: string): IpRange {
  return unmapped(parseIpSubnet(canonical(text)));
}

/** Strip leading zeros of each number. */
function canonical(text: string): string {
  if (text.length > MAX_LENGTH) throw new AddressError("an address has at most 128 characters");
  return text.replace(/(^|[.:/])0+(?=[\da-f])/gi, "$1");
}

/** Map a range of IPv4-mapped addresses to IPv4. */
function unmapped(range: IpRange): IpRange {
  const { family, first, last } = range;
  if (family === 4 || first >> MAPPED_SHIFT !== MAPPED || last >> MAPPED_SHIFT !== MAPPED) return range;
  const low = (1n << MAPPED_SHIFT) - 1n;
  return { family: 4, first: first & low, last: last & low };
}
