// Apply the planned fixes, and nothing else: objects that changed since they were examined are left alone.
import { rmSync } from "node:fs";
import { installConfig, installPlugin } from "../cni/setup.ts";
import { bridgeAddresses } from "../host/bridge.ts";
import { removeFirewall } from "../host/firewall.ts";
import { ForwardingResource } from "../host/forwarding/forwarding.ts";
import { loadModule } from "../host/modules.ts";
import { keeper } from "../host/reconcile/resource.ts";
import { sysctlGet, sysctlSet } from "../host/sysctl.ts";
import { removeOriginalRules } from "../migration/kernel.ts";
import { datapathDelete } from "../migration/openvswitch.ts";
import { linkDelete } from "../netlink/link/delete.ts";
import { linkByName, linkSet } from "../netlink/link.ts";
import { NETLINK_NETFILTER, NETLINK_ROUTE, NetlinkSocket } from "../netlink/socket.ts";
import { isInstanceLocked } from "../router/instance.ts";
import { reasonOf } from "../sys/reason.ts";
import type { Fix, PlannedFix } from "./fix.ts";

/** Outcome of a fix; `error`: why it failed. */
export interface FixOutcome extends PlannedFix {
  readonly error?: string;
}

/** Apply the planned fixes in order; a failure does not stop the rest. */
export function applyFixes(planned: readonly PlannedFix[]): FixOutcome[] {
  return planned.map((each) => {
    try {
      applyFix(each.fix);
      return each;
    } catch (error) {
      return { ...each, error: reasonOf(error) };
    }
  });
}

/** Apply a fix; throw the reason if it fails. */
function applyFix(fix: Fix): void {
  switch (fix.action) {
    case "set-sysctl":
      if (!sysctlSet(fix.name, fix.value) || sysctlGet(fix.name) !== fix.value)
        throw new Error(`the kernel refuses ${fix.value}, or /proc/sys is read-only`);
      return;
    case "load-module":
      return loadModule(fix.module);
    case "delete-link": {
      using route = new NetlinkSocket(NETLINK_ROUTE);
      requireSame(route, fix);
      if (fix.kind === "openvswitch") datapathDelete(fix.link);
      else linkDelete(route, fix.link);
      return;
    }
    case "set-mtu": {
      using route = new NetlinkSocket(NETLINK_ROUTE);
      requireSame(route, fix);
      return linkSet(route, fix.link, fix.index, { mtu: fix.mtu });
    }
    case "accept-forwarded": {
      using route = new NetlinkSocket(NETLINK_ROUTE);
      using nf = new NetlinkSocket(NETLINK_NETFILTER);
      keeper(new ForwardingResource(nf, () => bridgeAddresses(route))).reconcile(() => true);
      return;
    }
    case "remove-filter": {
      requireNoRouter();
      using nf = new NetlinkSocket(NETLINK_NETFILTER);
      return removeFirewall(nf);
    }
    case "remove-original-rules": {
      using nf = new NetlinkSocket(NETLINK_NETFILTER);
      const kept = removeOriginalRules(nf);
      if (kept.length > 0) throw new Error(`something still uses the ipsets ${kept.join(", ")}`);
      return;
    }
    case "install-plugin":
      installPlugin(fix.folder, fix.executable);
      return;
    case "write-cni-configuration":
      installConfig({ confDir: fix.folder, hairpin: fix.hairpin });
      return;
    case "remove-file":
      if (fix.whileNoRouter) requireNoRouter();
      return rmSync(fix.file, { force: true });
  }
}

/** What a router has left is that of the next one as soon as it is launched. */
function requireNoRouter(): void {
  if (isInstanceLocked()) throw new Error("a router was launched meanwhile");
}

function requireSame(
  route: NetlinkSocket,
  {
    link,
    index,
    ...seen
  }: { readonly link: string; readonly index: number; readonly kind?: string | undefined },
): void {
  const now = linkByName(route, link);
  if (!now) throw new Error("it was removed meanwhile");
  if (now.index !== index || ("kind" in seen && now.kind !== seen.kind))
    throw new Error("another link has that name now");
}
