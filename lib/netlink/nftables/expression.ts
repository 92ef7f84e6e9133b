// Expressions of nftables rules (linux/netfilter/nf_tables.h): small steps that load, compare and decide.
// Integers inside are big-endian, unlike the rest of netlink. Bytes follow what nft(8) sends.
import type { Family } from "../../address/ip.ts";
import { type Cidr, ipv4Octets, subnetOf } from "../../address/ipv4.ts";
import type { AttributeEncoder } from "../attributes.ts";
import {
  type ConnectionField,
  connectionField,
  connectionFieldLength,
  connectionState,
  STATE,
} from "./conntrack.ts";
import {
  compare,
  type Expression,
  expression,
  hostOrder,
  META,
  mask,
  meta,
  NFTA_DATA_VALUE,
  PAYLOAD_LINK,
  PAYLOAD_NETWORK,
  PAYLOAD_TRANSPORT,
  payload,
  REGISTER,
  REGISTER_32,
  REGISTER_VERDICT,
} from "./step.ts";

const NFTA_EXPR_NAME = 1;
const NFTA_EXPR_DATA = 2;
const NFTA_DATA_VERDICT = 2;
const NFTA_VERDICT_CODE = 1;
const NFTA_VERDICT_CHAIN = 2;

const MASQUERADE_FULLY_RANDOM = 16;
const IFNAMSIZ = 16;

/** What a rule, or an element of a map, decides in the end. */
export type Verdict = "drop" | "accept" | "return" | { readonly jump: string } | { readonly goto: string };
const VERDICT = { drop: 0, accept: 1, return: -5, jump: -3, goto: -4 } as const;

/** Puts a verdict into NFTA_DATA_VERDICT. */
export function encodeVerdict(data: AttributeEncoder, verdict: Verdict): void {
  data.nested(NFTA_DATA_VERDICT, (inner) => {
    if (typeof verdict === "string") inner.u32be(NFTA_VERDICT_CODE, VERDICT[verdict]);
    else if ("jump" in verdict)
      inner.u32be(NFTA_VERDICT_CODE, VERDICT.jump).string(NFTA_VERDICT_CHAIN, verdict.jump);
    else inner.u32be(NFTA_VERDICT_CODE, VERDICT.goto).string(NFTA_VERDICT_CHAIN, verdict.goto);
  });
}

/** Encodes expressions as the elements of NFTA_RULE_EXPRESSIONS. */
export function encodeExpressions(list: AttributeEncoder, expressions: readonly Expression[]): void {
  for (const expression of expressions) {
    list.nested(1, (element) =>
      element.string(NFTA_EXPR_NAME, expression.name).nested(NFTA_EXPR_DATA, (data) => expression.fill(data)),
    );
  }
}

const NFPROTO: Record<Family, number> = { 4: 2, 6: 10 };

/** Matches packets of a family, where a chain sees both (table family inet). */
export function ofFamily(family: Family): Expression[] {
  return [meta("nfproto"), compare(Uint8Array.of(NFPROTO[family]), true)];
}

const ETHERTYPE: Record<Family, readonly number[]> = { 4: [0x08, 0x00], 6: [0x86, 0xdd] };

/** Matches frames that carry packets of a family (table family bridge). */
export function frameOf(family: Family): Expression[] {
  return [meta("protocol"), compare(Uint8Array.from(ETHERTYPE[family]), true)];
}

/**
 * Matches frames by the type in their Ethernet header (table family bridge): of a tagged frame, that of the outer tag,
 * also where the kernel keeps the tag beside the packet (linux/if_vlan.h: skb_vlan_tag_present).
 */
export function etherType(type: number): Expression[] {
  return [payload(PAYLOAD_LINK, 12, 2), compare(Uint8Array.of(type >> 8, type & 255), true)];
}

/** A field that sets and maps are looked up by: an address of the packet, or a field of its connection. */
export type Field = "saddr" | "daddr" | ConnectionField;

/** Where fields lie: base, offset, length in bytes. The network header's depend on the family. */
const ADDRESS = {
  4: { saddr: [PAYLOAD_NETWORK, 12, 4], daddr: [PAYLOAD_NETWORK, 16, 4] },
  6: { saddr: [PAYLOAD_NETWORK, 8, 16], daddr: [PAYLOAD_NETWORK, 24, 16] },
} as const;

/** Loads fields one behind the other, each padded to four bytes. */
function load(family: Family, fields: readonly Field[]): Expression[] {
  let register = REGISTER_32;
  return fields.map((field) => {
    const at = register;
    if (field !== "saddr" && field !== "daddr") {
      register += connectionFieldLength(field, family) / 4;
      return connectionField(field, family, at);
    }
    const [base, offset, length] = ADDRESS[family][field];
    register += length / 4;
    return payload(base, offset, length, at);
  });
}

