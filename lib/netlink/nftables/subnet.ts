// Matches of an address with a subnet, wherever in a packet the address is.
import { type Cidr, ipv4Octets, subnetOf } from "../../address/ipv4.ts";
import { bitwise } from "./expr/bitwise.ts";
import { cmp } from "./expr/cmp.ts";
import type { Expression } from "./expr/expression.ts";

/** Match the IPv4 address that `load` loads with a subnet. */
export function matchSubnet(load: Expression, subnet: Cidr, equal = true): Expression[] {
  const wanted = cmp(ipv4Octets(subnetOf(subnet).address), equal);
  if (subnet.prefix === 32) return [load, wanted];
  const bits = ipv4Octets((0xffffffff << (32 - subnet.prefix)) >>> 0);
  return [load, bitwise(subnet.prefix === 0 ? new Uint8Array(4) : bits), wanted];
}
