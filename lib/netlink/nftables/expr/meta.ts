// Loads metadata of the packet, or sets it.
import { type Expression, expressionFormat, NFT_REG_1 } from "./expression.ts";

/** enum nft_meta_attributes */
export const META = expressionFormat("meta", {
  NFTA_META_DREG: [1, "register"],
  NFTA_META_KEY: [2, "u32"],
  NFTA_META_SREG: [3, "register"],
});

/** enum nft_meta_keys; the mark is in host byte order, the protocol (of the link layer) in network byte order. */
const NFT_META = {
  protocol: 1,
  mark: 3,
  iifname: 6,
  oifname: 7,
  nftrace: 12,
  nfproto: 15,
  l4proto: 16,
} as const;

type Key = keyof typeof NFT_META;

/** Load it into register 1. */
export function meta(key: Key): Expression {
  return META.make({ NFTA_META_KEY: NFT_META[key], NFTA_META_DREG: NFT_REG_1 });
}

/** Set it to what is in register 1. */
export function metaSet(key: Extract<Key, "mark" | "nftrace">): Expression {
  return META.make({ NFTA_META_KEY: NFT_META[key], NFTA_META_SREG: NFT_REG_1 });
}
