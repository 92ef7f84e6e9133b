// Our chain in the filter table of iptables-legacy, where that is in use: looking at a table would create it.
import { withIptablesLock } from "../../netlink/iptables/lock.ts";
import {
  legacyTables,
  readLegacyEntries,
  readLegacyTable,
  replaceLegacyTable,
} from "../../netlink/iptables/socket.ts";
import {
  clearCounters,
  dropsAll,
  dropsByPolicy,
  type IptablesMatch,
  type LegacyTable,
  legacyRule,
  legacyRuleText,
} from "../../netlink/iptables/table.ts";
import { FORWARDING_CHAIN } from "../names.ts";
import type { ForwardingTable } from "./table.ts";

const TABLE = "filter";
const FORWARD = "FORWARD";

export function legacyForwarding(): ForwardingTable {
  const chain = (matches: readonly IptablesMatch[]) => matches.map((match) => legacyRule(match));
  return {
    variant: "iptables-legacy",
    name: "iptables-legacy",
    rules: (matches) => chain(matches).map(legacyRuleText),
    observe() {
      const table = legacyTables().includes(TABLE) ? readLegacyTable(TABLE) : undefined;
      const forward = forwardOf(table);
      return {
        drops: forward !== undefined && (dropsByPolicy(forward) || forward.rules.some(dropsAll)),
        jumps: forward?.rules.flatMap(({ jump }, i) => (jump === FORWARDING_CHAIN ? [i] : [])) ?? [],
        rules: table?.chains.find(({ name }) => name === FORWARDING_CHAIN)?.rules.map(legacyRuleText),
      };
    },
    accept: (matches) =>
      change((table) => {
        table.chains.push({ name: FORWARDING_CHAIN, rules: chain(matches) });
        forwardOf(table)?.rules.unshift(legacyRule({}, FORWARDING_CHAIN));
      }),
    remove: () => change(() => {}),
  };
}

/** Return what the table is now, as text, without its counters; "" where it is not among the `tables` in use. Throws SysError. */
export function legacyState(tables: readonly string[]): string {
  if (!tables.includes(TABLE)) return "";
  const { entries } = readLegacyEntries(TABLE);
  clearCounters(entries);
  return Bun.hash(entries).toString(36);
}

const forwardOf = (table: LegacyTable | undefined) => table?.hooks.find(({ name }) => name === FORWARD);

/** Replace the table, after removing our chain and all jumps to it and calling `act`. Throws SysError. */
function change(act: (table: LegacyTable) => void): void {
  withIptablesLock(() => {
    const table = readLegacyTable(TABLE);
    table.chains = table.chains.filter(({ name }) => name !== FORWARDING_CHAIN);
    for (const chain of [...table.hooks, ...table.chains])
      chain.rules = chain.rules.filter(({ jump }) => jump !== FORWARDING_CHAIN);
    act(table);
    replaceLegacyTable(table);
  });
}
