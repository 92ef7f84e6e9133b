// What carries frames between hosts: the overlay's links and programs, encryption in the kernel, and container ports.
import { systemClock } from "../clock/clock.ts";
import { systemRandom } from "../clock/random.ts";
import { ratedLog } from "../mesh/ratedlog.ts";
import { drawShortId } from "../mesh/shortid.ts";
import { watchXfrm } from "../netlink/xfrm/watch.ts";
import { Datapath } from "../overlay/datapath/datapath.ts";
import { Esp } from "../overlay/fastdp/esp.ts";
import { espKeepers } from "../overlay/fastdp/espstate.ts";
import { NetworkOverlay } from "../overlay/network.ts";
import type { RouterContext } from "./context.ts";
import type { HostNetwork } from "./hostnetwork.ts";
import { type ContainerPorts, startPorts } from "./ports.ts";

export interface RouterDatapath {
  readonly datapath: Datapath;
  readonly ports: ContainerPorts;
  readonly overlay: NetworkOverlay;
  /** Our short id until the mesh chooses another. */
  readonly shortId: number;
}

/** Make the overlay's links and load its programs. Throws the kernel's error. */
export function startDatapath(context: RouterContext, { reconciler }: HostNetwork): RouterDatapath {
  const { options, scope, route, log, name } = context;
  const { port, mtu, host } = options;
  // The one of the last run: frames bear it, and other peers forward by it.
  const shortId = context.kept.shortId.get() ?? drawShortId(systemRandom);
  const datapath = new Datapath(route, { name, port, mtu, self: shortId, fastdp: options.fastdp }, (keeper) =>
    reconciler.keep(keeper),
  );
  scope.deferUnlessStarted("the overlay's links", () => datapath.remove());
  scope.defer("eBPF maps", () => datapath.closeMaps());
  const ports = scope.use("container ports", startPorts(context, datapath, shortId, reconciler));
  const esp = new Esp(systemRandom, port + 1);
  scope.defer("ESP", () => esp.close());
  if (options.password !== undefined && esp.unavailable === undefined) {
    for (const each of espKeepers(esp)) reconciler.keep(each);
    scope.use(
      "the XFRM monitor",
      watchXfrm(
        () => esp.kernel.port,
        () => reconciler.urgent("xfrm"),
        (error) => log.error(`cannot watch XFRM: ${error.message}`),
      ),
    );
  }
  const overlayLog = ratedLog(log.with({ component: "overlay" }), systemClock);
  const overlay = scope.use(
    "the overlay",
    new NetworkOverlay(datapath, esp, { name, host, port, mtu }, systemClock, overlayLog),
  );
  return { datapath, ports, overlay, shortId };
}
