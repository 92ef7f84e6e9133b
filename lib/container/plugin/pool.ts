// IDs of address pools: "weave-SUBNET-RANGE", as the original has them. They say all there is to know, so that no pool needs
// to be remembered, and those of networks that the original made stay valid.
import { AddressError, formatCidr, parseSubnet } from "../../address/ipv4.ts";
import type { AddressPool } from "./messages.ts";

/** Return the ID of a pool. */
export const poolId = ({ subnet, range }: AddressPool): string =>
  `weave-${formatCidr(subnet)}-${formatCidr(range)}`;

/** Parse the ID of a pool; throws AddressError. */
export function parsePoolId(id: string): AddressPool {
  const [, subnet, range] = /^weave-([\d./]+)-([\d./]+)$/.exec(id) ?? [];
  if (subnet === undefined || range === undefined)
    throw new AddressError(`pool "${id}" is not of weave; create the network again`);
  return { subnet: parseSubnet(subnet), range: parseSubnet(range) };
}
