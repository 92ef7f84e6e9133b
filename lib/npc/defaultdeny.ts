// The default deny of a host that expects weave-npc: without rules of any kind a new pod would be open to all for as long
// as weave-npc takes to start. A chain without rules marks the tables as such; whoever puts policies in force (weave-npc,
// weave-npc apply) replaces the whole table, and so takes the mark away.
import { NLM_F_EXCL } from "../netlink/message.ts";
import {
  addChain,
  addTable,
  chainList,
  commit,
  deleteChain,
  deleteTable,
  tableDelete,
} from "../netlink/nftables/table.ts";
import type { NetlinkSocket, Request } from "../netlink/socket.ts";
import { EEXIST, ENOENT, isErrno } from "../sys/errno.ts";
import { wholeTable } from "./difference.ts";
import { NO_RULES } from "./ruleset.ts";
import { TABLE } from "./tables.ts";
import { BRIDGE_TABLE, wholeBridgeTable } from "./unknown.ts";

const MARK = "default-deny";

/**
 * Isolates pods from all but their node until policies are in force; those that are in force already stay. Returns
 * whether there were none. Throws NetlinkError.
 */
export function installDefaultDeny(nf: NetlinkSocket): boolean {
  const table = addTable(TABLE);
  // Refused, with all that follows, where there is one: weave-npc may be starting at this very moment.
  const onlyIfNone = { ...table, flags: (table.flags ?? 0) | NLM_F_EXCL };
  return commitUnless(EEXIST, nf, [
    onlyIfNone,
    ...wholeTable(NO_RULES, { allowMulticast: true }),
    addChain(TABLE, { name: MARK }),
    ...wholeBridgeTable(NO_RULES, true),
  ]);
}

/** Removes the default deny, and nothing that has taken its place. Returns whether it was there. Throws NetlinkError. */
export function removeDefaultDeny(nf: NetlinkSocket): boolean {
  // Refused, with all that follows, where the mark is missing.
  return commitUnless(ENOENT, nf, [
    ...deleteChain(TABLE, MARK),
    deleteTable(TABLE),
    addTable(BRIDGE_TABLE),
    deleteTable(BRIDGE_TABLE),
  ]);
}

/** Whether it is in force. Throws NetlinkError. */
export function hasDefaultDeny(nf: NetlinkSocket): boolean {
  return chainList(nf, TABLE.family).some(({ table, name }) => table === TABLE.name && name === MARK);
}

/** Does all of it, or nothing where the kernel refuses with this error: then returns false. */
function commitUnless(errno: number, nf: NetlinkSocket, requests: readonly Request[]): boolean {
  try {
    commit(nf, requests);
    return true;
  } catch (error) {
    if (isErrno(error, errno)) return false;
    throw error;
  }
}

/** Removes all policies, for a host that is to have none; returns whether there were any. */
export function removePolicies(nf: NetlinkSocket): boolean {
  return [TABLE, BRIDGE_TABLE].map((table) => tableDelete(nf, table)).includes(true);
}
