// The kernel's side: rules in force are always one whole set of them, never the half of two.

import { commit } from "../netlink/nftables/table.ts";
import type { NetlinkSocket } from "../netlink/socket.ts";
import { changes, wholeTable } from "./difference.ts";
import type { Ruleset } from "./ruleset.ts";
import type { Settings } from "./tables.ts";

/** Puts rules in force in place of those that are; throws NetlinkError and changes nothing where the kernel refuses. */
export function writeWhole(nf: NetlinkSocket, rules: Ruleset, settings: Settings): void {
  commit(nf, wholeTable(rules, settings));
}

/** The same where `before` is in force, by what is different. Returns how many changes there were. */
export function writeChanges(nf: NetlinkSocket, before: Ruleset, rules: Ruleset): number {
  const requests = changes(before, rules);
  commit(nf, requests);
  return requests.length;
}
