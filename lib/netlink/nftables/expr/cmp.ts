// Compares a register with a value; the rule ends here where that fails.
import { type Expression, expressionFormat, NFT_REG_1 } from "./expression.ts";

/** enum nft_cmp_attributes */
export const CMP = expressionFormat("cmp", {
  NFTA_CMP_SREG: [1, "register"],
  NFTA_CMP_OP: [2, "u32"],
  NFTA_CMP_DATA: [3, "data"],
});

/** enum nft_cmp_ops */
const NFT_CMP_EQ = 0;
const NFT_CMP_NEQ = 1;

/** Go on if register 1 begins with this value, in the byte order of what was loaded; or if it does not. */
export function cmp(value: Uint8Array, equal = true): Expression {
  return CMP.make({
    NFTA_CMP_SREG: NFT_REG_1,
    NFTA_CMP_OP: equal ? NFT_CMP_EQ : NFT_CMP_NEQ,
    NFTA_CMP_DATA: value,
  });
}
