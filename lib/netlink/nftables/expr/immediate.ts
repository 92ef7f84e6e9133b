// Puts a constant into a register, or ends the rule with a verdict.
import { type Data, NF_DROP, type Verdict, verdictIn } from "./data.ts";
import {
  type DecodedExpression,
  type Expression,
  expressionFormat,
  NFT_REG_1,
  NFT_REG_VERDICT,
} from "./expression.ts";

/** enum nft_immediate_attributes */
export const IMMEDIATE = expressionFormat("immediate", {
  NFTA_IMMEDIATE_DREG: [1, "register"],
  NFTA_IMMEDIATE_DATA: [2, "data"],
});

const immediate = (register: number, data: Data) =>
  IMMEDIATE.make({ NFTA_IMMEDIATE_DREG: register, NFTA_IMMEDIATE_DATA: data });

/** Put up to 16 bytes into registers from this one on. */
export function load(value: Uint8Array, register = NFT_REG_1): Expression {
  return immediate(register, value);
}

/** End the rule with a verdict. */
export function verdict(verdict: Verdict): Expression {
  return immediate(NFT_REG_VERDICT, verdict);
}

const decided = ({ name, data }: DecodedExpression) => {
  if (name !== IMMEDIATE.name) return undefined;
  const value = data?.nested.get(IMMEDIATE.attributes.NFTA_IMMEDIATE_DATA[0]);
  return value && verdictIn(value);
};

/** Return the chain that an expression jumps to, if it does. Throws AttributeError. */
export function jumpTarget(expression: DecodedExpression): string | undefined {
  return decided(expression)?.chain;
}

/** Whether an expression drops the packet. Throws AttributeError. */
export function drops(expression: DecodedExpression): boolean {
  return decided(expression)?.code === NF_DROP;
}
