// Matches of rules, put together of expressions as nft(8) does it: a rule goes on with the next one where they hold.
import type { Family } from "../../address/ip.ts";
import type { Cidr } from "../../address/ipv4.ts";
import { NFPROTO } from "../nfnetlink.ts";
import { type ConnectionField, connectionFieldLength, loadConnectionField } from "./conntrack.ts";
import { bitwise } from "./expr/bitwise.ts";
import { cmp } from "./expr/cmp.ts";
import { hostOrder } from "./expr/data.ts";
import { type Expression, NFT_REG32_00 } from "./expr/expression.ts";
import { fibAddressType } from "./expr/fib.ts";
import { load } from "./expr/immediate.ts";
import { lookup, verdictMap } from "./expr/lookup.ts";
import { meta, metaSet } from "./expr/meta.ts";
import { NFT_PAYLOAD_LL_HEADER, NFT_PAYLOAD_NETWORK_HEADER, payload } from "./expr/payload.ts";
import { matchSubnet } from "./subnet.ts";

const IFNAMSIZ = 16;
const RTN_LOCAL = 2;

const PROTOCOL_FAMILY: Record<Family, number> = { 4: NFPROTO.ip, 6: NFPROTO.ip6 };
const ETHERTYPE: Record<Family, number> = { 4: 0x0800, 6: 0x86dd };

/** Where addresses are in the network header: offset and length in bytes. */
const ADDRESS = {
  4: { saddr: 12, daddr: 16, length: 4 },
  6: { saddr: 8, daddr: 24, length: 16 },
} as const;

const u16 = (value: number) => Uint8Array.of(value >> 8, value & 255);

/** Match packets of a family, where a chain sees both (table family inet). */
export function matchFamily(family: Family): Expression[] {
  return [meta("nfproto"), cmp(Uint8Array.of(PROTOCOL_FAMILY[family]))];
}

/** Match frames that carry packets of a family (table family bridge). */
export function matchFrameFamily(family: Family): Expression[] {
  return [meta("protocol"), cmp(u16(ETHERTYPE[family]))];
}

/**
 * Match frames by the type in their Ethernet header (table family bridge): of a tagged frame, that of the outer tag,
 * also where the kernel keeps the tag beside the packet (linux/if_vlan.h: skb_vlan_tag_present).
 */
export function matchEtherType(type: number): Expression[] {
  return [payload(NFT_PAYLOAD_LL_HEADER, 12, 2), cmp(u16(type))];
}

/** Match frames for one receiver (table family bridge). */
export function matchUnicastFrame(): Expression[] {
  return [payload(NFT_PAYLOAD_LL_HEADER, 0, 1), bitwise(Uint8Array.of(1)), cmp(Uint8Array.of(0))];
}

/** A field that sets and maps are looked up by: an address of the packet, a field of its connection, or a constant of 16 bytes. */
export type Field = "saddr" | "daddr" | ConnectionField | Uint8Array;

/** Load fields one behind the other, each padded to four bytes. */
function loadFields(family: Family, fields: readonly Field[]): Expression[] {
  let register = NFT_REG32_00;
  return fields.map((field) => {
    const at = register;
    if (field instanceof Uint8Array) {
      register += field.length / 4;
      return load(field, at);
    }
    if (field !== "saddr" && field !== "daddr") {
      register += connectionFieldLength(field, family) / 4;
      return loadConnectionField(field, family, at);
    }
    const { [field]: offset, length } = ADDRESS[family];
    register += length / 4;
    return payload(NFT_PAYLOAD_NETWORK_HEADER, offset, length, at);
  });
}

/** Match packets whose fields, put together, are in a set; or are not. */
export function matchSet(family: Family, fields: readonly Field[], set: string, member = true): Expression[] {
  return [...loadFields(family, fields), lookup(set, member)];
}

/** End the rule with the verdict that a map has for these fields; goes to the next rule where it has none. */
export function verdictByMap(family: Family, fields: readonly Field[], map: string): Expression[] {
  return [...loadFields(family, fields), verdictMap(map)];
}

/** Match packets whose source or destination address is the host's own. */
export function matchLocalAddress(field: "saddr" | "daddr"): Expression[] {
  return [fibAddressType(field), cmp(hostOrder(RTN_LOCAL))];
}

/** Match packets that have this bit of the mark, or do not. */
export function matchMark(bit: number, set = true): Expression[] {
  return [meta("mark"), bitwise(hostOrder(bit)), cmp(new Uint8Array(4), !set)];
}

/** Set a bit of the mark. */
export function setMark(bit: number): Expression[] {
  return [meta("mark"), bitwise(hostOrder(~bit >>> 0), hostOrder(bit)), metaSet("mark")];
}

/** Match packets that come in or go out by links whose names begin like this. */
export function matchLinkPrefix(key: "iifname" | "oifname", prefix: string): Expression[] {
  return [meta(key), cmp(new TextEncoder().encode(prefix))];
}

/** Match the name of the link that a packet comes in or goes out by. */
export function matchLink(key: "iifname" | "oifname", name: string, equal = true): Expression[] {
  const padded = new Uint8Array(IFNAMSIZ);
  padded.set(new TextEncoder().encode(name).subarray(0, IFNAMSIZ - 1));
  return [meta(key), cmp(padded, equal)];
}

/**
 * Match packets in postrouting that were forwarded, not sent by this host. Before Linux 5.8 (28f8bfd1ac94), it matches none.
 */
export function matchForwarded(): Expression[] {
  return matchLink("iifname", "", false);
}

/** Match destinations by the first bits of their address, which are those of `octet`; or others. */
export function matchDestinationPrefix(
  family: Family,
  octet: number,
  bits: number,
  equal = true,
): Expression[] {
  return [
    payload(NFT_PAYLOAD_NETWORK_HEADER, ADDRESS[family].daddr, 1),
    bitwise(Uint8Array.of((0xff00 >> bits) & 0xff)),
    cmp(Uint8Array.of(octet), equal),
  ];
}

/** Match IPv6 addresses that mean something on one link only, fe80::/10 (RFC 4291); or others. */
export function matchLinkLocal(field: "saddr" | "daddr", equal = true): Expression[] {
  return [
    payload(NFT_PAYLOAD_NETWORK_HEADER, ADDRESS[6][field], 2),
    bitwise(Uint8Array.of(0xff, 0xc0)),
    cmp(Uint8Array.of(0xfe, 0x80), equal),
  ];
}

/** Match the source or destination address of an IPv4 packet with a subnet. */
export function matchAddress(field: "saddr" | "daddr", subnet: Cidr, equal = true): Expression[] {
  return matchSubnet(payload(NFT_PAYLOAD_NETWORK_HEADER, ADDRESS[4][field], 4), subnet, equal);
}

/** Match the source or destination address of an IPv4 packet by its first octets, as iptables writes it. */
export function matchAddressOctets(field: "saddr" | "daddr", octets: Uint8Array): Expression[] {
  return [payload(NFT_PAYLOAD_NETWORK_HEADER, ADDRESS[4][field], octets.length), cmp(octets)];
}
