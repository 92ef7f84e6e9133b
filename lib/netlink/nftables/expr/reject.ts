// Rejects packets with an answer; only others' rules do. iptables-nft writes its target REJECT as this expression, or in some
// versions as a target of iptables-legacy.
import type { DecodedExpression } from "./expression.ts";

const REJECT = "reject";
/** enum nft_target_attributes (linux/netfilter/nf_tables_compat.h) */
const TARGET = "target";
const NFTA_TARGET_NAME = 1;

/** Whether an expression rejects the packet. Throws AttributeError. */
export function rejects({ name, data }: DecodedExpression): boolean {
  return name === REJECT || (name === TARGET && data?.nested.get(NFTA_TARGET_NAME)?.string === "REJECT");
}
