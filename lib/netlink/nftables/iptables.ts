// Rules as iptables writes them into nftables (iptables: iptables/nft-shared.c), so that it can print them, and saving and
// restoring them by its programs changes nothing.
import { type Cidr, ipv4Octets, subnetOf } from "../../address/ipv4.ts";
import type { IptablesMatch } from "../iptables/table.ts";
import { ipAddress, linkNamePrefix, type Verdict, verdict } from "./expression.ts";
import { compare, type Expression, expression, PAYLOAD_NETWORK, payload } from "./step.ts";
import type { Rule } from "./table.ts";

const DESTINATION_AT = 16;

function destination(subnet: Cidr): Expression[] {
  const { prefix } = subnet;
  if (prefix === 0) return [];
  if (prefix % 8 !== 0) return ipAddress("daddr", subnet);
  const octets = ipv4Octets(subnetOf(subnet).address).subarray(0, prefix / 8);
  return [payload(PAYLOAD_NETWORK, DESTINATION_AT, octets.length), compare(octets, true)];
}

/** A rule with a counter, as all of iptables have one. */
export function iptablesRule(match: IptablesMatch, decision: Verdict): Rule {
  // The zero is a part of the name here: it ends there.
  const link = (key: "iifname" | "oifname", name: string | undefined) =>
    name === undefined ? [] : linkNamePrefix(key, `${name}\0`);
  return [
    ...link("iifname", match.inLink),
    ...link("oifname", match.outLink),
    ...(match.destination ? destination(match.destination) : []),
    expression("counter", () => {}),
    verdict(decision),
  ];
}
