// Looks registers up in a set or map.
import { type Expression, expressionFormat, NFT_REG_VERDICT, NFT_REG32_00 } from "./expression.ts";

/** enum nft_lookup_attributes */
export const LOOKUP = expressionFormat("lookup", {
  NFTA_LOOKUP_SET: [1, "string"],
  NFTA_LOOKUP_SREG: [2, "register"],
  NFTA_LOOKUP_DREG: [3, "register"],
  NFTA_LOOKUP_SET_ID: [4, "u32"],
  NFTA_LOOKUP_FLAGS: [5, "u32"],
});

/** enum nft_lookup_flags */
const NFT_LOOKUP_F_INV = 1;

/** Go on if what is loaded from register NFT_REG32_00 on is in the set; or if it is not. */
export function lookup(set: string, member = true): Expression {
  return LOOKUP.make({
    NFTA_LOOKUP_SET: set,
    NFTA_LOOKUP_SREG: NFT_REG32_00,
    ...(!member && { NFTA_LOOKUP_FLAGS: NFT_LOOKUP_F_INV }),
  });
}

/** End the rule with the verdict that the map has for what is loaded; goes to the next rule where it has none. */
export function verdictMap(map: string): Expression {
  return LOOKUP.make({
    NFTA_LOOKUP_SET: map,
    NFTA_LOOKUP_SREG: NFT_REG32_00,
    NFTA_LOOKUP_DREG: NFT_REG_VERDICT,
  });
}

/** Load what the map has for what is loaded, into registers from `register` on; ends the rule where it has nothing. */
export function lookupValue(map: string, register: number): Expression {
  return LOOKUP.make({
    NFTA_LOOKUP_SET: map,
    NFTA_LOOKUP_SREG: NFT_REG32_00,
    NFTA_LOOKUP_DREG: register,
  });
}
