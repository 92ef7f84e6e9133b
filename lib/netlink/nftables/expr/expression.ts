// Expressions of nftables rules (linux/netfilter/nf_tables.h): steps that load, compare and decide. Each has a file of its own
// with the table of its attributes, by which it is encoded and read. Integers are big-endian, unlike in the rest of netlink.
import type { Attribute, AttributeEncoder, Attributes } from "../../attributes.ts";
import { type Data, dataText, encodeData, hex } from "./data.ts";

const NFTA_LIST_ELEM = 1;
const NFTA_EXPR_NAME = 1;
const NFTA_EXPR_DATA = 2;

// enum nft_registers. A single value is in one register of 16 bytes, concatenated ones in registers of four bytes one after
// the other, the first of which is where the first of 16 bytes begins.
export const NFT_REG_VERDICT = 0;
export const NFT_REG_1 = 1;
export const NFT_REG32_00 = 8;

/** What attributes of expressions hold. */
interface Values {
  u8: number;
  u16: number;
  u32: number;
  u64: bigint;
  string: string;
  /** enum nft_registers */
  register: number;
  data: Data;
}

/** The attributes of an expression, in the order of their types. */
type AttributeTable = Readonly<Record<string, readonly [type: number, kind: keyof Values]>>;

type ValuesOf<Table extends AttributeTable> = { readonly [Name in keyof Table]?: Values[Table[Name][1]] };

/** One step of a rule. */
export interface Expression {
  readonly name: string;
  /** Encode the content of NFTA_EXPR_DATA. */
  encode(data: AttributeEncoder): void;
}

/** An expression of the kernel's: what it is called, and its attributes. */
export interface Format {
  readonly name: string;
  readonly attributes: AttributeTable;
}

/** Describe an expression; `make` encodes attributes in the order in which they are given. */
export function expressionFormat<const Table extends AttributeTable>(name: string, attributes: Table) {
  const make = (values: ValuesOf<Table>): Expression => ({
    name,
    encode(data) {
      for (const [attribute, value] of Object.entries(values)) {
        const [type, kind] = attributes[attribute] as Table[string];
        encodeValue(data, type, kind, value as Values[keyof Values]);
      }
    },
  });
  return { name, attributes, make };
}

function encodeValue(
  encoder: AttributeEncoder,
  type: number,
  kind: keyof Values,
  value: Values[keyof Values],
): void {
  switch (kind) {
    case "u8":
      encoder.u8(type, value as number);
      break;
    case "u16":
      encoder.u16be(type, value as number);
      break;
    case "u32":
    case "register":
      encoder.u32be(type, value as number);
      break;
    case "u64":
      encoder.u64be(type, value as bigint);
      break;
    case "string":
      encoder.string(type, value as string);
      break;
    case "data":
      encoder.nested(type, (inner) => encodeData(inner, value as Data));
      break;
  }
}

/** Encode the content of NFTA_RULE_EXPRESSIONS. */
export function encodeExpressions(list: AttributeEncoder, expressions: readonly Expression[]): void {
  for (const { name, encode } of expressions) {
    list.nested(NFTA_LIST_ELEM, (element) =>
      element.string(NFTA_EXPR_NAME, name).nested(NFTA_EXPR_DATA, encode),
    );
  }
}

/** An expression as the kernel has it. */
export interface DecodedExpression {
  readonly name: string;
  readonly data: Attribute | undefined;
}

/** Read the content of NFTA_RULE_EXPRESSIONS; throws AttributeError. */
export function decodeExpressions(list: Attributes | undefined): DecodedExpression[] {
  return (list?.list ?? []).map(({ nested }) => {
    return { name: nested.need(NFTA_EXPR_NAME).string, data: nested.get(NFTA_EXPR_DATA) };
  });
}

/**
 * Return an expression as text that is the same for what we send and what the kernel answers: without attributes of newer
 * kernels, and without those that are zero, which the kernel may leave out or add. Throws AttributeError.
 */
export function expressionText({ name, data }: DecodedExpression, format: Format | undefined): string {
  // Not one that we send.
  if (!format) return `${name} ${hex(data?.payload ?? new Uint8Array())}`;
  const found = data?.nested;
  const attributes = Object.entries(format.attributes).map(([attribute, [type, kind]]) => {
    const value = found?.get(type);
    const text = value && valueText(value, kind);
    return text ? ` ${attribute}=${text}` : "";
  });
  return name + attributes.join("");
}

function valueText(attribute: Attribute, kind: keyof Values): string {
  if (kind === "data") return dataText(attribute);
  if (kind === "register") return `register ${wideRegister(attribute.u32be)}`;
  return attribute.payload.every((byte) => byte === 0) ? "" : hex(attribute.payload);
}

/** Of four registers of four bytes that are one of 16 bytes, the kernel answers the first by the number of that. */
function wideRegister(register: number): number {
  const narrow = register - NFT_REG32_00;
  return narrow >= 0 && narrow % 4 === 0 ? NFT_REG_1 + narrow / 4 : register;
}
