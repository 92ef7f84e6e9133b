// Loads fields of the connection of a packet, or sets its mark. Loading ends the rule for packets that belong to no
// connection, but for NFT_CT_STATE.
import { type Expression, expressionFormat, NFT_REG_1 } from "./expression.ts";

/** enum nft_ct_attributes */
export const CT = expressionFormat("ct", {
  NFTA_CT_DREG: [1, "register"],
  NFTA_CT_KEY: [2, "u32"],
  NFTA_CT_DIRECTION: [3, "u8"],
  NFTA_CT_SREG: [4, "register"],
});

/** enum nft_ct_keys */
export const NFT_CT_STATE = 0;
export const NFT_CT_DIRECTION = 1;
export const NFT_CT_STATUS = 2;
export const NFT_CT_MARK = 3;
export const NFT_CT_PROTOCOL = 10;
export const NFT_CT_PROTO_SRC = 11;
export const NFT_CT_SRC_IP = 19;
export const NFT_CT_SRC_IP6 = 21;

/** enum ip_conntrack_dir (linux/netfilter/nf_conntrack_tuple_common.h) */
export const IP_CT_DIR_ORIGINAL = 0;
export const IP_CT_DIR_REPLY = 1;

/** Load a field of the connection, of one direction where it has two: addresses and ports in network byte order. */
export function ct(key: number, register = NFT_REG_1, direction?: number): Expression {
  return CT.make({
    NFTA_CT_KEY: key,
    NFTA_CT_DREG: register,
    ...(direction !== undefined && { NFTA_CT_DIRECTION: direction }),
  });
}

/** Set a field of the connection to what is in register 1. */
export function ctSet(key: number): Expression {
  return CT.make({ NFTA_CT_KEY: key, NFTA_CT_SREG: NFT_REG_1 });
}
