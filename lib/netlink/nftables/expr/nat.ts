// Destination NAT to an address and a port in registers.
import { NFPROTO } from "../../nfnetlink.ts";
import { type Expression, expressionFormat } from "./expression.ts";

/** enum nft_nat_attributes */
export const NAT = expressionFormat("nat", {
  NFTA_NAT_TYPE: [1, "u32"],
  NFTA_NAT_FAMILY: [2, "u32"],
  NFTA_NAT_REG_ADDR_MIN: [3, "register"],
  NFTA_NAT_REG_ADDR_MAX: [4, "register"],
  NFTA_NAT_REG_PROTO_MIN: [5, "register"],
  NFTA_NAT_REG_PROTO_MAX: [6, "register"],
  NFTA_NAT_FLAGS: [7, "u32"],
});

/** enum nft_nat_types */
const NFT_NAT_DNAT = 1;

/** linux/netfilter/nf_nat.h: NF_NAT_RANGE_MAP_IPS and NF_NAT_RANGE_PROTO_SPECIFIED */
const ADDRESS_AND_PORT = 3;

/** Translate the destination to the IPv4 address in one register and the port in another; ends the rule. */
export function destinationNat(address: number, port: number): Expression {
  // All that the kernel would add, so that what it answers is what was sent.
  return NAT.make({
    NFTA_NAT_TYPE: NFT_NAT_DNAT,
    NFTA_NAT_FAMILY: NFPROTO.ip,
    NFTA_NAT_REG_ADDR_MIN: address,
    NFTA_NAT_REG_ADDR_MAX: address,
    NFTA_NAT_REG_PROTO_MIN: port,
    NFTA_NAT_REG_PROTO_MAX: port,
    NFTA_NAT_FLAGS: ADDRESS_AND_PORT,
  });
}
