// The chain that every packet passes that is forwarded, bridged (br_netfilter) or sent. A packet is judged by its
// connection: who opened it, and to whom, by the addresses before source NAT and after destination NAT. So packets of both
// directions get the same verdict, and a change of rules is a change for connections that are established, too.
//
// conntrack also tracks a connection whose beginning it has not seen, and takes whoever speaks first for the opener. Who
// that was could be chosen by the pods, so isolated pods have no such connections.
import type { Family } from "../address/ip.ts";
import { BRIDGE } from "../host/names.ts";
import type { Chain } from "../netlink/nftables/chain.ts";
import {
  matchConnectionMark,
  matchMidStream,
  matchState,
  STATE,
  setConnectionMark,
} from "../netlink/nftables/conntrack.ts";
import { verdict } from "../netlink/nftables/expr/immediate.ts";
import {
  matchDestinationPrefix,
  matchFamily,
  matchLink,
  matchLinkLocal,
  matchLocalAddress,
  matchMark,
  matchSet,
  setMark,
  verdictByMap,
} from "../netlink/nftables/match.ts";
import type { Rule } from "../netlink/nftables/rule.ts";
import { matchNeighbourDiscovery, matchTcpReset } from "../netlink/nftables/transport.ts";
import { admitted, MID_STREAM_MARK, setAdmitted } from "./generation.ts";
import { blocking, FAMILIES, FROM_NODE, FROM_UNKNOWN, isolatedMap, isolatedSet } from "./tables.ts";

/** What is the same for all packets. */
export interface Settings {
  /** Multicast goes everywhere: of what goes to many, no one can say who is allowed to get it. Else nowhere. */
  readonly allowMulticast: boolean;
}

/** Before packets take another source address (NF_IP_PRI_NAT_SRC is 100). */
const BEFORE_SOURCE_NAT = 95;

/** Packet mark of the resets that weave-npc sends in the name of both ends (see reset.ts). */
export const RESET_MARK = 0x40_0000;

/** Why packets of no known connection are dropped, and those of a connection whose beginning was not seen. */
export const UNTRACKED = "untracked";
export const MID_STREAM = "midstream";

const isolatedEnds = (why: string): Rule[] =>
  FAMILIES.flatMap((family) =>
    (["saddr", "daddr"] as const).map(
      (field): Rule => [
        ...matchFamily(family),
        ...matchSet(family, [field], isolatedSet(family).name),
        ...blocking(why),
      ],
    ),
  );

/** The chains that drop what an isolated pod sends or gets, and return for others. */
const unjudged = (): Chain[] => [UNTRACKED, MID_STREAM].map((name) => ({ name, rules: isolatedEnds(name) }));

function multicast(family: Family, octet: number, bits: number, allowed: boolean): Rule {
  const to = [...matchFamily(family), ...matchDestinationPrefix(family, octet, bits)];
  return [...to, ...(allowed ? [verdict("accept")] : blocking("multicast"))];
}

const IPV6 = "ipv6";
const JUDGE = "judge";
/** The name of the chain that every packet passes. */
export const BASE = "postrouting";

/** The chain that every packet passes, behind those that it jumps to; its rules are those of generation 0. */
export function baseChains({ allowMulticast }: Settings): Chain[] {
  const ipv6: Chain = {
    name: IPV6,
    rules: [
      [...matchNeighbourDiscovery(), verdict("accept")],
      multicast(6, 0xff, 8, allowMulticast),
      // By these addresses pods of one network could talk past all policies, which are about others.
      [...matchLink("oifname", BRIDGE), ...matchLinkLocal("saddr"), verdict("drop")],
    ],
  };
  const judge: Chain = {
    name: JUDGE,
    rules: [
      [...matchMark(RESET_MARK), ...matchTcpReset(), verdict("accept")],
      [...matchLocalAddress("saddr"), ...setMark(FROM_NODE), verdict("accept")],
      multicast(4, 0xe0, 4, allowMulticast),
      [...matchFamily(6), verdict({ jump: IPV6 })],
      [...matchState(STATE.invalid | STATE.untracked), verdict({ jump: UNTRACKED })],
      ...matchMidStream().map((packets): Rule => [...packets, ...setConnectionMark(MID_STREAM_MARK)]),
      [...matchConnectionMark(MID_STREAM_MARK), verdict({ jump: MID_STREAM })],
      ...FAMILIES.flatMap((family): Rule[] => [
        [...matchFamily(family), ...verdictByMap(family, ["opener"], isolatedMap("egress", family).name)],
        [...matchFamily(family), ...verdictByMap(family, ["target"], isolatedMap("ingress", family).name)],
      ]),
    ],
  };
  const base: Chain = {
    name: BASE,
    base: { type: "filter", hook: "postrouting", priority: BEFORE_SOURCE_NAT, policy: "accept" },
    rules: baseRules(0),
  };
  return [...unjudged(), ipv6, judge, base];
}

/**
 * The rules of the chain that every packet passes. With generation 0 each packet is judged by itself. What the judging
 * accepts at once (of the node, for many) is not marked: there it depends on the packet, not on its connection.
 */
export function baseRules(generation: number): Rule[] {
  const unknown: Rule = [...matchMark(FROM_UNKNOWN), ...blocking("unknown")];
  const judge: Rule = [verdict({ jump: JUDGE })];
  if (generation === 0) return [unknown, judge];
  return [unknown, [...admitted(generation), verdict("accept")], judge, setAdmitted(generation)];
}
