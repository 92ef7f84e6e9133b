// Loads bytes of the packet.
import { type Expression, expressionFormat, NFT_REG_1 } from "./expression.ts";

/** enum nft_payload_attributes */
export const PAYLOAD = expressionFormat("payload", {
  NFTA_PAYLOAD_DREG: [1, "register"],
  NFTA_PAYLOAD_BASE: [2, "u32"],
  NFTA_PAYLOAD_OFFSET: [3, "u32"],
  NFTA_PAYLOAD_LEN: [4, "u32"],
  NFTA_PAYLOAD_SREG: [5, "register"],
  NFTA_PAYLOAD_CSUM_TYPE: [6, "u32"],
  NFTA_PAYLOAD_CSUM_OFFSET: [7, "u32"],
  NFTA_PAYLOAD_CSUM_FLAGS: [8, "u32"],
});

/** enum nft_payload_bases: the header that an offset counts from. */
export const NFT_PAYLOAD_LL_HEADER = 0;
export const NFT_PAYLOAD_NETWORK_HEADER = 1;
export const NFT_PAYLOAD_TRANSPORT_HEADER = 2;

/** Load `length` bytes at an offset; ends the rule where the packet has no such header or is too short. */
export function payload(base: number, offset: number, length: number, register = NFT_REG_1): Expression {
  return PAYLOAD.make({
    NFTA_PAYLOAD_DREG: register,
    NFTA_PAYLOAD_BASE: base,
    NFTA_PAYLOAD_OFFSET: offset,
    NFTA_PAYLOAD_LEN: length,
  });
}
