// The running router as a member of a Kubernetes cluster: expose the host, mark its node as available, follow the nodes.
import { formatCidr, parseCidr } from "../address/ipv4.ts";
import type { ApiClient } from "../api/client.ts";
import { EXPOSE_ID } from "../host/names.ts";
import type { KubeClient } from "../kube/client.ts";
import { NODES, networkAvailable } from "../kube/nodes.ts";
import type { Log } from "../log/log.ts";
import { detached } from "../log/unexpected.ts";
import { Follower } from "./follower.ts";
import { type Registration, type RegistrationSettings, retryUntil, TakenOverError } from "./registration.ts";

export interface ClusterSettings extends RegistrationSettings {
  /** The host's address ("10.32.0.1/12"); by default a free one. */
  readonly exposeAddress: string | undefined;
}

/** A running membership. */
export interface Membership {
  /** True once the host is exposed and its node is marked as available, now or by an earlier run. */
  readonly ready: boolean;
  /** Notes for the status. */
  notes(): string[];
  stop(): void;
}

/**
 * Join the network, and follow the cluster, if there is one. `takenOver` is called if another peer has taken over this
 * peer's addresses: the router has to restart.
 */
export function joinCluster(
  api: ApiClient,
  registration: Registration | undefined,
  settings: ClusterSettings,
  routerLog: Log,
  takenOver: (why: string) => void,
): Membership {
  const log = routerLog.with({ component: "kube" });
  let follower: Follower | undefined;
  let [exposed, marked, stopped] = [false, false, false];
  const persist = <T>(what: string, step: () => Promise<T>) =>
    retryUntil(
      step,
      () => stopped,
      (reason) => log.warning(`cannot ${what} yet: ${reason}`),
    );
  const expose = async () => {
    await persist("expose this host", () => exposeHost(api, settings.exposeAddress));
    exposed = !stopped;
  };
  const join = async () => {
    // Reclaiming needs the ring: wait for it.
    await persist("list the owners of addresses", () => api("GET", "/ring"));
    const exposing = expose();
    const cluster = await registration?.registered;
    if (registration && cluster && !stopped) {
      follower = new Follower(api, cluster, settings, log, registration.peers);
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
      // An early start follows a run that marked the node.
      return exposed && (marked || registration?.early === true);
    },
    notes() {
      const reason = registration?.reason;
      return reason === undefined
        ? []
        : [`not in the list of peers of the cluster yet; using the peers of the last run: ${reason}`];
    },
    stop() {
      stopped = true;
      registration?.stop();
      follower?.stop();
    },
  };
}

async function markNode(client: KubeClient, node: string): Promise<void> {
  const patch = networkAvailable(new Date().toISOString().replace(/\.\d+/, ""));
  await client.write("patch", `${NODES}/${encodeURIComponent(node)}/status`, patch);
}

/** Expose the host at this address, by default a free one. */
async function exposeHost(api: ApiClient, address: string | undefined): Promise<void> {
  const path = `/ip/${encodeURIComponent(EXPOSE_ID)}`;
  if (address !== undefined) await api("PUT", `${path}/${address}`);
  const cidr = address ?? formatCidr(parseCidr((await api("POST", path)).trim()));
  await api("POST", `/expose/${cidr}`);
}
