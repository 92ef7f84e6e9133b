// What all expressions of nftables rules are made of: registers, and the steps that load, mask and compare them
// (linux/netfilter/nf_tables.h).
import type { AttributeEncoder } from "../attributes.ts";

export const NFTA_DATA_VALUE = 1;

// Single values go through one register of 16 bytes; verdicts through register 0. Concatenated ones lie in registers of
// four bytes, one after the other, the first of which is where the first of 16 bytes begins.
export const REGISTER = 1;
export const REGISTER_VERDICT = 0;
export const REGISTER_32 = 8;

/** One step of a rule: a name and its attributes. */
export interface Expression {
  readonly name: string;
  fill(data: AttributeEncoder): void;
}

export const META = { mark: 3, iifname: 6, oifname: 7, protocol: 1, nfproto: 15, l4proto: 16 } as const;
export const PAYLOAD_LINK = 0;
export const PAYLOAD_NETWORK = 1;
export const PAYLOAD_TRANSPORT = 2;

export function expression(name: string, fill: (data: AttributeEncoder) => void): Expression {
  return { name, fill };
}

/** Goes on if register 1 has this value; or if it has not. */
export function compare(value: Uint8Array, equal: boolean): Expression {
  return expression("cmp", (data) =>
    data
      .u32be(1, REGISTER)
      .u32be(2, equal ? 0 : 1)
      .nested(3, (operand) => operand.bytes(NFTA_DATA_VALUE, value)),
  );
}

/** Loads what the kernel knows about the packet. */
export function meta(key: keyof typeof META, register = REGISTER): Expression {
  return expression("meta", (data) => data.u32be(2, META[key]).u32be(1, register));
}

/** Loads bytes of the packet. */
export function payload(base: number, offset: number, length: number, register = REGISTER): Expression {
  return expression("payload", (data) =>
    data.u32be(1, register).u32be(2, base).u32be(3, offset).u32be(4, length),
  );
}

/** Keeps these bits of register 1, and sets others. */
export function mask(value: Uint8Array, or: Uint8Array = new Uint8Array(value.length)): Expression {
  return expression("bitwise", (data) =>
    data
      .u32be(1, REGISTER)
      .u32be(2, REGISTER)
      .u32be(3, value.length)
      .nested(4, (operand) => operand.bytes(NFTA_DATA_VALUE, value))
      .nested(5, (operand) => operand.bytes(NFTA_DATA_VALUE, or)),
  );
}

/** Integers that are not of the packet are in host byte order. */
export function hostOrder(value: number): Uint8Array {
  return new Uint8Array(Uint32Array.of(value).buffer);
}

/** Goes on for so many packets a second, and so many more at once. */
export function limit(perSecond: number, burst: number): Expression {
  return expression("limit", (data) => data.u64be(1, BigInt(perSecond)).u64be(2, 1n).u32be(3, burst));
}
