// Our chain in the tables of others: that of iptables-nft, and that of firewalld.
import type { IptablesMatch } from "../../netlink/iptables/table.ts";
import { dataText } from "../../netlink/nftables/canonical.ts";
import { ofFamily, type Verdict } from "../../netlink/nftables/expression.ts";
import { iptablesRule } from "../../netlink/nftables/iptables.ts";
import { ruleText, stateOf } from "../../netlink/nftables/state.ts";
import {
  addChain,
  addRule,
  chainGet,
  commit,
  deleteChain,
  deleteRule,
  flushChain,
  insertRule,
  isOwned,
  type ListedRule,
  type Rule,
  ruleList,
  type TableName,
  tableAttributes,
} from "../../netlink/nftables/table.ts";
import type { NetlinkSocket, Request } from "../../netlink/socket.ts";
import { FORWARDING_CHAIN } from "../names.ts";
import type { ForwardingTable, Variant } from "./table.ts";

const DROP = "verdict 0";

/** A chain that forwarded packets pass, and how rules are written there. */
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

/** firewalld rejects what comes from a link, or goes to one, that is in none of its zones. */
export const FIREWALLD: ForwardChain = {
  variant: "firewalld",
  table: { family: "inet", name: "firewalld" },
  name: "filter_FORWARD",
  rule: (match, decision) => [...(match.destination ? ofFamily(4) : []), ...iptablesRule(match, decision)],
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
      const drops = forward?.policy === "drop" || (forward?.policy === "accept" && rules.some(dropsAll));
      return {
        drops: drops && !isOwned(nf, table),
        jumps: rules.flatMap(({ jump }, i) => (jump === FORWARDING_CHAIN ? [i] : [])),
        rules: own?.map(({ content }) => ruleText(tableAttributes(content))),
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

/** Whether a rule drops or rejects every packet; REJECT of iptables is an expression of its own in some versions only. */
function dropsAll({ content }: ListedRule): boolean {
  const [only, ...others] = (tableAttributes(content).get(4)?.nested.list ?? [])
    .map(({ nested }) => ({ name: nested.need(1).string, data: nested.get(2)?.nested }))
    .filter(({ name }) => name !== "counter");
  if (!only || others.length > 0) return false;
  const { name, data } = only;
  if (name === "target") return data?.get(1)?.string === "REJECT";
  const value = name === "immediate" ? data?.get(2) : undefined;
  return name === "reject" || (value !== undefined && dataText(value) === DROP);
}
