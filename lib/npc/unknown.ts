// Pods that have just been attached, and that nobody has told us of yet: until then they are kept apart from everybody but
// their node. By their addresses they cannot be told from pods of other nodes, but by the bridge's port that their frames
// come from or go to; so a table of the bridge marks the ones, and drops the others.

import { type Family, ipOctets } from "../address/ip.ts";
import { POLICY_TABLE } from "../host/names.ts";
import {
  frameOf,
  inSet,
  linkLocal,
  linkNamePrefix,
  mark,
  marked,
  unicastFrame,
  verdict,
} from "../netlink/nftables/expression.ts";
import { addElements, addSet, deleteElements, type SetDefinition } from "../netlink/nftables/set.ts";
import {
  addChain,
  addRule,
  type Chain,
  type Rule,
  renewTable,
  type TableName,
} from "../netlink/nftables/table.ts";
import type { Request } from "../netlink/socket.ts";
import type { Ruleset } from "./ruleset.ts";
import { FAMILIES, FROM_NODE, FROM_UNKNOWN, KEY, ofThatFamily } from "./tables.ts";

export const BRIDGE_TABLE: TableName = { family: "bridge", name: POLICY_TABLE };

/** How the names of the bridge's ports begin that pods are behind. */
const PORT_PREFIX = "vethwepl";
/** First of all that a bridge does with a frame; and last but for handing it to br_netfilter. */
const FIRST = -300;
const LATE = 300;

const knownSet = (family: Family): SetDefinition => ({ name: `pods${family}`, key: [KEY[family]] });

/** Frames from or to a pod's port, for one receiver, of a family. What goes to many is not ours to judge here. */
function frames(link: "iifname" | "oifname", address: "saddr" | "daddr", family: Family): Rule {
  return [
    ...linkNamePrefix(link, PORT_PREFIX),
    ...unicastFrame(),
    ...frameOf(family),
    // Nor is what means something on this link only (see tables.ts).
    ...(family === 6 ? linkLocal(address, false) : []),
    ...inSet(family, [address], knownSet(family).name, false),
  ];
}

function chains(): Chain[] {
  const marking = FAMILIES.map(
    (family): Rule => [...frames("iifname", "saddr", family), ...mark(FROM_UNKNOWN)],
  );
  const dropping = FAMILIES.map(
    (family): Rule => [...frames("oifname", "daddr", family), ...marked(FROM_NODE, false), verdict("drop")],
  );
  return [
    {
      name: "prerouting",
      base: { type: "filter", hook: "prerouting", priority: FIRST, policy: "accept" },
      rules: marking,
    },
    {
      name: "postrouting",
      base: { type: "filter", hook: "postrouting", priority: LATE, policy: "accept" },
      rules: dropping,
    },
  ];
}

/** The messages that put the whole table in place. */
export function wholeBridgeTable(rules: Ruleset): Request[] {
  return [
    ...renewTable(BRIDGE_TABLE),
    ...FAMILIES.map((family) => addSet(BRIDGE_TABLE, knownSet(family))),
    ...chains().flatMap((chain) => [
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
