// Protocols that ports of pods may carry: untagged IPv4, IPv6 and ARP. Policies judge IP packets, and br_netfilter hands
// them over only where the Ethernet header says IPv4 or IPv6 and nothing comes before it; but a receiver takes the packet
// out of an 802.1Q tag of VLAN 0, too. So this is an allow list, and all other frames are dropped in both directions.
import type { LoggedFrame } from "../netlink/nflog.ts";
import type { Chain } from "../netlink/nftables/chain.ts";
import { verdict } from "../netlink/nftables/expr/immediate.ts";
import { log } from "../netlink/nftables/expr/log.ts";
import { matchEtherType } from "../netlink/nftables/match.ts";
import type { Rule } from "../netlink/nftables/rule.ts";
import { NFLOG_GROUP } from "./tables.ts";

/** How the names of the bridge's ports begin that pods are behind. */
export const PORT_PREFIX = "vethwepl";
/** Prefix of NFLOG messages about such frames. */
export const FRAME = "frame";
/** Bytes of a frame, from behind its Ethernet header, that are logged; the kernel adds the header itself. */
const LOGGED_BYTES = 16;

export const ETHERTYPE = { IPv4: 0x0800, ARP: 0x0806, IPv6: 0x86dd } as const;
const CHAIN = "protocols";

/**
 * The chain that decides. The type is read from the link layer header, where nftables shows a tag even when the kernel
 * has moved it to the packet's metadata; `meta protocol` would be the type behind the tag.
 */
export const protocolsChain = (): Chain => ({
  name: CHAIN,
  rules: [
    ...Object.values(ETHERTYPE).map((type): Rule => [...matchEtherType(type), verdict("return")]),
    [log(NFLOG_GROUP, FRAME, LOGGED_BYTES)],
    [verdict("drop")],
  ],
});

/** Sends frames of pods' ports through that chain. */
export const checkProtocol: Rule = [verdict({ jump: CHAIN })];

/** Names of the types that are met; the rest shares one, so that a pod cannot make up labels of metrics without end. */
const NAMES: ReadonlyMap<number, string> = new Map([
  [0x8100, "802.1Q"],
  [0x88a8, "802.1ad"],
  [0x8847, "MPLS"],
  [0x8848, "MPLS"],
  [0x8863, "PPPoE"],
  [0x8864, "PPPoE"],
  [0x88cc, "LLDP"],
  [0x88e5, "MACsec"],
]);
/** Below this the type is a length, and LLC comes behind it (IEEE 802.3). */
const FIRST_TYPE = 0x600;

/** The name of a frame's protocol, one of a few. */
export function protocolName(type: number): string {
  return type < FIRST_TYPE ? "LLC" : (NAMES.get(type) ?? "other");
}

/** The log line about a dropped frame. */
export function frameLine({ source, type: number }: LoggedFrame, protocol: string): string {
  const type = `0x${number.toString(16).padStart(4, "0")}`;
  return `dropped ${protocol} frame (type ${type})${source === undefined ? "" : ` from ${source}`}: with policies, pods exchange untagged IPv4, IPv6 and ARP only`;
}
