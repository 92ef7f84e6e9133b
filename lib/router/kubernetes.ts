// A router as one of a Kubernetes cluster: the cluster says who the others are, whether we are still who we were, and
// whose addresses are to be taken over. Before the router starts we enter the list of peers; after it, the host gets its
// address on the network, the node is marked as usable, and nodes that come and go are followed.
import { formatCidr, parseCidr } from "../address/ipv4.ts";
import type { ApiClient } from "../api/client.ts";
import { stateFile } from "../api/paths.ts";
import { sleep, systemClock } from "../clock/clock.ts";
import { systemRandom } from "../clock/random.ts";
import { hostAddresses } from "../host/addresses.ts";
import { EXPOSE_ID } from "../host/names.ts";
import { forgetAddresses } from "../ipam/saved.ts";
import { configMapAnnotations } from "../kube/annotations.ts";
import type { KubeClient } from "../kube/client.ts";
import { enter } from "../kube/enter.ts";
import { listNodes, NODES, networkAvailable, peerAddresses } from "../kube/nodes.ts";
import type { Log } from "../log/log.ts";
import { detached } from "../log/unexpected.ts";
import { type PeerName, parsePeerName } from "../mesh/name.ts";
import { NETLINK_ROUTE, NetlinkSocket } from "../netlink/socket.ts";
import { Store } from "../store/store.ts";
import { reasonOf } from "../sys/reason.ts";
import { Follower } from "./follower.ts";
import { identity } from "./identity.ts";
import { deriveName, findName } from "./peername.ts";
import { forgetExposures } from "./savedexposures.ts";

/** While the API server cannot be asked. */
const RETRY_MS = 2_000;

export interface ClusterSettings {
  /** The node that this host is. */
  readonly node: string;
  /** The name of our peer, where it was told. */
  readonly peer: PeerName | undefined;
  /** Addresses of peers, where they are not to be asked from the API server. */
  readonly peers: readonly string[] | undefined;
  /** The address ("10.32.0.1/12") that the host is to have; one that is free, unless given. */
  readonly exposeAddress: string | undefined;
}

/** A cluster that we have entered. */
export interface Cluster {
  readonly client: KubeClient;
  readonly peer: PeerName;
  /** Addresses of the others. */
  readonly peers: readonly string[];
}

/** Enters the cluster's list of peers. Waits for the API server as long as it takes. */
export async function enterCluster(
  client: KubeClient,
  settings: ClusterSettings,
  log: Log,
): Promise<Cluster> {
  const persist = persistently(log, () => false);
  const cluster = await persist("enter the cluster", () => tryToEnter(client, settings, log));
  if (!cluster) throw new Error("cannot enter the cluster");
  return cluster;
}

/** Runs a step until it succeeds or there is no more sense in it; says what is in its way, once. */
function persistently(log: Log, stopped: () => boolean) {
  return async <T>(what: string, step: () => Promise<T>): Promise<T | undefined> => {
    let said = "";
    while (!stopped()) {
      try {
        return await step();
      } catch (error) {
        const reason = reasonOf(error);
        if (reason !== said) log.warning(`[kube] cannot ${what} yet: ${reason}`);
        said = reason;
        await sleep(systemClock, RETRY_MS);
      }
    }
    return undefined;
  };
}

async function tryToEnter(client: KubeClient, settings: ClusterSettings, log: Log): Promise<Cluster> {
  const nodes = await listNodes(client);
  const own = nodes.find(({ name }) => name === settings.node);
  if (!own)
    throw new Error(`the cluster has no node "${settings.node}"; set HOSTNAME to the name of this node`);
  using route = new NetlinkSocket(NETLINK_ROUTE);
  const store = Store.open(stateFile());
  try {
    const kept = identity(store, (what) => log.error(what));
    const name = await enter({
      peer: findName(settings.peer, kept.name, route, own.uid),
      unique: deriveName([own.uid || own.name]),
      node: own.name,
      listedBefore: kept.listed.get() ?? false,
      shared: configMapAnnotations(client),
      nodes: new Set(nodes.map((node) => node.name)),
      forget(why) {
        log.warning(`[kube] ${why}; forgetting what was kept of addresses`);
        forgetAddresses(store);
        forgetExposures(store);
      },
      clock: systemClock,
      random: systemRandom,
    });
    const peer = parsePeerName(name);
    kept.name.set(peer);
    kept.listed.set(true);
    return { client, peer, peers: settings.peers ?? peerAddresses(nodes, hostAddresses()) };
  } finally {
    store.close();
  }
}

/** What goes on once the router runs. */
export interface Membership {
  /** True once the host has its address and its node is marked as usable. */
  readonly ready: boolean;
  stop(): void;
}

/** Makes the host one of the network, and keeps up with the cluster, where there is one that tells anything. */
export function joinCluster(
  api: ApiClient,
  cluster: Cluster | undefined,
  settings: ClusterSettings,
  log: Log,
): Membership {
  const follower = cluster && new Follower(api, cluster, settings, log);
  let ready = false;
  let stopped = false;
  const persist = persistently(log, () => stopped);
  const join = async () => {
    // Whoever does not know who has what can take nothing over.
    await persist("know who has which addresses", () => api("GET", "/ring"));
    if (stopped) return;
    follower?.start();
    await persist("give this host an address", () => exposeHost(api, settings.exposeAddress));
    if (cluster) await persist("mark the node as usable", () => markNode(cluster.client, settings.node));
    ready = !stopped;
    if (ready) log.info("[kube] this node is one of the network");
  };
  detached("[kube] joining the network", join());
  return {
    get ready() {
      return ready;
    },
    stop() {
      stopped = true;
      follower?.stop();
    },
  };
}

async function markNode(client: KubeClient, node: string): Promise<void> {
  const patch = networkAvailable(new Date().toISOString().replace(/\.\d+/, ""));
  await client.write("patch", `${NODES}/${encodeURIComponent(node)}/status`, patch);
}

/** Gives the host an address on the network, this one or any. */
async function exposeHost(api: ApiClient, address: string | undefined): Promise<void> {
  const path = `/ip/${encodeURIComponent(EXPOSE_ID)}`;
  if (address !== undefined) await api("PUT", `${path}/${address}`);
  const cidr = address ?? formatCidr(parseCidr((await api("POST", path)).trim()));
  await api("POST", `/expose/${cidr}`);
}
