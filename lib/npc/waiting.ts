// Policies before weave-npc knows any, for a host that expects it: without rules of any kind a new pod would be open to
// all for as long as weave-npc takes to start.
import { tableDelete, tableList } from "../netlink/nftables/table.ts";
import type { NetlinkSocket } from "../netlink/socket.ts";
import { NO_RULES } from "./ruleset.ts";
import { TABLE } from "./tables.ts";
import { BRIDGE_TABLE } from "./unknown.ts";
import { write } from "./writer.ts";

/**
 * Keeps pods apart from all but their node until weave-npc replaces the rules; those of an earlier weave-npc stay in
 * force. Returns whether there were none. Throws NetlinkError.
 */
export function keepApart(nf: NetlinkSocket): boolean {
  if (tableList(nf, TABLE.family).includes(TABLE.name)) return false;
  write(nf, undefined, NO_RULES, { allowMulticast: true, denyUnknown: true });
  return true;
}

/** Removes all policies, for a host that is to have none; returns whether there were any. */
export function removePolicies(nf: NetlinkSocket): boolean {
  return [TABLE, BRIDGE_TABLE].map((table) => tableDelete(nf, table)).includes(true);
}
