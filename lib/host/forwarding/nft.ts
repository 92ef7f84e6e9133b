// Our chain in the tables of iptables-nft and firewalld.
import type { IptablesMatch } from "../../netlink/iptables/table.ts";
import { addChain, chainGet, deleteChain } from "../../netlink/nftables/chain.ts";
import { COUNTER } from "../../netlink/nftables/expr/counter.ts";
import type { Verdict } from "../../netlink/nftables/expr/data.ts";
import { drops } from "../../netlink/nftables/expr/immediate.ts";
import { rejects } from "../../netlink/nftables/expr/reject.ts";
import { iptablesRule } from "../../netlink/nftables/iptables.ts";
import { matchFamily } from "../../netlink/nftables/match.ts";
import { commit, type TableName } from "../../netlink/nftables/message.ts";
import {
  addRule,
  deleteRule,
  flushChain,
  insertRule,
  type ListedRule,
  type Rule,
  ruleList,
  ruleText,
} from "../../netlink/nftables/rule.ts";
import { stateOf } from "../../netlink/nftables/state.ts";
import { tableGet } from "../../netlink/nftables/table.ts";
import type { NetlinkSocket, Request } from "../../netlink/socket.ts";
import { FORWARDING_CHAIN } from "../names.ts";
import type { ForwardingTable, Variant } from "./table.ts";

/** A chain of others that forwarded packets traverse, and the form of rules in it. */
export interface ForwardChain {
  readonly variant: Variant;
  readonly table: TableName;
  readonly name: string;
  rule(match: IptablesMatch, decision: Verdict): Rule;
}

export const IPTABLES_NFT: ForwardChain = {
  variant: "iptables-nft",
  table: { family: "ip", name: "filter" },
  name: "FORWARD",
  rule: iptablesRule,
};

/** firewalld rejects packets from or to links that are in none of its zones. */
export const FIREWALLD: ForwardChain = {
  variant: "firewalld",
  table: { family: "inet", name: "firewalld" },
  name: "filter_FORWARD",
  rule: (match, decision) => [...(match.destination ? matchFamily(4) : []), ...iptablesRule(match, decision)],
};

export function nftForwarding(
  nf: NetlinkSocket,
  { variant, table, name, rule }: ForwardChain,
): ForwardingTable {
  const chain = (found: readonly IptablesMatch[]): Request[] => [
    addChain(table, { name: FORWARDING_CHAIN }),
    ...found.map((match) => addRule(table, FORWARDING_CHAIN, rule(match, "accept"))),
  ];
  const jumps = () => ruleList(nf, table, name).filter(({ jump }) => jump === FORWARDING_CHAIN);
  const withoutJumps = () => jumps().map(({ handle }) => deleteRule(table, name, handle));
  return {
    variant,
    name: `table ${table.family} ${table.name}`,
    rules: (matches) => [...(stateOf(chain(matches)).chains.get(FORWARDING_CHAIN)?.rules ?? [])],
    observe() {
      const forward = chainGet(nf, table, name);
      const rules = forward ? ruleList(nf, table, name) : [];
      const own = chainGet(nf, table, FORWARDING_CHAIN) && ruleList(nf, table, FORWARDING_CHAIN);
      const isShut = forward?.policy === "drop" || (forward?.policy === "accept" && rules.some(dropsAll));
      return {
        drops: isShut && !tableGet(nf, table)?.owned,
        jumps: rules.flatMap(({ jump }, i) => (jump === FORWARDING_CHAIN ? [i] : [])),
        rules: own?.map(ruleText),
      };
    },
    accept(matches) {
      const [first, ...rules] = chain(matches);
      commit(nf, [
        ...(first ? [first] : []),
        flushChain(table, FORWARDING_CHAIN),
        ...rules,
        ...withoutJumps(),
        insertRule(table, name, rule({}, { jump: FORWARDING_CHAIN })),
      ]);
    },
    remove: () => commit(nf, [...withoutJumps(), ...deleteChain(table, FORWARDING_CHAIN)]),
  };
}

/** Whether a rule drops or rejects every packet. */
function dropsAll({ expressions }: ListedRule): boolean {
  const [only, ...others] = expressions.filter(({ name }) => name !== COUNTER.name);
  return only !== undefined && others.length === 0 && (drops(only) || rejects(only));
}
