// Looks an address of the packet up in the routing tables.
import { type Expression, expressionFormat, NFT_REG_1 } from "./expression.ts";

/** enum nft_fib_attributes */
export const FIB = expressionFormat("fib", {
  NFTA_FIB_DREG: [1, "register"],
  NFTA_FIB_RESULT: [2, "u32"],
  NFTA_FIB_FLAGS: [3, "u32"],
});

/** enum nft_fib_result: the route's type, RTN_LOCAL and so on (linux/rtnetlink.h). */
const NFT_FIB_RESULT_ADDRTYPE = 3;
/** enum nft_fib_flags */
const NFTA_FIB_F = { saddr: 1, daddr: 2 } as const;

/** Load the type of the route to an address of the packet, in host byte order. */
export function fibAddressType(field: keyof typeof NFTA_FIB_F): Expression {
  return FIB.make({
    NFTA_FIB_DREG: NFT_REG_1,
    NFTA_FIB_RESULT: NFT_FIB_RESULT_ADDRTYPE,
    NFTA_FIB_FLAGS: NFTA_FIB_F[field],
  });
}
