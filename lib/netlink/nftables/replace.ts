// A whole table at once.
import type { NetlinkSocket, Request } from "../socket.ts";
import { addChain, type Chain } from "./chain.ts";
import { addElements, type FilledSet } from "./element.ts";
import { commit, type TableName } from "./message.ts";
import { addRule } from "./rule.ts";
import { addSet } from "./set.ts";
import { renewTable } from "./table.ts";

export interface Table extends TableName {
  readonly sets?: readonly FilledSet[];
  readonly chains: readonly Chain[];
}

/** Return what puts the chains and sets of a table into an empty one. */
export function fillTable(table: Table): Request[] {
  return [
    ...(table.sets ?? []).flatMap(({ definition, elements }) => [
      addSet(table, definition),
      ...addElements(table, definition, elements),
    ]),
    ...table.chains.map((chain) => addChain(table, chain)),
    ...table.chains.flatMap(({ name, rules }) => rules.map((rule) => addRule(table, name, rule))),
  ];
}

/** Put a table in place of the one of that name, if there is one, in one transaction; throws NetlinkError. */
export function tableReplace(nl: NetlinkSocket, table: Table): void {
  commit(nl, [...renewTable(table), ...fillTable(table)]);
}
