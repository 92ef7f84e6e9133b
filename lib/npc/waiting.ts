// Policies before weave-npc knows any, for a host that expects it: without rules of any kind a new pod would be open to
// all for as long as weave-npc takes to start.
import { NLM_F_EXCL } from "../netlink/message.ts";
import { addTable, commit, tableDelete } from "../netlink/nftables/table.ts";
import type { NetlinkSocket } from "../netlink/socket.ts";
import { EEXIST, isErrno } from "../sys/errno.ts";
import { wholeTable } from "./difference.ts";
import { NO_RULES } from "./ruleset.ts";
import { TABLE } from "./tables.ts";
import { BRIDGE_TABLE, wholeBridgeTable } from "./unknown.ts";

/**
 * Keeps pods apart from all but their node until weave-npc replaces the rules; those that weave-npc has in force already
 * stay. Returns whether there were none. Throws NetlinkError.
 */
export function keepApart(nf: NetlinkSocket): boolean {
  const table = addTable(TABLE);
  // Refused, with all that follows, where there is one: weave-npc may be starting at this very moment.
  const onlyIfNone = { ...table, flags: (table.flags ?? 0) | NLM_F_EXCL };
  const rules = [...wholeTable(NO_RULES, { allowMulticast: true }), ...wholeBridgeTable(NO_RULES, true)];
  try {
    commit(nf, [onlyIfNone, ...rules]);
    return true;
  } catch (error) {
    if (isErrno(error, EEXIST)) return false;
    throw error;
  }
}

/** Removes all policies, for a host that is to have none; returns whether there were any. */
export function removePolicies(nf: NetlinkSocket): boolean {
  return [TABLE, BRIDGE_TABLE].map((table) => tableDelete(nf, table)).includes(true);
}
