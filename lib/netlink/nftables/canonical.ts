// What rules and elements of nftables say, as text that is the same for what we send and for what the kernel answers. The
// kernel adds handles, counts, defaults and, in newer versions, attributes that we do not know; none of it is in the text.
import type { Attribute, Attributes } from "../attributes.ts";
import { REGISTER, REGISTER_32 } from "./step.ts";

/** An expression that we send (linux/netfilter/nf_tables.h): how many attributes it has, and which hold what. */
interface Known {
  readonly attributes: number;
  readonly registers?: readonly number[];
  /** Values or verdicts. */
  readonly data?: readonly number[];
}

const KNOWN: Readonly<Record<string, Known>> = {
  bitwise: { attributes: 7, registers: [1, 2], data: [4, 5, 7] },
  cmp: { attributes: 3, registers: [1], data: [3] },
  // Its values are no part of what a rule says.
  counter: { attributes: 0 },
  ct: { attributes: 4, registers: [1, 4] },
  fib: { attributes: 3, registers: [1] },
  immediate: { attributes: 2, registers: [1], data: [2] },
  log: { attributes: 6 },
  lookup: { attributes: 5, registers: [2, 3] },
  masq: { attributes: 3, registers: [2, 3] },
  meta: { attributes: 3, registers: [1, 3] },
  payload: { attributes: 8, registers: [1, 5] },
  range: { attributes: 4, registers: [1], data: [3, 4] },
};

const DATA_VALUE = 1;
const DATA_VERDICT = 2;
const VERDICT_CODE = 1;
const VERDICT_CHAIN = 2;

const hex = (bytes: Uint8Array) => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString("hex");
const isZero = ({ payload }: Attribute) => payload.every((byte) => byte === 0);

/** Data of an expression or element: bytes, or a verdict. */
export function dataText({ nested }: Attribute): string {
  const verdict = nested.get(DATA_VERDICT)?.nested;
  if (!verdict) return hex(nested.get(DATA_VALUE)?.payload ?? new Uint8Array());
  const code = verdict.need(VERDICT_CODE).u32be | 0;
  return `verdict ${code} ${verdict.get(VERDICT_CHAIN)?.string ?? ""}`.trimEnd();
}

/** Registers of four bytes, four of which are one of 16 bytes: the kernel calls the first of them by that. */
function register(number: number): number {
  const behind = number - REGISTER_32;
  return behind >= 0 && behind % 4 === 0 ? REGISTER + behind / 4 : number;
}

/** An element of NFTA_RULE_EXPRESSIONS, { name, data }. Zero is what an attribute is that is not there. */
function expressionText({ nested }: Attribute): string {
  const name = nested.need(1).string;
  const known = Object.hasOwn(KNOWN, name) ? KNOWN[name] : undefined;
  // Never one of ours.
  if (!known) return `${name} ${hex(nested.get(2)?.payload ?? new Uint8Array())}`;
  const attributes = (nested.get(2)?.nested.list ?? [])
    .filter(({ type }) => type <= known.attributes)
    .map((attribute) => {
      const { type, payload } = attribute;
      if (known.data?.includes(type)) return `${type}=${dataText(attribute)}`;
      if (known.registers?.includes(type)) return `${type}=register ${register(attribute.u32be)}`;
      return isZero(attribute) ? "" : `${type}=${hex(payload)}`;
    });
  return [name, ...attributes.filter(Boolean).sort()].join(" ");
}

/** The expressions of a rule. */
export function expressionTexts(expressions: Attributes | undefined): string[] {
  return (expressions?.list ?? []).map(expressionText);
}
