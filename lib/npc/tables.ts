// Rules of a node as nftables. Names say the content: what changes gets another name, and what has the same name is the
// same; but for the maps of isolated pods and the sets of pods and endpoints, whose elements come and go.
//
//   postrouting   every packet that is forwarded, bridged (br_netfilter) or sent, after all DNAT and before SNAT:
//                 replies, the node's own, a pod's to itself: accepted; egress[source], then ingress[destination]
//   chain-KEY     of pods that are isolated by the same rules: who may do anything; ports[protocol, port]; named ports
//   peers-KEY     of a range of ports: who may use it
import { type Family, familyOf, type Ip, ipOctets, octets } from "../address/ip.ts";
import { BRIDGE, POLICY_TABLE } from "../host/names.ts";
import {
  byMap,
  connectionKnown,
  destinationBegins,
  type Field,
  hostAddress,
  inSet,
  linkLocal,
  linkName,
  mark,
  marked,
  neighbourDiscovery,
  nflog,
  ofFamily,
  type Verdict,
  verdict,
} from "../netlink/nftables/expression.ts";
import { concatenated, type Element, type FilledSet, type SetDefinition } from "../netlink/nftables/set.ts";
import type { Chain as NftChain, Rule, TableName } from "../netlink/nftables/table.ts";
import { DIRECTIONS, type Direction, type Protocol } from "./objects.ts";
import type { Chain, Peers, PortRange, RuleSet, Ruleset } from "./ruleset.ts";

export const TABLE: TableName = { family: "inet", name: POLICY_TABLE };

/** The group of NFLOG that dropped packets are told to, as in the original; and as much of them as it takes. */
export const NFLOG_GROUP = 86;
const NFLOG_BYTES = 128;

/** Before packets take another source address (NF_IP_PRI_NAT_SRC is 100). */
const BEFORE_SOURCE_NAT = 95;

/** Marks of packets between the two tables of ours (see unknown.ts). */
export const FROM_UNKNOWN = 0x10_0000;
export const FROM_NODE = 0x20_0000;

const PROTOCOL: Record<Protocol, number> = { TCP: 6, UDP: 17, SCTP: 132 };
export const FAMILIES = [4, 6] as const;
/** The part of a key that an address of a family is. */
export const KEY = { 4: "ipv4", 6: "ipv6" } as const;

/** What is the same for all packets. */
export interface Settings {
  /** Multicast goes everywhere: of what goes to many, no one can say who is allowed to get it. Else nowhere. */
  readonly allowMulticast: boolean;
}

/** The map from the addresses of isolated pods to their chains. */
export function isolatedMap(direction: Direction, family: Family): SetDefinition {
  return { name: `${direction}${family}`, key: [KEY[family]], verdicts: true };
}

export function isolatedElement(address: Ip, chain: string): Element {
  return { key: ipOctets(address), verdict: { jump: chainName(chain) } };
}

/** Source and destination of a pod's packets to itself. */
export function selfSet(family: Family): SetDefinition {
  return { name: `self${family}`, key: [KEY[family], KEY[family]] };
}

export function selfElement(address: Ip): Element {
  return { key: concatenated(ipOctets(address), ipOctets(address)) };
}

const setName = (kind: RuleSet["kind"], key: string, family: Family) => `${kind}${family}-${key}`;
const portsName = (chain: string, ranges: boolean) => `${ranges ? "ranges" : "ports"}-${chain}`;
export const chainName = (key: string) => `chain-${key}`;
const peersName = (direction: Direction, key: string) => `peers-${direction}-${key}`;

/** How a set of the rules is defined, as far as it is about a family. */
export function contentDefinition({ kind, key }: RuleSet, family: Family): SetDefinition {
  const name = setName(kind, key, family);
  if (kind === "endpoints") return { name, key: [KEY[family], "protocol", "port"] };
  return { name, key: [KEY[family]], interval: kind === "blocks" };
}

/** What is in it. */
export function contentElements(set: RuleSet, family: Family): Element[] {
  switch (set.kind) {
    case "pods":
      return ofThatFamily(set.addresses, family).map((address) => ({ key: ipOctets(address) }));
    case "blocks":
      return set.ranges
        .filter((range) => range.family === family)
        .map(({ first, last }) => ({ key: octets(family, first), last: octets(family, last) }));
    case "endpoints":
      return [...set.endpoints.values()]
        .filter(({ ip }) => familyOf(ip) === family)
        .map(({ ip, protocol, port }) => ({
          key: concatenated(ipOctets(ip), Uint8Array.of(PROTOCOL[protocol]), portOctets(port)),
        }));
  }
}

/** Those of the addresses that are of a family. */
export function ofThatFamily(addresses: Iterable<Ip>, family: Family): Ip[] {
  return [...addresses].filter((address) => familyOf(address) === family);
}

const portOctets = (port: number) => Uint8Array.of(port >> 8, port & 255);

/**
 * The maps from ports to who may use them. Ranges have one of their own: looking one up takes the longer, the more there
 * are, which single ports by a hash do not.
 */
