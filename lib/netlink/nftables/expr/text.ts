// Rules as text, to be compared: what we send and what the kernel answers come to the same.
import { BITWISE } from "./bitwise.ts";
import { CMP } from "./cmp.ts";
import { COUNTER } from "./counter.ts";
import { CT } from "./ct.ts";
import { type DecodedExpression, expressionText, type Format } from "./expression.ts";
import { FIB } from "./fib.ts";
import { IMMEDIATE } from "./immediate.ts";
import { LIMIT } from "./limit.ts";
import { LOG } from "./log.ts";
import { LOOKUP } from "./lookup.ts";
import { MASQ } from "./masq.ts";
import { META } from "./meta.ts";
import { NAT } from "./nat.ts";
import { PAYLOAD } from "./payload.ts";
import { RANGE } from "./range.ts";

const FORMATS: ReadonlyMap<string, Format> = new Map(
  [BITWISE, CMP, COUNTER, CT, FIB, IMMEDIATE, LIMIT, LOG, LOOKUP, MASQ, META, NAT, PAYLOAD, RANGE].map(
    (format: Format) => [format.name, format],
  ),
);

/** Return expressions, a line each. Throws AttributeError. */
export function expressionTexts(expressions: readonly DecodedExpression[]): string[] {
  return expressions.map((expression) => expressionText(expression, FORMATS.get(expression.name)));
}