/** Matches packets whose fields, put together, are in a set; or are not. */
export function inSet(family: Family, fields: readonly Field[], set: string, member = true): Expression[] {
  return [
    ...load(family, fields),
    expression("lookup", (data) => {
      data.string(1, set).u32be(2, REGISTER_32);
      if (!member) data.u32be(5, 1);
    }),
  ];
}

/** Goes by the verdict that a map has for these fields; on with the next rule where it has none. */
export function byMap(family: Family, fields: readonly Field[], map: string): Expression[] {
  return [
    ...load(family, fields),
    expression("lookup", (data) => data.string(1, map).u32be(2, REGISTER_32).u32be(3, REGISTER_VERDICT)),
  ];
}

const FIB = { result: { addressType: 3 }, flags: { saddr: 1, daddr: 2 } } as const;
const RTN_LOCAL = 2;

/** Matches packets whose source or destination address is the host's own. */
export function hostAddress(field: "saddr" | "daddr"): Expression[] {
  return [
    expression("fib", (data) =>
      data.u32be(1, REGISTER).u32be(2, FIB.result.addressType).u32be(3, FIB.flags[field]),
    ),
    compare(hostOrder(RTN_LOCAL), true),
  ];
}

/** Tells a group of NFLOG of the packet: the text before it, and so many bytes of it. */
export function nflog(group: number, prefix: string, bytes: number): Expression {
  return expression("log", (data) => data.u16be(1, group).string(2, prefix).u32be(3, bytes));
}

/** Matches packets that have this bit of the mark, or do not. */
export function marked(bit: number, set = true): Expression[] {
  return [meta("mark"), mask(hostOrder(bit)), compare(new Uint8Array(4), !set)];
}

/** Sets a bit of the mark. */
export function mark(bit: number): Expression[] {
  return [
    meta("mark"),
    mask(hostOrder(~bit >>> 0), hostOrder(bit)),
    expression("meta", (data) => data.u32be(2, META.mark).u32be(3, REGISTER)),
  ];
}

const IPPROTO_ICMPV6 = 58;
const NEIGHBOUR_DISCOVERY = { first: 133, last: 137 } as const;

/** Matches what IPv6 finds its neighbours and routers by (RFC 4861). */
export function neighbourDiscovery(): Expression[] {
  return [
    meta("l4proto"),
    compare(Uint8Array.of(IPPROTO_ICMPV6), true),
    payload(PAYLOAD_TRANSPORT, 0, 1),
    expression("range", (data) =>
      data
        .u32be(1, REGISTER)
        .u32be(2, 0)
        .nested(3, (from) => from.bytes(NFTA_DATA_VALUE, Uint8Array.of(NEIGHBOUR_DISCOVERY.first)))
        .nested(4, (to) => to.bytes(NFTA_DATA_VALUE, Uint8Array.of(NEIGHBOUR_DISCOVERY.last))),
    ),
  ];
}

/** Matches links whose names begin with this. */
export function linkNamePrefix(key: "iifname" | "oifname", prefix: string): Expression[] {
  return [meta(key), compare(new TextEncoder().encode(prefix), true)];
}

/** Matches destinations by the first bits of their address; or others. */
export function destinationBegins(family: Family, octet: number, bits: number, is = true): Expression[] {
  return [
    payload(PAYLOAD_NETWORK, ADDRESS[family].daddr[1], 1),
    mask(Uint8Array.of((0xff00 >> bits) & 0xff)),
    compare(Uint8Array.of(octet), is),
  ];
}

/** Matches IPv6 addresses that mean something on one link only, fe80::/10 (RFC 4291); or others. */
export function linkLocal(field: "saddr" | "daddr", is = true): Expression[] {
  return [
    payload(PAYLOAD_NETWORK, ADDRESS[6][field][1], 2),
    mask(Uint8Array.of(0xff, 0xc0)),
    compare(Uint8Array.of(0xfe, 0x80), is),
  ];
}

/** Matches frames for one receiver (table family bridge). */
export function unicastFrame(): Expression[] {
  return [payload(PAYLOAD_LINK, 0, 1), mask(Uint8Array.of(1)), compare(Uint8Array.of(0), true)];
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

/** Matches packets of connections that conntrack knows (established or related). */
export function connectionKnown(): Expression[] {
  return connectionState(STATE.established | STATE.related);
}

/** Ends the rule with a verdict. */
export function verdict(name: Verdict): Expression {
  return expression("immediate", (data) =>
    data.u32be(1, REGISTER_VERDICT).nested(2, (value) => encodeVerdict(value, name)),
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
