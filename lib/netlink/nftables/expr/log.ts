// Sends a copy of the packet to a group of NFLOG (../../nflog.ts reads it).
import { type Expression, expressionFormat } from "./expression.ts";

/** enum nft_log_attributes */
export const LOG = expressionFormat("log", {
  NFTA_LOG_GROUP: [1, "u16"],
  NFTA_LOG_PREFIX: [2, "string"],
  NFTA_LOG_SNAPLEN: [3, "u32"],
  NFTA_LOG_QTHRESHOLD: [4, "u16"],
  NFTA_LOG_LEVEL: [5, "u32"],
  NFTA_LOG_FLAGS: [6, "u32"],
});

/** Log the first `bytes` of the packet, with a prefix of at most 127 bytes. */
export function log(group: number, prefix: string, bytes: number): Expression {
  return LOG.make({ NFTA_LOG_GROUP: group, NFTA_LOG_PREFIX: prefix, NFTA_LOG_SNAPLEN: bytes });
}
