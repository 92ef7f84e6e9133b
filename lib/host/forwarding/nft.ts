// Our chain in the filter table of iptables-nft.
import type { IptablesMatch } from "../../netlink/iptables/table.ts";
import { dataText } from "../../netlink/nftables/canonical.ts";
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
  type ListedRule,
  ruleList,
  type TableName,
  tableAttributes,
} from "../../netlink/nftables/table.ts";
import type { NetlinkSocket, Request } from "../../netlink/socket.ts";
import { FORWARDING_CHAIN } from "../names.ts";
import type { ForwardingTable } from "./table.ts";

const TABLE: TableName = { family: "ip", name: "filter" };
const FORWARD = "FORWARD";
const DROP = "verdict 0";

export function nftForwarding(nf: NetlinkSocket): ForwardingTable {
  const chain = (found: readonly IptablesMatch[]): Request[] => [
    addChain(TABLE, { name: FORWARDING_CHAIN }),
    ...found.map((match) => addRule(TABLE, FORWARDING_CHAIN, iptablesRule(match, "accept"))),
  ];
  const jumps = () => ruleList(nf, TABLE, FORWARD).filter(({ jump }) => jump === FORWARDING_CHAIN);
  const withoutJumps = () => jumps().map(({ handle }) => deleteRule(TABLE, FORWARD, handle));
  return {
    variant: "iptables-nft",
    name: "table ip filter",
    rules: (matches) => [...(stateOf(chain(matches)).chains.get(FORWARDING_CHAIN)?.rules ?? [])],
    observe() {
      const forward = chainGet(nf, TABLE, FORWARD);
      const rules = forward ? ruleList(nf, TABLE, FORWARD) : [];
      const own = chainGet(nf, TABLE, FORWARDING_CHAIN) && ruleList(nf, TABLE, FORWARDING_CHAIN);
      return {
        drops: forward?.policy === "drop" || (forward?.policy === "accept" && rules.some(dropsAll)),
        jumps: rules.flatMap(({ jump }, i) => (jump === FORWARDING_CHAIN ? [i] : [])),
        rules: own?.map(({ content }) => ruleText(tableAttributes(content))),
      };
    },
    accept(matches) {
      const [first, ...rules] = chain(matches);
      commit(nf, [
        ...(first ? [first] : []),
        flushChain(TABLE, FORWARDING_CHAIN),
        ...rules,
        ...withoutJumps(),
        insertRule(TABLE, FORWARD, iptablesRule({}, { jump: FORWARDING_CHAIN })),
      ]);
    },
    remove: () => commit(nf, [...withoutJumps(), ...deleteChain(TABLE, FORWARDING_CHAIN)]),
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
