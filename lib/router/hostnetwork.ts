// The kernel state of this host that is not the overlay's: bridge, addresses, settings and packet filter, kept as desired.
import { findBridge } from "../host/bridge.ts";
import { Exposure, exposedByBridge } from "../host/expose.ts";
import { removeFirewall } from "../host/firewall.ts";
import type { ForwardingResource } from "../host/forwarding/forwarding.ts";
import { BRIDGE } from "../host/names.ts";
import { Reconciler } from "../host/reconcile/reconciler.ts";
import { savedRanges } from "../ipam/saved.ts";
import { linkDelete } from "../netlink/link/delete.ts";
import { RouteMonitor } from "../netlink/monitor.ts";
import type { RouterContext } from "./context.ts";
import { Exposures } from "./exposures.ts";
import { RouterMtu } from "./hostmtu.ts";
import { followKernel, keepHost } from "./kernelstate.ts";
import { policyNeeds } from "./policies.ts";
import { exposuresStore } from "./savedexposures.ts";

export interface HostNetwork {
  readonly monitor: RouteMonitor;
  readonly reconciler: Reconciler;
  readonly exposure: Exposure;
  readonly exposures: Exposures;
  readonly forwarding: ForwardingResource;
  readonly mtu: RouterMtu;
}

/** Make the host's kernel state as desired and keep it so. Throws the kernel's error. */
export function startHostNetwork(context: RouterContext): HostNetwork {
  const { options, services, clock, scope, route, filter, name } = context;
  const { port } = options;
  const log = context.log.with({ component: "host" });
  const existed = findBridge(route, name) !== undefined;
  const mtu = new RouterMtu(context);
  if (!existed) scope.deferUnlessStarted("the bridge", () => linkDelete(route, BRIDGE));
  const monitor = scope.use(
    "the rtnetlink monitor",
    new RouteMonitor((error) => log.error(`cannot watch links and addresses: ${error.message}`)),
  );
  const reconciler = scope.use("the reconciler", new Reconciler(clock, log));
  scope.defer(
    "kernel notifications",
    followKernel(monitor, reconciler, { route, filter, port }, context.log),
  );
  if (!existed) scope.deferUnlessStarted("the packet filter", () => removeFirewall(filter));
  // Until the allocator starts, as it was: without them, packets to containers would lose their source address meanwhile.
  const local = options["masq-local"] ? [] : savedRanges(context.store, name, options.range);
  const exposure = new Exposure(route, reconciler, local);
  const exposures = new Exposures({
    store: exposuresStore(context.store, context.damaged),
    kernel: exposure,
    range: options.range,
    clock,
    log,
  });
  const flowCache = options["flow-cache"] && options.fastdp;
  const controlPort = options["http-addr"]?.port;
  const settings = { route, filter, address: name, mtu, port, controlPort, flowCache };
  const begin = () => exposures.start(exposedByBridge(route));
  const forwarding = keepHost(reconciler, exposure, settings, begin, log);
  for (const each of [policyNeeds(filter), ...(services.keepers?.(filter) ?? [])])
    reconciler.keepTrying(each);
  return { monitor, reconciler, exposure, exposures, forwarding, mtu };
}