export function portsMaps({ key, direction, ports }: Chain): FilledSet[] {
  const who = ({ everybody, key: peers }: Peers): Verdict =>
    everybody ? "return" : { goto: peersName(direction, peers) };
  const map = (interval: boolean): FilledSet[] => {
    const own = ports.filter(({ first, last }) => first < last === interval);
    if (own.length === 0) return [];
    return [
      {
        definition: { name: portsName(key, interval), key: ["protocol", "port"], interval, verdicts: true },
        elements: own.map(({ protocol, first, last, peers }: PortRange) => {
          const number = Uint8Array.of(PROTOCOL[protocol]);
          const verdict = who(peers);
          const from = concatenated(number, portOctets(first));
          return interval
            ? { key: from, last: concatenated(number, portOctets(last)), verdict }
            : { key: from, verdict };
        }),
      },
    ];
  };
  return [...map(false), ...map(true)];
}

/** The chains that the ports of a chain lead to. */
export function peersChains({ direction, ports }: Chain): NftChain[] {
  const chains = new Map<string, NftChain>();
  for (const { peers } of ports) {
    if (peers.everybody) continue;
    const name = peersName(direction, peers.key);
    if (!chains.has(name))
      chains.set(name, { name, rules: [...passing(direction, peers), ...blocking(direction)] });
  }
  return [...chains.values()];
}

/** The chain that isolated pods have. What it allows returns, for the other end has a say, too. */
export function podChain(chain: Chain): NftChain {
  const { key, direction, any, named } = chain;
  const rules: Rule[] = any ? passing(direction, any) : [];
  for (const { definition } of portsMaps(chain)) rules.push(byMap(4, ["l4proto", "dport"], definition.name));
  if (named !== undefined) {
    const fields = [peer(direction), "l4proto", "dport"] as const;
    for (const family of FAMILIES) rules.push(returning(family, fields, setName("endpoints", named, family)));
  }
  return { name: chainName(key), rules: [...rules, ...blocking(direction)] };
}

/** Where the other end's address is. */
const peer = (direction: Direction) => (direction === "ingress" ? "saddr" : "daddr");

function returning(family: Family, fields: readonly Field[], set: string): Rule {
  return [...ofFamily(family), ...inSet(family, fields, set), verdict("return")];
}

/** Rules that let these peers through. */
function passing(direction: Direction, { everybody, pods, blocks }: Peers): Rule[] {
  if (everybody) return [[verdict("return")]];
  const fields = [peer(direction)] as const;
  return FAMILIES.flatMap((family) => [
    ...(pods === undefined ? [] : [returning(family, fields, setName("pods", pods, family))]),
    ...(blocks === undefined ? [] : [returning(family, fields, setName("blocks", blocks, family))]),
  ]);
}

function blocking(why: string): Rule[] {
  return [[nflog(NFLOG_GROUP, why, NFLOG_BYTES)], [verdict("drop")]];
}

/** The chain that all packets come by. */
export function baseChain({ allowMulticast }: Settings): NftChain {
  const [logged = [], dropped = []] = blocking("multicast");
  const multicast = (family: Family, octet: number, bits: number): Rule[] => {
    const to = [...ofFamily(family), ...destinationBegins(family, octet, bits)];
    return allowMulticast
      ? [[...to, verdict("accept")]]
      : [
          [...to, ...logged],
          [...to, ...dropped],
        ];
  };
  const [unknownLogged = [], unknownDropped = []] = blocking("unknown");
  return {
    name: "postrouting",
    base: { type: "filter", hook: "postrouting", priority: BEFORE_SOURCE_NAT, policy: "accept" },
    rules: [
      [...marked(FROM_UNKNOWN), ...unknownLogged],
      [...marked(FROM_UNKNOWN), ...unknownDropped],
      [...connectionKnown(), verdict("accept")],
      [...ofFamily(6), ...neighbourDiscovery(), verdict("accept")],
      [...hostAddress("saddr"), ...mark(FROM_NODE), verdict("accept")],
      ...multicast(4, 0xe0, 4),
      ...multicast(6, 0xff, 8),
      // By these addresses pods of one network could talk past all policies, which are about others.
      [...linkName("oifname", BRIDGE), ...ofFamily(6), ...linkLocal("saddr"), ...unknownDropped],
      ...FAMILIES.map(
        (family): Rule => [
          ...ofFamily(family),
          ...inSet(family, ["saddr", "daddr"], selfSet(family).name),
          verdict("accept"),
        ],
      ),
      ...FAMILIES.flatMap((family): Rule[] => [
        [...ofFamily(family), ...byMap(family, ["saddr"], isolatedMap("egress", family).name)],
        [...ofFamily(family), ...byMap(family, ["daddr"], isolatedMap("ingress", family).name)],
      ]),
    ],
  };
}

/** The sets that there always are. */
export function baseSets({ local, isolated }: Ruleset): FilledSet[] {
  return FAMILIES.flatMap((family) => [
    {
      definition: selfSet(family),
      elements: ofThatFamily(local.keys(), family).map(selfElement),
    },
    ...DIRECTIONS.map((direction) => ({
      definition: isolatedMap(direction, family),
      elements: [...isolated[direction]]
        .filter(([address]) => familyOf(address) === family)
        .map(([address, chain]) => isolatedElement(address, chain)),
    })),
  ]);
}
