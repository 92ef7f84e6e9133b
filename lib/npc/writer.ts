// The kernel's side: rules in force are always one whole set of them, never the half of two.
import type { Work } from "../clock/slices.ts";
import { NetlinkError } from "../netlink/message.ts";
import { commit } from "../netlink/nftables/message.ts";
import type { NetlinkSocket } from "../netlink/socket.ts";
import { EAFNOSUPPORT, EINVAL, ENOENT, EOPNOTSUPP, EPROTONOSUPPORT } from "../sys/errno.ts";
import type { Settings } from "./basechain.ts";
import { changes, generationChanges, restricts, wholeTable } from "./difference.ts";
import { FIRST, following, forgetAdmitted } from "./generation.ts";
import type { Ruleset } from "./ruleset.ts";
import { bridgeChanges, wholeBridgeTable } from "./unknown.ts";

/** The family, a type of chain, or an expression in it is none that the kernel knows. */
const LACKING = new Set([ENOENT, EINVAL, EOPNOTSUPP, EPROTONOSUPPORT, EAFNOSUPPORT]);

export interface WriterSettings extends Settings {
  /** Pods that the rules do not know are kept apart; else they are nobody's concern. */
  readonly denyUnknown: boolean;
  /** False where the kernel has no nftables for bridges: frames are not looked at before they are IP packets. */
  readonly bridge?: boolean;
}

/**
 * Whether the kernel has no nftables for bridges, by the error of a whole write: policies can be put in force without.
 * Changes are refused for want of the table, too, where others have just deleted it.
 */
export function lacksBridge(error: unknown): error is NetlinkError {
  return error instanceof NetlinkError && error.operation.includes(" bridge ") && LACKING.has(error.errno);
}

/** What that means, as a warning. */
export function withoutBridge(error: NetlinkError): string {
  return `pods can send tagged frames past policies, and new pods are open until they are known: ${error.message}; load the kernel module nf_tables_bridge`;
}

/** What the kernel has. */
export interface InForce {
  readonly rules: Ruleset;
  /** See generation.ts. */
  readonly generation: number;
}

/**
 * Puts rules in force: by what is different where it is known what is in force `before`, else in place of whatever is
 * there. Throws NetlinkError, and changes nothing, where the kernel refuses. In generation 0 `admitConnections` has to follow.
 */
export function write(
  nf: NetlinkSocket,
  before: InForce | undefined,
  rules: Ruleset,
  settings: WriterSettings,
): InForce {
  const raised = before !== undefined && before.generation > 0 && restricts(before.rules, rules);
  const generation = !before ? 0 : raised ? following(before.generation) : before.generation;
  const requests = before ? changes(before.rules, rules) : wholeTable(rules, settings);
  if (raised) requests.push(...generationChanges(generation));
  if (settings.bridge !== false) {
    for (const request of before
      ? bridgeChanges(before.rules, rules)
      : wholeBridgeTable(rules, settings.denyUnknown))
      requests.push(request);
  }
  commit(nf, requests);
  return { rules, generation };
}

/** Begin to let connections through that were judged before; only in generation 0. Returns the next one. Throws NetlinkError. */
export function* admitConnections(nf: NetlinkSocket): Work<number> {
  yield* forgetAdmitted(nf);
  commit(nf, generationChanges(FIRST));
  return FIRST;
}
