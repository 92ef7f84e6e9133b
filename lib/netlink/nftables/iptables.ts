// Rules as iptables writes them into nftables (iptables: iptables/nft-shared.c), so that it can print them, and saving and
// restoring them by its programs changes nothing.
import { type Cidr, ipv4Octets, subnetOf } from "../../address/ipv4.ts";
import type { IptablesMatch } from "../iptables/table.ts";
import { counter } from "./expr/counter.ts";
import type { Verdict } from "./expr/data.ts";
import type { Expression } from "./expr/expression.ts";
import { verdict } from "./expr/immediate.ts";
import { matchAddress, matchAddressOctets, matchLinkPrefix } from "./match.ts";
import type { Rule } from "./rule.ts";

function matchDestination(subnet: Cidr): Expression[] {
  const { prefix } = subnet;
  if (prefix === 0) return [];
  if (prefix % 8 !== 0) return matchAddress("daddr", subnet);
  return matchAddressOctets("daddr", ipv4Octets(subnetOf(subnet).address).subarray(0, prefix / 8));
}

/** Return a rule with a counter, as all of iptables have one. */
export function iptablesRule(match: IptablesMatch, decision: Verdict): Rule {
  // The zero is a part of the name here: it ends there.
  const link = (key: "iifname" | "oifname", name: string | undefined) =>
    name === undefined ? [] : matchLinkPrefix(key, `${name}\0`);
  return [
    ...link("iifname", match.inLink),
    ...link("oifname", match.outLink),
    ...(match.destination ? matchDestination(match.destination) : []),
    counter(),
    verdict(decision),
  ];
}
