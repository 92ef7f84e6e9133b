// Refuses packets with an answer, as others' rules do; we send none. iptables-nft writes its target REJECT as such an
// expression, or in some versions as the target of the older iptables.
import type { DecodedExpression } from "./expression.ts";

const REJECT = "reject";
/** enum nft_target_attributes (linux/netfilter/nf_tables_compat.h) */
const TARGET = "target";
const NFTA_TARGET_NAME = 1;

/** Whether an expression rejects the packet. Throws AttributeError. */
export function rejects({ name, data }: DecodedExpression): boolean {
  return name === REJECT || (name === TARGET && data?.nested.get(NFTA_TARGET_NAME)?.string === "REJECT");
}
