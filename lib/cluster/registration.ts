// Registration in the list of a cluster's peers, before the router starts if the API server answers. A node that was
// registered before starts from its saved state without the API server, and registers while the router runs.
import { stateFile } from "../api/paths.ts";
import { sleep, systemClock } from "../clock/clock.ts";
import { systemRandom } from "../clock/random.ts";
import { hostAddresses } from "../host/addresses.ts";
import { forgetAddresses } from "../ipam/saved.ts";
import type { KubeClient } from "../kube/client.ts";
import { listNodes, peerAddresses } from "../kube/nodes.ts";
import type { Log } from "../log/log.ts";
import { type PeerName, parsePeerName } from "../mesh/name.ts";
import { NETLINK_ROUTE, NetlinkSocket } from "../netlink/socket.ts";
import { type Identity, identity } from "../router/identity.ts";
import { deriveName, findName } from "../router/peername.ts";
import { Store } from "../store/store.ts";
import { reasonOf } from "../sys/reason.ts";
import { configMapAnnotations, type SharedAnnotations } from "./annotations.ts";
import { register } from "./register.ts";

/** A registered node starts without the API server after this silence. */
const PATIENCE_MS = 3_000;
/** Pause before the next request to the API server. */
const RETRY_MS = 2_000;

/** Settings of the registration. */
export interface RegistrationSettings {
  /** Name of this host's node. */
  readonly node: string;
  /** Configured name of the peer. */
  readonly peer: PeerName | undefined;
  /** Configured addresses of peers, in place of those of the cluster's nodes. */
  readonly peers: readonly string[] | undefined;
}

/** The name of this peer in the cluster, and the addresses of the others. */
export interface ClusterPeers {
  readonly peer: PeerName;
  readonly peers: readonly string[];
}

/** A cluster that this peer is registered in. */
export interface Cluster extends ClusterPeers {
  readonly client: KubeClient;
}

/** Another peer has taken over the addresses that this router uses: it has to restart without them. */
export class TakenOverError extends Error {
  override readonly name = "TakenOverError";
}

/** Retry a step until it succeeds, until `stopped`, or until TakenOverError. `failed` gets each new reason. */
export async function retryUntil<T>(
  step: () => Promise<T>,
  stopped: () => boolean,
  failed: (reason: string) => void,
): Promise<T | undefined> {
  let said = "";
  while (!stopped()) {
    try {
      return await step();
    } catch (error) {
      if (error instanceof TakenOverError) throw error;
      const reason = reasonOf(error);
      if (reason !== said) failed(reason);
      said = reason;
      await sleep(systemClock, RETRY_MS);
    }
  }
  return undefined;
}

export class Registration {
  /** Resolves once registered; with undefined if stopped before. Rejects with TakenOverError only. */
  readonly registered: Promise<Cluster | undefined>;
  readonly #listed: boolean;
  readonly #kept: ClusterPeers | undefined;
  readonly #shared: SharedAnnotations;
  #name: PeerName | undefined;
  /** Count of answers of the API server. */
  #answers = 0;
  #reason: string | undefined = "the API server has not answered yet";
  /** The router runs, and owns the state file. */
  #running = false;
  #stopped = false;
  #peers: readonly string[] = [];

  /** Read the saved state; throws StoreError. */
  constructor(
    private readonly client: KubeClient,
    private readonly settings: RegistrationSettings,
    private readonly log: Log,
  ) {
    const { name, listed, targets } = this.#withState(({ name, listed, targets }) => ({
      name: name.get(),
      listed: listed.get() ?? false,
      targets: targets.get() ?? [],
    }));
    this.#name = name;
    this.#listed = listed;
    const peer = settings.peer ?? name;
    this.#kept = listed && peer !== undefined ? { peer, peers: settings.peers ?? targets } : undefined;
    this.#shared = this.#counted(configMapAnnotations(client));
    this.registered = retryUntil(
      () => this.#register(),
      () => this.#stopped,
      (reason) => {
        this.#reason = reason;
        log.warning(`cannot enter the cluster yet: ${reason}`);
      },
    );
    // A later await still gets the error.
    this.registered.catch(() => {});
  }

  /** Why this peer is not registered; undefined once it is. */
  get reason(): string | undefined {
    return this.#reason;
  }

  /** The router started without the API server. */
  get early(): boolean {
    return this.#running;
  }

  /** Addresses of peers at the start. */
  get peers(): readonly string[] {
    return this.#peers;
  }

  stop(): void {
    this.#stopped = true;
  }

  /** Resolve with the name and peers to start with: the cluster's, or, if the API server is silent, the saved ones. */
  async start(): Promise<ClusterPeers> {
    const started = await this.#start();
    this.#peers = started.peers;
    return started;
  }

  async #start(): Promise<ClusterPeers> {
    for (;;) {
      const before = this.#answers;
      const silence = sleep(systemClock, PATIENCE_MS).then(() => undefined);
      const cluster = await Promise.race([this.registered, silence]);
      if (cluster) return cluster;
      if (!this.#kept || this.#answers > before) continue;
      this.#running = true;
      this.log.warning("starting with the peers of the last run: the API server does not answer yet", {
        peer: this.#kept.peer,
      });
      return this.#kept;
    }
  }

  async #register(): Promise<Cluster> {
    const { client, settings } = this;
    const nodes = await listNodes(client);
    if (nodes.length === 0) throw new Error("the API server lists no nodes");
    this.#answers++;
    const own = nodes.find(({ name }) => name === settings.node);
    if (!own)
      throw new Error(`the cluster has no node "${settings.node}"; set HOSTNAME to the name of this node`);
    using route = new NetlinkSocket(NETLINK_ROUTE);
    const name = {
      get: () => this.#name,
      set: (found: PeerName) => {
        this.#name = found;
      },
    };
    const registered = await register({
      peer: findName(settings.peer, name, route, own.uid),
      unique: deriveName([own.uid || own.name]),
      node: own.name,
      listedBefore: this.#listed,
      shared: this.#shared,
      nodes: new Set(nodes.map((node) => node.name)),
      forget: (why) => this.#forget(why),
      clock: systemClock,
      random: systemRandom,
    });
    const peer = parsePeerName(registered);
    this.#keep(peer);
    this.#reason = undefined;
    return { client, peer, peers: settings.peers ?? peerAddresses(nodes, hostAddresses()) };
  }

  #forget(why: string): void {
    if (this.#running) throw new TakenOverError(why);
    this.log.warning(`deleting the saved addresses: ${why}`);
    this.#withState((_kept, store) => forgetAddresses(store));
  }

  #keep(peer: PeerName): void {
    this.#name = peer;
    // The router has this name already, and is marked as registered.
    if (this.#running) return;
    this.#withState(({ name, listed }) => {
      name.set(peer);
      listed.set(true);
    });
  }

  #counted(shared: SharedAnnotations): SharedAnnotations {
    const counted = <T>(answer: T): T => {
      this.#answers++;
      return answer;
    };
    return {
      read: async () => counted(await shared.read()),
      write: async (annotations) => counted(await shared.write(annotations)),
    };
  }

  /** Use the state file while no router does. Throws StoreError. */
  #withState<T>(use: (kept: Identity, store: Store) => T): T {
    const store = Store.open(stateFile());
    try {
      return use(
        identity(store, (what) => this.log.warning(what)),
        store,
      );
    } finally {
      store.close();
    }
  }
}
