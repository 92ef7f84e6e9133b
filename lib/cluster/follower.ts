// Follow the nodes of a cluster: connect the router to present ones, and reclaim the addresses of removed ones.
import { type ApiClient, ApiError } from "../api/client.ts";
import { every, systemClock, type Timer } from "../clock/clock.ts";
import { systemRandom } from "../clock/random.ts";
import { Soon } from "../clock/soon.ts";
import { hostAddresses } from "../host/addresses.ts";
import { type ClusterNode, listNodes, NODES, peerAddresses, readNode } from "../kube/nodes.ts";
import { reflect } from "../kube/reflector.ts";
import type { Log } from "../log/log.ts";
import { detached } from "../log/unexpected.ts";
import { reasonOf } from "../sys/reason.ts";
import { configMapAnnotations, type SharedAnnotations } from "./annotations.ts";
import { reclaim } from "./reclaim.ts";
import type { Cluster, RegistrationSettings } from "./registration.ts";
import { RouterTargets } from "./targets.ts";

/** Upper bound of the random delay after an event, so that nodes do not act at once. */
const SPREAD_MS = 5_000;
/** Intervals of retries, and of full checks in case an event was missed. */
const AGAIN_MS = 30_000;
const CARE_MS = 600_000;

export class Follower {
  readonly #nodes = new Map<string, ClusterNode>();
  readonly #shared: SharedAnnotations;
  #reflector: { stop(): void } | undefined;
  #reclaiming = false;
  readonly #soon = new Soon(systemClock, () => this.#reclaimNow());
  #again: Timer | undefined;
  #care: Timer | undefined;
  readonly #targets: RouterTargets;

  constructor(
    private readonly api: ApiClient,
    private readonly cluster: Cluster,
    private readonly settings: RegistrationSettings,
    private readonly log: Log,
    /** The router's targets at the start. */
    targets: readonly string[],
  ) {
    this.#shared = configMapAnnotations(cluster.client);
    this.#targets = new RouterTargets(api, log, targets);
  }

  start(): void {
    const dependencies = { clock: systemClock, random: systemRandom, log: this.log };
    this.#reflector = reflect(this.cluster.client, NODES, dependencies, {
      listed: (items) => {
        this.#nodes.clear();
        for (const item of items) this.#set(item);
        this.#changed();
        this.#reclaimWithin(0);
      },
      changed: (type, item) => {
        if (type === "set") this.#set(item);
        else this.#nodes.delete(readNode(item)?.name ?? "");
        this.#changed();
        if (type === "delete") this.#reclaimWithin(SPREAD_MS);
      },
    });
    this.#care = every(systemClock, CARE_MS, () => this.#reclaimWithin(AGAIN_MS));
  }

  stop(): void {
    this.#reflector?.stop();
    this.#soon.stop();
    for (const timer of [this.#again, this.#care]) timer?.cancel();
  }

  #set(item: unknown): void {
    const node = readNode(item);
    if (node) this.#nodes.set(node.name, node);
  }

  /** Update the router's targets if they have changed. */
  #changed(): void {
    // Distrust a list without this node.
    if (this.settings.peers || !this.#nodes.has(this.settings.node)) return;
    const peers = peerAddresses(this.#nodes.values(), hostAddresses());
    detached("telling the router its targets", this.#targets.tell(peers));
  }

  #reclaimWithin(ms: number): void {
    this.#soon.within(ms * systemRandom.float());
  }

  #reclaimNow(): void {
    if (this.#reclaiming) return this.#reclaimWithin(SPREAD_MS);
    this.#reclaiming = true;
    const reclaimed = this.#reclaim().finally(() => {
      this.#reclaiming = false;
    });
    detached("taking over addresses", reclaimed);
  }

  async #reclaim(): Promise<void> {
    const { api, cluster, settings, log } = this;
    let left = 1;
    try {
      left = await reclaim({
        peer: cluster.peer,
        node: settings.node,
        shared: this.#shared,
        nodes: async () => new Set((await listNodes(cluster.client)).map(({ name }) => name)),
        isReachable: async (peer) => (await peersOf(api)).has(peer),
        async takeOver(peer) {
          const done = await api("DELETE", `/peer/${encodeURIComponent(peer)}`).catch((error) => {
            // A peer that owns nothing has nothing to reclaim, or it is reclaimed already.
            if (error instanceof ApiError && error.status === 404) return error.message;
            throw error;
          });
          log.info(done.trim());
        },
        clock: systemClock,
        random: systemRandom,
        log,
      });
    } catch (error) {
      log.warning(`cannot check for removed nodes: ${reasonOf(error)}`);
    }
    this.#again?.cancel();
    if (left > 0) this.#again = systemClock.after(AGAIN_MS, () => this.#reclaimWithin(SPREAD_MS));
  }
}

/** Return the names of the reachable peers. A report of more may exceed the limit of a format (weave help limits). */
async function peersOf(api: ApiClient): Promise<Set<string>> {
  const format = encodeURIComponent("{{range .Router.Peers}}{{.Name}} {{end}}");
  return new Set((await api("GET", `/report?format=${format}`)).trim().split(" "));
}
