// Counts packets and bytes.
import { type Expression, expressionFormat } from "./expression.ts";

/** enum nft_counter_attributes, which are left out: how much was counted is no part of what a rule says. */
export const COUNTER = expressionFormat("counter", {});

/** Count from zero. */
export function counter(): Expression {
  return COUNTER.make({});
}
