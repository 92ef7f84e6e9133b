// Rules of a node as nftables. Names say the content: what changes gets another name, and what has the same name is the
// same; but for the maps of isolated pods and the sets of pods and endpoints, whose elements come and go.
//
// All sets of pods share one set of the kernel, whose elements are pairs of an address and a set number; so do those of endpoints. The
// kernel finds a set by a linear search for its name: with thousands of sets, this takes seconds.
//
//   postrouting   see basechain.ts: lets connections through that were admitted before; others go through judge:
//                 egress[opener], then ingress[target] of the packet's connection
//   chain-KEY     of pods that are isolated by the same rules: who may do anything; named ports; ports[protocol, port]
//   peers-KEY     of a range of ports: who may use it
//   blocked-…     a direction: logs and drops
import { type Family, familyOf, type Ip, ipOctets, octets } from "../address/ip.ts";
import { be16 } from "../bytes/bigendian.ts";
import { POLICY_TABLE } from "../host/names.ts";
import type { Chain as NftChain } from "../netlink/nftables/chain.ts";
import { matchReply, matchState, STATE } from "../netlink/nftables/conntrack.ts";
import type { Element, FilledSet } from "../netlink/nftables/element.ts";
import type { Verdict } from "../netlink/nftables/expr/data.ts";
import type { Expression } from "../netlink/nftables/expr/expression.ts";
import { verdict } from "../netlink/nftables/expr/immediate.ts";
import { log } from "../netlink/nftables/expr/log.ts";
import { type Field, matchFamily, matchSet, verdictByMap } from "../netlink/nftables/match.ts";
import type { TableName } from "../netlink/nftables/message.ts";
import type { Rule } from "../netlink/nftables/rule.ts";
import { concatenated, type SetDefinition } from "../netlink/nftables/set.ts";
import { DIRECTIONS, type Direction, type Protocol } from "./objects.ts";
import type { Chain, Peers, PortRange, RuleSet, Ruleset } from "./ruleset.ts";

export const TABLE: TableName = { family: "inet", name: POLICY_TABLE };

/** The group of NFLOG that dropped packets are told to, as in the original; and as much of them as it takes. */
export const NFLOG_GROUP = 86;
const NFLOG_BYTES = 128;

/** Marks of packets between the two tables of ours (see unknown.ts). */
export const FROM_UNKNOWN = 0x10_0000;
export const FROM_NODE = 0x20_0000;

const PROTOCOL: Record<Protocol, number> = { TCP: 6, UDP: 17, SCTP: 132 };
export const FAMILIES = [4, 6] as const;
/** The part of a key that an address of a family is. */
export const KEY = { 4: "ipv4", 6: "ipv6" } as const;

/** The map from the addresses of isolated pods to their chains. */
export function isolatedMap(direction: Direction, family: Family): SetDefinition {
  return { name: `${direction}${family}`, key: [KEY[family]], verdicts: true };
}

export function isolatedElement(address: Ip, chain: string): Element {
  return { key: ipOctets(address), verdict: { jump: chainName(chain) } };
}

/** The addresses of pods that are isolated in either direction. */
export function isolatedSet(family: Family): SetDefinition {
  return { name: `isolated${family}`, key: [KEY[family]] };
}

export function isolatedAddresses({ isolated }: Ruleset): ReadonlySet<Ip> {
  return new Set([...isolated.ingress.keys(), ...isolated.egress.keys()]);
}

/** Opener and target of a pod's connections to itself. */
export function selfSet(family: Family): SetDefinition {
  return { name: `self${family}`, key: [KEY[family], KEY[family]] };
}

export function selfElement(address: Ip): Element {
  return { key: concatenated(ipOctets(address), ipOctets(address)) };
}

/** Kinds of sets whose elements are in one set of the kernel. */
const SHARED = ["pods", "endpoints"] as const;

/** The set of the kernel that all sets of a kind share. */
function sharedSet(kind: (typeof SHARED)[number], family: Family): SetDefinition {
  const key = kind === "pods" ? [KEY[family]] : [KEY[family], "protocol" as const, "port" as const];
  return { name: `${kind}${family}`, key: [...key, "number"] };
}

/** Return the number of a set for its elements: the digest that is its key, padded with zeros. */
function setNumber(key: string): Uint8Array {
  const number = new Uint8Array(16);
  number.set(Buffer.from(key, "hex"));
  return number;
}

const portsName = (chain: string, ranges: boolean) => `${ranges ? "ranges" : "ports"}-${chain}`;
const blocksName = (key: string, family: Family) => `blocks${family}-${key}`;
export const chainName = (key: string) => `chain-${key}`;
const peersName = (direction: Direction, key: string) => `peers-${direction}-${key}`;

