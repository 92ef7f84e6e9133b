// Pods that have just been attached, and that nobody has told us of yet: until then they are kept apart from everybody but
// their node. By their addresses they cannot be told from pods of other nodes, but by the bridge's port that their frames
// come from or go to; so a table of the bridge marks the ones, and drops the others.

import { type Family, ipOctets } from "../address/ip.ts";
import { POLICY_TABLE } from "../host/names.ts";
import { addChain, type Chain } from "../netlink/nftables/chain.ts";
import { addElements, deleteElements } from "../netlink/nftables/element.ts";
import { verdict } from "../netlink/nftables/expr/immediate.ts";
import {
  matchDestinationPrefix,
  matchEtherType,
  matchFrameFamily,
  matchLinkLocal,
  matchLinkPrefix,
  matchMark,
  matchSet,
  matchUnicastFrame,
  setMark,
} from "../netlink/nftables/match.ts";
import type { TableName } from "../netlink/nftables/message.ts";
import { addRule, type Rule } from "../netlink/nftables/rule.ts";
import { addSet, type SetDefinition } from "../netlink/nftables/set.ts";
import { renewTable } from "../netlink/nftables/table.ts";
import type { Request } from "../netlink/socket.ts";
import { checkProtocol, ETHERTYPE, PORT_PREFIX, protocolsChain } from "./frames.ts";
import type { Ruleset } from "./ruleset.ts";
import { FAMILIES, FROM_NODE, FROM_UNKNOWN, KEY, ofThatFamily } from "./tables.ts";

export const BRIDGE_TABLE: TableName = { family: "bridge", name: POLICY_TABLE };

/** First of all that a bridge does with a frame; and last but for handing it to br_netfilter. */
const FIRST = -300;
const LATE = 300;

const knownSet = (family: Family): SetDefinition => ({ name: `pods${family}`, key: [KEY[family]] });

/**
 * Frames that an unknown pod sends. What goes to many is not ours to judge here; the IP destination says so, since a
 * receiver also takes a packet for one out of a frame for many.
 */
function fromUnknown(family: Family): Rule {
  return [
    ...matchFrameFamily(family),
    // 224.0.0.0/4 and what is above, such as 255.255.255.255; ff00::/8.
    ...(family === 4 ? matchDestinationPrefix(4, 0xe0, 3, false) : matchDestinationPrefix(6, 0xff, 8, false)),
    // Nor is what means something on this link only (see tables.ts).
    ...(family === 6 ? matchLinkLocal("saddr", false) : []),
    ...matchSet(family, ["saddr"], knownSet(family).name, false),
    ...setMark(FROM_UNKNOWN),
  ];
}

/** Frames for an unknown pod. One for many it does not take a packet for one from (see applyLinkSysctls). */
function toUnknown(family: Family): Rule {
  return [
    ...matchUnicastFrame(),
    ...matchFrameFamily(family),
    ...(family === 6 ? matchLinkLocal("daddr", false) : []),
    ...matchSet(family, ["daddr"], knownSet(family).name, false),
    ...matchMark(FROM_NODE, false),
    verdict("drop"),
  ];
}

/** Untagged IPv4 of a known pod, or for one: as most frames are, and no more than that is asked of them. */
const known4 = (field: "saddr" | "daddr"): Rule => [
  ...matchEtherType(ETHERTYPE.IPv4),
  ...matchSet(4, [field], knownSet(4).name),
  verdict("accept"),
];

const SENT = "sent";
const RECEIVED = "received";

function chains(denyUnknown: boolean): Chain[] {
  const ofPods = (name: string, rules: readonly Rule[]): Chain => {
    return { name, rules: [checkProtocol, ...(denyUnknown ? rules : [])] };
  };
  return [
    protocolsChain(),
    ofPods(SENT, FAMILIES.map(fromUnknown)),
    ofPods(RECEIVED, FAMILIES.map(toUnknown)),
    {
      name: "prerouting",
      base: { type: "filter", hook: "prerouting", priority: FIRST, policy: "accept" },
      rules: [known4("saddr"), [...matchLinkPrefix("iifname", PORT_PREFIX), verdict({ jump: SENT })]],
    },
    {
      name: "postrouting",
      base: { type: "filter", hook: "postrouting", priority: LATE, policy: "accept" },
      rules: [known4("daddr"), [...matchLinkPrefix("oifname", PORT_PREFIX), verdict({ jump: RECEIVED })]],
    },
  ];
}

/** The messages that put the whole table in place; with `denyUnknown`, pods that the rules do not know are kept apart. */
export function wholeBridgeTable(rules: Ruleset, denyUnknown: boolean): Request[] {
  return [
    ...renewTable(BRIDGE_TABLE),
    ...FAMILIES.map((family) => addSet(BRIDGE_TABLE, knownSet(family))),
    ...chains(denyUnknown).flatMap((chain) => [
      addChain(BRIDGE_TABLE, chain),
      ...chain.rules.map((rule) => addRule(BRIDGE_TABLE, chain.name, rule)),
    ]),
    ...known("add", rules.local.keys()),
  ];
}

/** The messages for pods that have become known, or are no more. */
export function bridgeChanges(before: Ruleset, next: Ruleset): Request[] {
  const [old, now] = [new Set(before.local.keys()), new Set(next.local.keys())];
  return [...known("delete", old.difference(now)), ...known("add", now.difference(old))];
}

function known(what: "add" | "delete", addresses: Iterable<string>): Request[] {
  const all = [...addresses];
  return FAMILIES.flatMap((family) => {
    const elements = ofThatFamily(all, family).map((address) => ({ key: ipOctets(address) }));
    return (what === "add" ? addElements : deleteElements)(BRIDGE_TABLE, knownSet(family), elements);
  });
}
