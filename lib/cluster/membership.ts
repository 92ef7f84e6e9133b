// The running router as a member of a Kubernetes cluster: expose the host, mark its node as available, follow the nodes.
import { formatCidr, parseCidr } from "../address/ipv4.ts";
import type { ApiClient } from "../api/client.ts";
import { every, systemClock, type Timer } from "../clock/clock.ts";
import { EXPOSE_ID } from "../host/names.ts";
import type { KubeClient } from "../kube/client.ts";
import { NODES, networkAvailable } from "../kube/nodes.ts";
import type { Log } from "../log/log.ts";
import { detached, guarded } from "../log/unexpected.ts";
import { Follower } from "./follower.ts";
import { findBelongings, isLeaving } from "./leaving.ts";
import { type Registration, type RegistrationSettings, retryUntil, TakenOverError } from "./registration.ts";
import { removeStartupTaint, STARTUP_TAINT } from "./startuptaint.ts";

export interface ClusterSettings extends RegistrationSettings {
  /** The host's address ("10.32.0.1/12"); by default a free one. */
  readonly exposeAddress: string | undefined;
  /** The network configuration of the node's runtime; undefined where others write it. */
  readonly configuration?: RuntimeConfiguration | undefined;
}

/** What makes a runtime start pods on this network. */
export interface RuntimeConfiguration {
  /** Write it unless it is there; returns what was done. Throws as the file system does. */
  write(): readonly string[];
  /** Remove it: the runtime starts no more pods. */
  remove(): readonly string[];
}

/** A running membership. */
export interface Membership {
  /** True once the host is exposed and its node is marked as available, now or by an earlier run. */
  readonly ready: boolean;
  /** Notes for the status. */
  notes(): string[];
  /** Resolves once all has stopped; the node has left then, if it is to leave for good. */
  stop(): Promise<void>;
}

/** Interval of checking that the CNI configuration is there. */
const CONFIGURATION_MS = 30_000;
/** Time for the API server to say whether this node leaves for good: a daemon ends within 2 s. */
const LEAVING_MS = 700;

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
  let leaving = async () => false;
  let keeping: Timer | undefined;
  const persist = <T>(what: string, step: () => Promise<T>) =>
    retryUntil(
      step,
      () => stopped,
      (reason) => log.warning(`cannot ${what} yet: ${reason}`),
    );
  const expose = async () => {
    await persist("expose this host", () => exposeHost(api, settings.exposeAddress));
    exposed = !stopped;
    await configure();
  };
  const { configuration, node } = settings;
  /** Let the runtime start pods, and see to it that it still may. */
  const configure = async () => {
    if (!configuration || stopped) return;
    await persist("write the CNI configuration", async () => tell(configuration.write()));
    if (stopped) return;
    keeping = every(systemClock, CONFIGURATION_MS, () =>
      guarded("the CNI configuration", () => tell(configuration.write())),
    );
  };
  const tell = (steps: readonly string[]) => {
    for (const step of steps) log.info(step);
  };
  const join = async () => {
    // Reclaiming needs the ring: wait for it.
    await persist("list the owners of addresses", () => api("GET", "/ring"));
    const exposing = expose();
    const cluster = await registration?.registered;
    if (cluster && configuration) {
      const belongings = await findBelongings(cluster.client, node);
      leaving = () => isLeaving(cluster.client, belongings, LEAVING_MS);
    }
    if (registration && cluster && !stopped) {
      follower = new Follower(api, cluster, settings, log, registration.peers);
      follower.start();
    }
    await exposing;
    if (cluster) {
      await persist("mark the node as available", () => markNode(cluster.client, node));
      await persist("remove the startup taint of the node", async () => {
        if (await removeStartupTaint(cluster.client, node))
          log.info(`removed taint ${STARTUP_TAINT}`, { node });
      });
    }
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
    async stop() {
      stopped = true;
      keeping?.cancel();
      registration?.stop();
      follower?.stop();
      if (!configuration || !(await leaving())) return;
      log.info(
        "leaving the network: removing the CNI configuration, so that no more pods start on this node",
      );
      tell(configuration.remove());
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
