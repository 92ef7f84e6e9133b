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

/** Longest prefix: the first and the last address are not allocated. */
const MIN_SIZE = 4;

/** Ranges that containers cannot use (RFC 6890, RFC 5771), and their purpose. */
const UNUSABLE = [
  ["0.0.0.0/8", "this host"],
  ["127.0.0.0/8", "loopback"],
  ["224.0.0.0/4", "multicast"],
  ["255.255.255.255/32", "broadcast"],
].map(([text = "", use]) => ({ cidr: parseCidr(text), use }));

/** Throw AddressError if a range overlaps those. */
function refuseUnusable(range: AddressRange, what: string): void {
  const unusable = UNUSABLE.find(({ cidr }) => rangesOverlap(cidrRange(cidr), range));
  if (!unusable) return;
  const { cidr, use } = unusable;
  throw new AddressError(
    `${what} overlaps with ${formatCidr(cidr)} (${use}), which no container can use; choose a private range (RFC 1918)`,
  );
}

/** Parse the address of a container; throws AddressError. */
export function parseContainerCidr(text: string): Cidr {
  const cidr = parseCidr(text);
  refuseUnusable({ start: cidr.address, end: cidr.address + 1 }, text);
  return cidr;
}

/** Parse a subnet to allocate from; throws AddressError if it is invalid, too small, or reserved. */
export function parseAllocationSubnet(text: string): Cidr {
  const subnet = parseSubnet(text);
  if (cidrSize(subnet) < MIN_SIZE) {
    throw new AddressError(`invalid subnet - smaller than minimum size ${MIN_SIZE}: ${text}`);
  }
  refuseUnusable(cidrRange(subnet), text);
  return subnet;
}
