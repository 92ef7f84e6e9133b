// Subnets and addresses that containers can have.
import {
  AddressError,
  type AddressRange,
  type Cidr,
  cidrRange,
  cidrSize,
  formatCidr,
  parseCidr,
  parseSubnet,
  rangesOverlap,
} from "./ipv4.ts";

/** The smallest: its first and its last address are left out. */
const MIN_SIZE = 4;

/** What Linux accepts on no link but loopback (RFC 6890, RFC 5771), and what it is for. */
const UNUSABLE = [
  ["0.0.0.0/8", "this host"],
  ["127.0.0.0/8", "loopback"],
  ["224.0.0.0/4", "multicast"],
  ["255.255.255.255/32", "broadcast"],
].map(([text = "", use]) => ({ cidr: parseCidr(text), use }));

/** Throws AddressError where a range has addresses in it that no container can have. */
function refuseUnusable(range: AddressRange, what: string): void {
  const unusable = UNUSABLE.find(({ cidr }) => rangesOverlap(cidrRange(cidr), range));
  if (!unusable) return;
  const { cidr, use } = unusable;
  throw new AddressError(
    `${what} overlaps with ${formatCidr(cidr)} (${use}), which no container can use; choose a private range (RFC 1918)`,
  );
}

/** Parses the address of a container; throws AddressError. */
export function parseContainerCidr(text: string): Cidr {
  const cidr = parseCidr(text);
  refuseUnusable({ start: cidr.address, end: cidr.address + 1 }, text);
  return cidr;
}

/** Parses a subnet to allocate in; throws AddressError where it is none, too small, or for other purposes. */
export function parseAllocationSubnet(text: string): Cidr {
  const subnet = parseSubnet(text);
  if (cidrSize(subnet) < MIN_SIZE) {
    throw new AddressError(`invalid subnet - smaller than minimum size ${MIN_SIZE}: ${text}`);
  }
  refuseUnusable(cidrRange(subnet), text);
  return subnet;
}
