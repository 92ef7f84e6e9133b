// Values and verdicts inside expressions and set elements: NFTA_DATA_* and NFTA_VERDICT_* (linux/netfilter/nf_tables.h).
import type { Attribute, AttributeEncoder } from "../../attributes.ts";

const NFTA_DATA_VALUE = 1;
const NFTA_DATA_VERDICT = 2;

const NFTA_VERDICT_CODE = 1;
const NFTA_VERDICT_CHAIN = 2;

/** What a rule, or an element of a map, decides. */
export type Verdict = "drop" | "accept" | "return" | { readonly jump: string } | { readonly goto: string };

/** enum nf_verdicts (linux/netfilter.h) */
export const NF_DROP = 0;
export const NF_ACCEPT = 1;
/** Those, and enum nft_verdicts. */
const CODE = { drop: NF_DROP, accept: NF_ACCEPT, return: -5, jump: -3, goto: -4 } as const;

/** Bytes as they are in the packet or register, or a verdict. */
export type Data = Uint8Array | Verdict;

/** Encode the content of an attribute that holds data. */
export function encodeData(encoder: AttributeEncoder, data: Data): void {
  if (data instanceof Uint8Array) encoder.bytes(NFTA_DATA_VALUE, data);
  else encoder.nested(NFTA_DATA_VERDICT, (verdict) => encodeVerdict(verdict, data));
}

function encodeVerdict(encoder: AttributeEncoder, verdict: Verdict): void {
  if (typeof verdict === "string") encoder.u32be(NFTA_VERDICT_CODE, CODE[verdict]);
  else if ("jump" in verdict)
    encoder.u32be(NFTA_VERDICT_CODE, CODE.jump).string(NFTA_VERDICT_CHAIN, verdict.jump);
  else encoder.u32be(NFTA_VERDICT_CODE, CODE.goto).string(NFTA_VERDICT_CHAIN, verdict.goto);
}

/** A verdict as the kernel has it; `chain` where it jumps. */
export interface DecodedVerdict {
  readonly code: number;
  readonly chain: string | undefined;
}

/** Read NFTA_VERDICT_* in an attribute; throws AttributeError. */
export function decodeVerdict({ nested }: Attribute): DecodedVerdict {
  return { code: nested.need(NFTA_VERDICT_CODE).u32be | 0, chain: nested.get(NFTA_VERDICT_CHAIN)?.string };
}

/** Return the verdict in an attribute that holds data; undefined for values. Throws AttributeError. */
export function verdictIn({ nested }: Attribute): DecodedVerdict | undefined {
  const verdict = nested.get(NFTA_DATA_VERDICT);
  return verdict && decodeVerdict(verdict);
}

/** Return data as text, the same for what we send and what the kernel answers. Throws AttributeError. */
export function dataText(data: Attribute): string {
  const verdict = verdictIn(data);
  if (verdict) return `verdict ${verdict.code} ${verdict.chain ?? ""}`.trimEnd();
  return hex(valueIn(data));
}

/** Return the bytes in an attribute that holds data; none for verdicts. */
export function valueIn({ nested }: Attribute): Uint8Array {
  return nested.get(NFTA_DATA_VALUE)?.payload ?? new Uint8Array();
}

/** Return what the kernel has of a number that is not of the packet: in host byte order. */
export function hostOrder(value: number): Uint8Array {
  return new Uint8Array(Uint32Array.of(value).buffer);
}

export const hex = (bytes: Uint8Array) =>
  Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString("hex");