/** The set of the kernel that has what a set of the rules has of a family. */
export function contentDefinition({ kind, key }: RuleSet, family: Family): SetDefinition {
  return kind === "blocks"
    ? { name: blocksName(key, family), key: [KEY[family]], interval: true }
    : sharedSet(kind, family);
}

/** What a set of the rules has of a family, as elements of that set. */
export function contentElements(set: RuleSet, family: Family): Element[] {
  switch (set.kind) {
    case "pods": {
      const number = setNumber(set.key);
      return ofThatFamily(set.addresses, family).map((address) => ({
        key: concatenated(ipOctets(address), number),
      }));
    }
    case "blocks":
      return set.ranges
        .filter((range) => range.family === family)
        .map(({ first, last }) => ({ key: octets(family, first), last: octets(family, last) }));
    case "endpoints": {
      const number = setNumber(set.key);
      return [...set.endpoints.values()]
        .filter(({ ip }) => familyOf(ip) === family)
        .map(({ ip, protocol, port }) => ({
          key: concatenated(ipOctets(ip), Uint8Array.of(PROTOCOL[protocol]), be16(port), number),
        }));
    }
  }
}

/** Addresses of a family as elements of a set. */
export function addressElements(addresses: Iterable<Ip>, family: Family): Element[] {
  return ofThatFamily(addresses, family).map((address) => ({ key: ipOctets(address) }));
}

/** Those of the addresses that are of a family. */
export function ofThatFamily(addresses: Iterable<Ip>, family: Family): Ip[] {
  return [...addresses].filter((address) => familyOf(address) === family);
}

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
          const from = concatenated(number, be16(first));
          return interval
            ? { key: from, last: concatenated(number, be16(last)), verdict }
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
      chains.set(name, {
        name,
        rules: [...passing(direction, peers), [verdict({ goto: blockedName(direction) })]],
      });
  }
  return [...chains.values()];
}

/** The chain that isolated pods have. What it allows returns, for the other end has a say, too. */
export function podChain(chain: Chain): NftChain {
  const { key, direction, any, named } = chain;
  const rules: Rule[] = any ? passing(direction, any) : [];
  if (named !== undefined) {
    const fields = [peer(direction), "protocol", "target port", setNumber(named)] as const;
    for (const family of FAMILIES) rules.push(returning(family, fields, sharedSet("endpoints", family).name));
  }
  // Last: the chains that they lead to do not return.
  for (const { definition } of portsMaps(chain))
    rules.push(verdictByMap(4, ["protocol", "target port"], definition.name));
  return { name: chainName(key), rules: [...rules, [verdict({ goto: blockedName(direction) })]] };
}

/** Where the other end's address is. */
const peer = (direction: Direction) => (direction === "ingress" ? "opener" : "target");

function returning(family: Family, fields: readonly Field[], set: string): Rule {
  return [...matchFamily(family), ...matchSet(family, fields, set), verdict("return")];
}

/** Rules that let these peers through. */
function passing(direction: Direction, { everybody, pods, blocks }: Peers): Rule[] {
  if (everybody) return [[verdict("return")]];
  const from = peer(direction);
  return FAMILIES.flatMap((family) => [
    ...(pods === undefined
      ? []
      : [returning(family, [from, setNumber(pods)], sharedSet("pods", family).name)]),
    ...(blocks === undefined ? [] : [returning(family, [from], blocksName(blocks, family))]),
  ]);
}

const blockedName = (direction: Direction) => `blocked-${direction}`;

/** Logs a packet with the reason, and who sent it where its connection is cut (see drops.ts); drops it. */
export function blocking(why: string, cut?: "opener" | "target"): Expression[] {
  return [log(NFLOG_GROUP, cut ? `${why} ${cut}` : why, NFLOG_BYTES), verdict("drop")];
}

/**
 * Where packets go that a pod's rules do not allow. A pod may talk to itself: looked up here, that costs nothing to those
 * that are allowed. Packets of an established connection are of one that was allowed when it began; the log tells which
 * end has sent them.
 */
export const blockedChains = (): NftChain[] =>
  DIRECTIONS.map((direction) => {
    const established = matchState(STATE.established | STATE.related);
    return {
      name: blockedName(direction),
      rules: [
        ...FAMILIES.map((family): Rule => {
          const self = matchSet(family, ["opener", "target"], selfSet(family).name);
          return [...matchFamily(family), ...self, verdict("accept")];
        }),
        [...established, ...matchReply(), ...blocking(direction, "target")],
        [...established, ...blocking(direction, "opener")],
        blocking(direction),
      ],
    };
  });

/** The sets that there always are. */
export function baseSets(): SetDefinition[] {
  return FAMILIES.flatMap((family) => [
    ...SHARED.map((kind) => sharedSet(kind, family)),
    selfSet(family),
    isolatedSet(family),
    ...DIRECTIONS.map((direction) => isolatedMap(direction, family)),
  ]);
}
