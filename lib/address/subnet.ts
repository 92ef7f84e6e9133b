// Subnets that addresses can be handed out in.
import { AddressError, type Cidr, cidrSize, parseSubnet } from "./ipv4.ts";

/** The smallest: its first and its last address are left out. */
const MIN_SIZE = 4;

/** Parses a subnet to allocate in; throws AddressError where it is none, or too small. */
export function parseAllocationSubnet(text: string): Cidr {
  const subnet = parseSubnet(text);
  if (cidrSize(subnet) < MIN_SIZE) {
    throw new AddressError(`invalid subnet - smaller than minimum size ${MIN_SIZE}: ${text}`);
  }
  return subnet;
}
