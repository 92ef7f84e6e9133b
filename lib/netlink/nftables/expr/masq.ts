// Source NAT to the address of the link that the packet goes out by.
import { type Expression, expressionFormat } from "./expression.ts";

/** enum nft_masq_attributes */
export const MASQ = expressionFormat("masq", {
  NFTA_MASQ_FLAGS: [1, "u32"],
  NFTA_MASQ_REG_PROTO_MIN: [2, "register"],
  NFTA_MASQ_REG_PROTO_MAX: [3, "register"],
});

/** linux/netfilter/nf_nat.h */
const NF_NAT_RANGE_PROTO_RANDOM_FULLY = 16;

/**
 * Masquerades, with a port chosen fully at random: two flows that leave at once (the A and AAAA queries of one look-up) would
 * else get the same one, and the loser's packet be lost.
 */
export function masquerade(): Expression {
  return MASQ.make({ NFTA_MASQ_FLAGS: NF_NAT_RANGE_PROTO_RANDOM_FULLY });
}
