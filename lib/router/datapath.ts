// What carries frames between hosts: the overlay's links and programs, encryption in the kernel, and container ports.
import { cidrContains, type IPv4 } from "../address/ipv4.ts";
import { systemRandom } from "../clock/random.ts";
import { loadAegis } from "../crypto/aegis.ts";
import { ratedLog } from "../mesh/ratedlog.ts";
import { drawShortId } from "../mesh/shortid.ts";
import { watchXfrm } from "../netlink/xfrm/watch.ts";
import { restrictTable } from "../overlay/datapath/contents.ts";
import { Datapath } from "../overlay/datapath/datapath.ts";
import { Esp } from "../overlay/fastdp/esp.ts";
import { espKeepers, securedNeighbours } from "../overlay/fastdp/espstate.ts";
import { FlowCache, findFlowMaps, removeFlowCache } from "../overlay/flowcache/flowcache.ts";
import { watchPolicies } from "../overlay/flowcache/generation.ts";
import { closeFlowMaps, createFlowMaps, type FlowMaps } from "../overlay/flowcache/maps.ts";
import { whyNoFlowCache } from "../overlay/flowcache/probe.ts";
import { NetworkOverlay } from "../overlay/network.ts";
import { fastdpPort } from "../overlay/ports.ts";
import { type OverlayTrouble, overlayTrouble, withoutFastdpText } from "../overlay/trouble.ts";
import type { RouterContext } from "./context.ts";
import type { HostNetwork } from "./hostnetwork.ts";
import { type ContainerPorts, startPorts } from "./ports.ts";

export interface RouterDatapath {
  readonly datapath: Datapath;
  readonly ports: ContainerPorts;
  readonly overlay: NetworkOverlay;
  readonly flowCache: FlowCache | undefined;
  /** Why encrypted connections, unlike others, have no fast datapath; undefined without encryption or if they have it. */
  readonly onlyClear: OverlayTrouble | undefined;
  /** Our short id until the mesh chooses another. */
  readonly shortId: number;
}

/** Open the flow cache's maps, those of the router before us if it has left some; undefined where there is no cache. */
function openFlowCache({
  options,
  route,
  log,
  scope,
}: RouterContext): { maps: FlowMaps; found: boolean } | undefined {
  if (!options.fastdp || !options["flow-cache"]) {
    removeFlowCache(route);
    return undefined;
  }
  const why = whyNoFlowCache();
  if (why !== undefined) {
    log.info(`no flow cache: ${why}`);
    return undefined;
  }
  const found = findFlowMaps(route);
  const maps = found ?? createFlowMaps();
  scope.defer("the flow cache's maps", () => closeFlowMaps(maps));
  return { maps, found: found !== undefined };
}

/** Make the overlay's links and load its programs. Rejects with the kernel's error. */
export async function startDatapath(
  context: RouterContext,
  { reconciler, mtu }: HostNetwork,
): Promise<RouterDatapath> {
  const { options, clock, scope, route, log, name } = context;
  const { port, host } = options;
  const aegis = options.password !== undefined && (await scope.wait(loadAegis())) !== undefined;
  // The one of the last run: frames bear it, and other peers forward by it.
  const shortId = context.kept.shortId.get() ?? drawShortId(systemRandom);
  const flow = openFlowCache(context);
  const links = { name, port, mtu: () => mtu.link, self: shortId, fastdp: options.fastdp, flow: flow?.maps };
  const datapath = new Datapath(route, links, (keeper, trying) =>
    trying ? reconciler.keepTrying(keeper) : reconciler.keep(keeper),
  );
  scope.deferUnlessStarted("the overlay's links", () => datapath.remove());
  scope.defer("eBPF maps", () => datapath.closeMaps());
  const flowCache =
    flow && new FlowCache(route, flow.maps, datapath, { port: fastdpPort(port), self: shortId });
  if (flowCache) {
    scope.defer("the flow cache", () => flowCache.close());
    if (!flow.found) scope.deferUnlessStarted("the flow cache's programs", () => flowCache.undo());
    for (const each of flowCache.keepers()) reconciler.keepTrying(each);
    datapath.onTable = () => flowCache.tableChanged();
    scope.use(
      "the watch of policies",
      watchPolicies(
        () => flowCache.rulesChanged(),
        (error) => log.error(`cannot watch policies for the flow cache: ${error.message}`),
      ),
    );
  }
  const ports = scope.use("container ports", startPorts(context, datapath, shortId, reconciler, flowCache));
  mtu.follow({
    check: () => reconciler.check(),
    reconcile: () => reconciler.apply(),
    raised: (from, to) => ports.mtuRaised(from, to),
  });
  const esp = new Esp(systemRandom, fastdpPort(port));
  scope.defer("ESP", () => esp.close());
  const encrypts = options.password !== undefined;
  const onlyClear =
    encrypts && esp.unavailable !== undefined && datapath.withoutFastdp === undefined
      ? overlayTrouble("no encryption", esp.unavailable, fastdpPort(port))
      : undefined;
  if (onlyClear) log.warning(`no fast datapath for encrypted connections: ${withoutFastdpText(onlyClear)}`);
  if (encrypts) {
    // The router before us may have had no password: its table must not carry frames in clear until peers connect.
    const secured = securedNeighbours(esp.unavailable === undefined ? esp.found().policies : []);
    const trusts = (address: IPv4) =>
      options["trusted-subnets"].some((subnet) => cidrContains(subnet, address));
    datapath.apply(restrictTable(datapath.table, (address) => secured.has(address) || trusts(address)));
  }
  if (encrypts && esp.unavailable === undefined) {
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
  const overlayLog = ratedLog(log.with({ component: "overlay" }), clock);
  const overlay = scope.use(
    "the overlay",
    new NetworkOverlay(datapath, esp, { name, host, port, mtu, flowCache, aegis }, clock, overlayLog),
  );
  return { datapath, ports, overlay, onlyClear, shortId, flowCache };
}
