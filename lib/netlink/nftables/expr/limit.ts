// Ends the rule for packets beyond a rate.
import { type Expression, expressionFormat } from "./expression.ts";

/** enum nft_limit_attributes */
export const LIMIT = expressionFormat("limit", {
  NFTA_LIMIT_RATE: [1, "u64"],
  NFTA_LIMIT_UNIT: [2, "u64"],
  NFTA_LIMIT_BURST: [3, "u32"],
  NFTA_LIMIT_TYPE: [4, "u32"],
  NFTA_LIMIT_FLAGS: [5, "u32"],
});

/** Seconds. */
const UNIT = 1n;

/** Go on for this many packets a second, and `burst` more at once. */
export function limit(perSecond: number, burst: number): Expression {
  return LIMIT.make({ NFTA_LIMIT_RATE: BigInt(perSecond), NFTA_LIMIT_UNIT: UNIT, NFTA_LIMIT_BURST: burst });
}
