// The kernel resources that the router reconciles, in order of dependency, and the notifications that concern them.
import { type BridgeSettings, findBridge } from "../host/bridge.ts";
import type { Exposure } from "../host/expose.ts";
import { FIREWALL, FirewallResource } from "../host/firewall.ts";
import { ForwardingResource } from "../host/forwarding/forwarding.ts";
import { FIREWALLD, IPTABLES_NFT } from "../host/forwarding/nft.ts";
import { HOST_PORTS } from "../host/hostports/table.ts";
import { linkSysctls } from "../host/linksettings.ts";
import { BRIDGE, FORWARDING_CHAIN, POLICY_TABLE } from "../host/names.ts";
import { Addresses, ConnectedRoutes } from "../host/reconcile/addresses.ts";
import { BridgeResource } from "../host/reconcile/bridge.ts";
import type { Reconciler } from "../host/reconcile/reconciler.ts";
import { keeper } from "../host/reconcile/resource.ts";
import { Sysctls } from "../host/reconcile/sysctls.ts";
import { ReconcilerWatch } from "../host/reconcile/watch.ts";
import type { Log } from "../log/log.ts";
import { guarded } from "../log/unexpected.ts";
import { linkList } from "../netlink/link.ts";
import type { RouteMonitor } from "../netlink/monitor.ts";
import { type WatchedTable, watchTables } from "../netlink/nftables/watch.ts";
import type { NetlinkSocket } from "../netlink/socket.ts";
import { tapName, vxlanName } from "../overlay/datapath/links.ts";
import { fastdpPort } from "../overlay/ports.ts";
import type { RouterMtu } from "./hostmtu.ts";

/** Tables that our resources read; those of policies for the default deny. */
const TABLES: readonly WatchedTable[] = [
  FIREWALL,
  HOST_PORTS,
  ...[IPTABLES_NFT, FIREWALLD].map(({ table, name }) => ({ ...table, chains: [name, FORWARDING_CHAIN] })),
  { family: "inet", name: POLICY_TABLE },
  { family: "bridge", name: POLICY_TABLE },
];

export interface HostSettings {
  readonly route: NetlinkSocket;
  readonly filter: NetlinkSocket;
  /** Ethernet address of the bridge: the peer's name. */
  readonly address: string;
  readonly mtu: Pick<RouterMtu, "link" | "told" | "alias">;
  /** Port of the mesh. */
  readonly port: number;
  /** TCP port of the control API, which other hosts must not reach. */
  readonly controlPort: number | undefined;
  /** Flows may be cached. */
  readonly flowCache: boolean;
}

/** Reconcile all resources but the overlay's; calls `exposed`, which applies the exposures, once the bridge exists. */
export function keepHost(
  reconciler: Reconciler,
  exposure: Exposure,
  { route, filter, address, mtu, port, controlPort, flowCache }: HostSettings,
  exposed: () => void,
  log: Log,
): ForwardingResource {
  const existed = findBridge(route, address) !== undefined;
  const bridge = reconciler.keep(keeper(new BridgeResource(route, bridgeOf(address, mtu))));
  exposed();
  const links = linkSysctls(BRIDGE);
  const forward = ["net/ipv4/ip_forward", `net/ipv4/conf/${BRIDGE}/forwarding`].map((each) => {
    return { name: each, value: "1" };
  });
  const overlays = { sleeve: port, vxlan: fastdpPort(port), name: address };
  const firewall = () => {
    return { exposed: exposure.exposed, controlPort, overlays, local: exposure.local, flowCache };
  };
  const forwarding = new ForwardingResource(filter, () => exposure.addresses);
  const found = [
    keeper(new Sysctls("link settings", ["links", "netconf", "settings"], () => links)),
    keeper(new Addresses(route, () => exposure.desired)),
    keeper(
      new ConnectedRoutes(
        route,
        () => exposure.addresses,
        () => mtu.told,
      ),
    ),
    keeper(new Sysctls("IP forwarding", ["netconf"], () => (exposure.exposed.length > 0 ? forward : []))),
    keeper(new FirewallResource(filter, firewall)),
    keeper(forwarding),
  ].flatMap((each) => reconciler.keep(each));
  if (existed && bridge.length + found.length > 0) {
    const list = [...bridge, ...found].map(({ object, wrong }) => `${object} was ${wrong}`).join("; ");
    log.info(`repaired kernel state that changed since the last run: ${list}`, { code: "repaired" });
  }
  return forwarding;
}

/** Return the settings of the bridge, which follow those of the network. */
const bridgeOf = (address: string, mtu: HostSettings["mtu"]): BridgeSettings => ({
  address,
  get mtu() {
    return mtu.link;
  },
  get alias() {
    return mtu.alias;
  },
});

/** Tell the reconciler of kernel changes that concern it; returns a function that stops that. */
export function followKernel(
  monitor: RouteMonitor,
  reconciler: Reconciler,
  { route, filter, port }: Pick<HostSettings, "route" | "filter" | "port">,
  log: Log,
): () => void {
  const ours = new Set([BRIDGE, vxlanName(fastdpPort(port)), tapName(port)]);
  const watch = new ReconcilerWatch(
    reconciler,
    (name) => ours.has(name),
    () => [route.port, filter.port],
  );
  watch.start(linkList(route));
  const links = monitor.add({
    changed: (event) => watch.changed(event),
    lost() {
      guarded("the rtnetlink monitor", () => watch.start(linkList(route)));
      reconciler.lost();
    },
  });
  const tables = watchTables(TABLES, () => new Set([filter.port]), {
    changed: ({ name }, by) => reconciler.notified("nftables", name, by),
    lost: () => reconciler.lost(),
    failed: (error) => log.error(`cannot watch nftables: ${error.message}`),
  });
  return () => {
    links.close();
    tables.stop();
  };
}
