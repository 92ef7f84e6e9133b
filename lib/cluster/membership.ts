// A router as one of a Kubernetes cluster, once it runs: the host gets its address on the network, the node is marked as
// usable, and nodes that come and go are followed.
import { formatCidr, parseCidr } from "../address/ipv4.ts";
import type { ApiClient } from "../api/client.ts";
import { EXPOSE_ID } from "../host/names.ts";
import type { KubeClient } from "../kube/client.ts";
import { NODES, networkAvailable } from "../kube/nodes.ts";
import type { Log } from "../log/log.ts";
import { detached } from "../log/unexpected.ts";
import { type Entering, type EnteringSettings, persistently, TakenOverError } from "./entering.ts";
import { Follower } from "./follower.ts";

export interface ClusterSettings extends EnteringSettings {
  /** The address ("10.32.0.1/12") that the host is to have; one that is free, unless given. */
  readonly exposeAddress: string | undefined;
}

/** What goes on once the router runs. */
export interface Membership {
  /** True once the host has its address and its node is marked as usable, now or before the router started. */
  readonly ready: boolean;
  /** What status says. */
  notes(): string[];
  stop(): void;
}

/**
 * Make the host one of the network, and keep up with the cluster, if there is one that tells anything. `takenOver` is
 * called if the cluster has given our addresses to others: the router has to start again then.
 */
export function joinCluster(
  api: ApiClient,
  entering: Entering | undefined,
  settings: ClusterSettings,
  routerLog: Log,
  takenOver: (why: string) => void,
): Membership {
  const log = routerLog.with({ component: "kube" });
  let follower: Follower | undefined;
  let [exposed, marked, stopped] = [false, false, false];
  const persist = <T>(what: string, step: () => Promise<T>) =>
    persistently(
      step,
      () => stopped,
      (reason) => log.warning(`cannot ${what} yet: ${reason}`),
    );
  const expose = async () => {
    await persist("expose this host", () => exposeHost(api, settings.exposeAddress));
    exposed = !stopped;
  };
  const join = async () => {
    // Whoever does not know who has what can take nothing over.
    await persist("list the owners of addresses", () => api("GET", "/ring"));
    const exposing = expose();
    const cluster = await entering?.entered;
    if (entering && cluster && !stopped) {
      follower = new Follower(api, cluster, settings, log, entering.peers);
      follower.start();
    }
    await exposing;
    if (cluster) await persist("mark the node as available", () => markNode(cluster.client, settings.node));
    marked = !stopped;
    if (marked) log.info("joined the network");
  };
  const joined = join().catch((error) => {
    if (!(error instanceof TakenOverError)) throw error;
    takenOver(error.message);
  });
  detached("joining the network", joined);
  return {
    get ready() {
      // One that was marked before, and starts without the API server, can serve containers.
      return exposed && (marked || entering?.early === true);
    },
    notes() {
      const reason = entering?.reason;
      return reason === undefined
        ? []
        : [`not in the list of peers of the cluster yet; using the peers of the last run: ${reason}`];
    },
    stop() {
      stopped = true;
      entering?.stop();
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
