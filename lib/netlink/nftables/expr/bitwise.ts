// Keeps bits of a register, and flips others: (value & mask) ^ xor.
import { type Expression, expressionFormat, NFT_REG_1 } from "./expression.ts";

/** enum nft_bitwise_attributes */
export const BITWISE = expressionFormat("bitwise", {
  NFTA_BITWISE_SREG: [1, "register"],
  NFTA_BITWISE_DREG: [2, "register"],
  NFTA_BITWISE_LEN: [3, "u32"],
  NFTA_BITWISE_MASK: [4, "data"],
  NFTA_BITWISE_XOR: [5, "data"],
  NFTA_BITWISE_OP: [6, "u32"],
  NFTA_BITWISE_DATA: [7, "data"],
});

/** Keep the bits of `mask` in register 1, and flip those of `xor`. */
export function bitwise(mask: Uint8Array, xor: Uint8Array = new Uint8Array(mask.length)): Expression {
  return BITWISE.make({
    NFTA_BITWISE_SREG: NFT_REG_1,
    NFTA_BITWISE_DREG: NFT_REG_1,
    NFTA_BITWISE_LEN: mask.length,
    NFTA_BITWISE_MASK: mask,
    NFTA_BITWISE_XOR: xor,
  });
}
