// Expressions of nftables rules (linux/netfilter/nf_tables.h): small steps that load, compare and decide.
// Integers inside are big-endian, unlike the rest of netlink. Bytes follow what nft(8) sends.
import { type Cidr, ipv4Octets, subnetOf } from "../../address/ipv4.ts";
import type { AttributeEncoder } from "../attributes.ts";

const NFTA_EXPR_NAME = 1;
const NFTA_EXPR_DATA = 2;
const NFTA_DATA_VALUE = 1;
const NFTA_DATA_VERDICT = 2;
const NFTA_VERDICT_CODE = 1;

// All of an expression's values go through one register; verdicts through register 0.
const REGISTER = 1;
const REGISTER_VERDICT = 0;

const META = { iifname: 6, oifname: 7, l4proto: 16 } as const;
const PAYLOAD_NETWORK = 1;
const PAYLOAD_TRANSPORT = 2;
const CT_STATE = 0;
const MASQUERADE_FULLY_RANDOM = 16;
const IFNAMSIZ = 16;

/** One step of a rule: a name and its attributes. */
export interface Expression {
  readonly name: string;
  fill(data: AttributeEncoder): void;
}

/** What a rule decides in the end. */
export type Verdict = "drop" | "accept" | "return";
const VERDICT: Record<Verdict, number> = { drop: 0, accept: 1, return: -5 };

/** Encodes expressions as the elements of NFTA_RULE_EXPRESSIONS. */
export function encodeExpressions(list: AttributeEncoder, expressions: readonly Expression[]): void {
  for (const expression of expressions) {
    list.nested(1, (element) =>
      element.string(NFTA_EXPR_NAME, expression.name).nested(NFTA_EXPR_DATA, (data) => expression.fill(data)),
    );
  }
}

function expression(name: string, fill: (data: AttributeEncoder) => void): Expression {
  return { name, fill };
}

function compare(value: Uint8Array, equal: boolean): Expression {
  return expression("cmp", (data) =>
    data
      .u32be(1, REGISTER)
      .u32be(2, equal ? 0 : 1)
      .nested(3, (operand) => operand.bytes(NFTA_DATA_VALUE, value)),
  );
}

function meta(key: keyof typeof META): Expression {
  return expression("meta", (data) => data.u32be(2, META[key]).u32be(1, REGISTER));
}

function payload(base: number, offset: number, length: number): Expression {
  return expression("payload", (data) =>
    data.u32be(1, REGISTER).u32be(2, base).u32be(3, offset).u32be(4, length),
  );
}

function mask(value: Uint8Array): Expression {
  return expression("bitwise", (data) =>
    data
      .u32be(1, REGISTER)
      .u32be(2, REGISTER)
      .u32be(3, value.length)
      .nested(4, (operand) => operand.bytes(NFTA_DATA_VALUE, value))
      .nested(5, (operand) => operand.bytes(NFTA_DATA_VALUE, new Uint8Array(value.length))),
  );
}

/** Matches the name of the link a packet came in by or goes out by. */
export function linkName(key: "iifname" | "oifname", name: string, equal = true): Expression[] {
  const padded = new Uint8Array(IFNAMSIZ);
  padded.set(new TextEncoder().encode(name).subarray(0, IFNAMSIZ - 1));
  return [meta(key), compare(padded, equal)];
}

/** Matches the source or destination address of an IPv4 packet with a subnet. */
export function ipAddress(key: "saddr" | "daddr", subnet: Cidr, equal = true): Expression[] {
  const load = payload(PAYLOAD_NETWORK, key === "saddr" ? 12 : 16, 4);
  const wanted = compare(ipv4Octets(subnetOf(subnet).address), equal);
  if (subnet.prefix === 32) return [load, wanted];
  const bits = ipv4Octets((0xffffffff << (32 - subnet.prefix)) >>> 0);
  return [load, mask(subnet.prefix === 0 ? new Uint8Array(4) : bits), wanted];
}

const IPPROTO_TCP = 6;

/** Matches TCP packets to a destination port. */
export function tcpDestinationPort(port: number): Expression[] {
  return [
    meta("l4proto"),
    compare(Uint8Array.of(IPPROTO_TCP), true),
    payload(PAYLOAD_TRANSPORT, 2, 2),
    compare(Uint8Array.of(port >> 8, port & 255), true),
  ];
}

const CT_STATE_ESTABLISHED = 2;
const CT_STATE_RELATED = 4;

/** Matches packets of connections that conntrack knows (established or related). */
export function connectionKnown(): Expression[] {
  const states = new Uint8Array(new Uint32Array([CT_STATE_ESTABLISHED | CT_STATE_RELATED]).buffer);
  return [
    expression("ct", (data) => data.u32be(2, CT_STATE).u32be(1, REGISTER)),
    mask(states),
    compare(new Uint8Array(4), false),
  ];
}

/** Ends the rule with a verdict. */
export function verdict(name: Verdict): Expression {
  return expression("immediate", (data) =>
    data
      .u32be(1, REGISTER_VERDICT)
      .nested(2, (value) =>
        value.nested(NFTA_DATA_VERDICT, (inner) => inner.u32be(NFTA_VERDICT_CODE, VERDICT[name])),
      ),
  );
}

/**
 * Replaces the source address by that of the link the packet goes out by. The port is chosen fully at random:
 * two flows that leave at once (the A and AAAA queries of one look-up) would else be given the same one, and
 * the loser's packet be lost.
 */
export function masquerade(): Expression {
  return expression("masq", (data) => data.u32be(1, MASQUERADE_FULLY_RANDOM));
}
