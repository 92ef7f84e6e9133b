// Network policies as the router sees them: it denies by default until weave-npc enforces policies, and enforces none itself,
// but keeps on what they depend on.
import { BridgeNetfilter } from "../host/bridgenetfilter.ts";
import { type Keeper, keeper } from "../host/reconcile/resource.ts";
import type { Log } from "../log/log.ts";
import { hasTable } from "../netlink/nftables/table.ts";
import { NETLINK_NETFILTER, NetlinkSocket } from "../netlink/socket.ts";
import { DefaultDeny, hasDefaultDeny, removeDefaultDeny, removePolicies } from "../npc/defaultdeny.ts";
import { TABLE } from "../npc/tables.ts";
import { reasonOf } from "../sys/reason.ts";

const DENIED = "containers reach only this host until weave-npc, or weave-npc apply, enforces policies";

/**
 * Deny by default until weave-npc enforces policies, unless the original's policies are in force: they stay until then. Returns
 * what keeps it so: a table of policies that another program removes is replaced by the default deny.
 */
export function expectPolicies(originalEnforces: boolean, log: Log): (nf: NetlinkSocket) => Keeper[] {
  if (originalEnforces) return () => [];
  using nf = new NetlinkSocket(NETLINK_NETFILTER);
  try {
    if (keeper(new DefaultDeny(nf)).reconcile(() => true).length > 0) log.info(`default deny: ${DENIED}`);
  } catch (error) {
    log.warning(
      `cannot install the default deny, so containers are open until weave-npc enforces policies: ${reasonOf(error)}`,
    );
  }
  return (nf) => [keeper(new DefaultDeny(nf))];
}

/**
 * Return what has bridged packets filtered as long as there are policies: those of weave-npc apply are in force without a program
 * of their own.
 */
export function policyNeeds(nf: NetlinkSocket): Keeper {
  return keeper(new BridgeNetfilter({ needed: () => hasTable(nf, TABLE), source: "settings" }));
}

/** Remove the default deny of an earlier launch; policies that are in force stay. */
export function expectNoPolicies(log: Log): void {
  using nf = new NetlinkSocket(NETLINK_NETFILTER);
  try {
    if (removeDefaultDeny(nf)) log.info("removed the default deny of an earlier launch with --expect-npc");
  } catch (error) {
    log.warning(`cannot remove the default deny of an earlier launch, if there was one: ${reasonOf(error)}`);
  }
}

/** Remove policies that are in force, too. Throws NetlinkError. */
export function switchPoliciesOff(log: Log): void {
  using nf = new NetlinkSocket(NETLINK_NETFILTER);
  if (removePolicies(nf)) log.info("network policies are off (EXPECT_NPC=0): removed the rules of weave-npc");
}

/** Lines for the status. */
export function policyNotes(): string[] {
  try {
    using nf = new NetlinkSocket(NETLINK_NETFILTER);
    return hasDefaultDeny(nf) ? [`default deny (--expect-npc): ${DENIED}`] : [];
  } catch {
    // A kernel without nftables has no default deny.
    return [];
  }
}
