// Compares a register with a range of values; the rule ends here where that fails.
import { type Expression, expressionFormat, NFT_REG_1 } from "./expression.ts";

/** enum nft_range_attributes */
export const RANGE = expressionFormat("range", {
  NFTA_RANGE_SREG: [1, "register"],
  NFTA_RANGE_OP: [2, "u32"],
  NFTA_RANGE_FROM_DATA: [3, "data"],
  NFTA_RANGE_TO_DATA: [4, "data"],
});

/** enum nft_range_ops */
const NFT_RANGE_EQ = 0;

/** Go on if register 1 is in the range, ends included. */
export function range(from: Uint8Array, to: Uint8Array): Expression {
  return RANGE.make({
    NFTA_RANGE_SREG: NFT_REG_1,
    NFTA_RANGE_OP: NFT_RANGE_EQ,
    NFTA_RANGE_FROM_DATA: from,
    NFTA_RANGE_TO_DATA: to,
  });
}
