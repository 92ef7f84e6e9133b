// Keeps the topology in step with our neighbours: changes of our connections are broadcast, those of others taken and passed on, and
// inconsistencies asked about. Routes follow.
import type { Work } from "../clock/slices.ts";
import type { LocalConnection } from "./connection.ts";
import { Pace } from "./pace.ts";
import { RouteNotifier } from "./routenotifier.ts";
import type { UnicastRoutes } from "./routes.ts";
import { TOPOLOGY_CHANNEL, TopologyGossip } from "./topology.ts";
import { TopologyBroadcaster, type TopologyBroadcasterHost } from "./topologybroadcaster.ts";
import { TopologyCheck, type TopologyCheckHost } from "./topologycheck.ts";

export interface TopologySyncEvents {
  /** Gossip has changed the topology. */
  heard(): void;
  /** Routes may have changed; called a little later, for several changes at a time. */
  routesChanged(): void;
  /** Run work in slices. */
  run(work: Work): void;
}

export class TopologySync {
  readonly #broadcaster: TopologyBroadcaster;
  readonly #check: TopologyCheck;
  readonly #notifier: RouteNotifier;

  constructor(
    private readonly host: TopologyBroadcasterHost & TopologyCheckHost,
    events: TopologySyncEvents,
  ) {
    const { peers, clock, random, channels, connections } = host;
    const pace = new Pace(clock, random);
    const gossip = new TopologyGossip(peers, clock, random, {
      received: (bytes) => pace.received(bytes),
      reply: (to, data) => connections.get(to)?.sendGossip(TOPOLOGY_CHANNEL, undefined, data),
      changed: (hasPending) => {
        events.heard();
        this.#changed();
        if (hasPending) this.#broadcaster.schedule();
      },
    });
    this.#check = new TopologyCheck(host, gossip, pace, (work) => events.run(work));
    this.#notifier = new RouteNotifier(clock, () => events.routesChanged());
    const channel = channels.open(TOPOLOGY_CHANNEL, gossip);
    this.#broadcaster = new TopologyBroadcaster(host, gossip, channel, pace);
  }

  /** Our connections have changed. */
  changed(): void {
    this.#changed();
    this.#broadcaster.schedule();
  }

  /** A connection was added, maybe to a peer that is new to the network; `before`: our routes until then. */
  added(connection: LocalConnection, isNew: boolean, before: UnicastRoutes): void {
    this.#changed();
    if (isNew || this.#broadcaster.isRecent(connection.remote))
      this.#broadcaster.introduce(connection, before);
    this.#broadcaster.schedule();
  }

  /** Others have another version of us than we do: broadcast ours. */
  invalidate(): void {
    this.#broadcaster.invalidate();
  }

  stop(): void {
    this.#broadcaster.stop();
    this.#notifier.stop();
    this.#check.stop();
  }

  #changed(): void {
    this.#check.within();
    this.host.routes.invalidate();
    this.#notifier.schedule();
  }
}
