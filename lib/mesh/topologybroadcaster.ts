// Broadcasts of our own connections: soon and once to every peer, and not more than a large network can take that starts
// all at once.
import type { Clock, Timer } from "../clock/clock.ts";
import type { Channels } from "./channels.ts";
import type { LocalConnection } from "./connection.ts";
import type { GossipChannel } from "./gossip.ts";
import type { PeerName } from "./name.ts";
import type { Pace } from "./pace.ts";
import type { Peer } from "./peer.ts";
import type { Peers } from "./peers.ts";
import type { Routes, UnicastRoutes } from "./routes.ts";
import type { TopologyGossip } from "./topology.ts";

/** Delay of a broadcast, for several changes together, and least interval: changes come in bursts. */
const DELAY_MS = 20;
const INTERVAL_MS = 300;
/** Bytes of a connection in a broadcast, about. */
const CONNECTION_BYTES = 60;

/** Time for a new peer to announce its other neighbours, and how many of them send it everything. */
const INTRODUCTION_DELAY_MS = 100;
const ENOUGH_INTRODUCTIONS = 1;
/** Time for those neighbours to say that they are connected to it: their connections may have ended before they sent. */
const CONFIRMATION_DELAY_MS = 3_000;
/** A connection that is made this long after we heard of a peer may be one that another neighbour relies on. */
const RECENT_MS = 5_000;

export interface TopologyBroadcasterHost {
  readonly clock: Clock;
  readonly ourself: Peer;
  readonly peers: Peers;
  readonly routes: Routes;
  readonly connections: ReadonlyMap<PeerName, LocalConnection>;
  readonly channels: Channels;
}

export class TopologyBroadcaster {
  /** Peers that were unreachable before they connected to us, with our routes then, until we have broadcast them. */
  readonly #newcomers = new Map<Peer, UnicastRoutes>();
  #timer: Timer | undefined;
  #broadcastAt = Number.NEGATIVE_INFINITY;
  /** Our connections, as broadcast last. */
  #last = "";
  #stopped = false;
  /** The connection on which everything was last sent. */
  #sentAllOn: LocalConnection | undefined;
  /** A neighbour has received everything: its connection was open CONFIRMATION_DELAY_MS later. */
  #hasSentAll = false;

  constructor(
    private readonly host: TopologyBroadcasterHost,
    private readonly topology: TopologyGossip,
    /** The channel of the topology. */
    private readonly channel: GossipChannel,
    private readonly pace: Pace,
  ) {}

  stop(): void {
    this.#stopped = true;
    this.#timer?.cancel();
  }

  /**
   * Broadcast a peer that was unreachable, and send it everything unless other neighbours do; `before` are our routes
   * without it.
   */
  introduce(connection: LocalConnection, before: UnicastRoutes): void {
    const { clock } = this.host;
    this.#newcomers.set(connection.remote, before);
    clock.after(INTRODUCTION_DELAY_MS, () => {
      if (this.#sendAll(connection, before)) return;
      clock.after(CONFIRMATION_DELAY_MS, () => this.#sendAll(connection, before, true));
    });
  }

  /** Return whether a peer, or this life of it, is new to us though others may have told us of it first. */
  isRecent(peer: Peer): boolean {
    return this.host.clock.now() - peer.heardAt < RECENT_MS;
  }

  /** Schedule a broadcast of ourself even if our connections are as before: something else has changed. */
  invalidate(): void {
    this.#last = "";
    this.schedule();
  }

  /**
   * Schedule a broadcast of our own connections, and of peers that are new by them. The spanning tree takes it to each
   * peer once, where gossip to random neighbours would repeat it. Periodic gossip makes up for trees that peers do not
   * agree on yet.
   */
  schedule(): void {
    if (this.#stopped || this.#timer) return;
    const { clock, peers, connections, ourself, routes } = this.host;
    const interval = this.#broadcastAt + INTERVAL_MS - clock.now();
    this.#timer = clock.after(Math.max(DELAY_MS, interval, this.pace.wait()), () => {
      this.#timer = undefined;
      const unknown = [...this.#newcomers].filter(
        ([newcomer, before]) => !this.#knownToOthers(newcomer, before),
      );
      this.topology.addPending(unknown.map(([{ name }]) => name));
      this.#newcomers.clear();
      // Connections that were refused at once are not broadcast.
      const current = Array.from(connections, ([name, { established }]) => `${name} ${established}`).join();
      if (current !== this.#last) {
        this.topology.addPending([ourself.name]);
        this.pace.sent(CONNECTION_BYTES * connections.size * routes.broadcastAll(ourself.name).length);
      }
      this.#last = current;
      for (const { data, from } of this.topology.takePending()) {
        this.#broadcastAt = clock.now();
        const source = from === undefined ? undefined : peers.get(from);
        this.channel.broadcast(data, source ? routes.reachedWithoutUs(source) : undefined);
      }
    });
  }

  /** Send a new peer everything, unless it has gone, or other neighbours do; returns false in the last case. */
  #sendAll(connection: LocalConnection, before: UnicastRoutes, confirmed = false): boolean {
    if (connection.ended || this.#stopped) return true;
    if (this.#othersKnow && this.#knownToOthers(connection.remote, before, confirmed)) return false;
    this.host.channels.sendAll(connection);
    this.#sentAllOn = connection;
    if (!this.#hasSentAll)
      this.host.clock.after(CONFIRMATION_DELAY_MS, () => {
        this.#hasSentAll ||= !connection.ended;
      });
    return true;
  }

  /** Whether neighbours know what we know: at our start, they lack what we read from disk, such as our names. */
  get #othersKnow(): boolean {
    return this.#hasSentAll || this.#sentAllOn?.ended === false;
  }

  /**
   * Return whether a new peer is connected to others, who know what we know: one that joins a large network connects to
   * many at once, and those with the least names are enough to send it everything. Those that came with it do not know.
   * `confirmed` counts only those that say so, too.
   */
  #knownToOthers(newcomer: Peer, before: UnicastRoutes, confirmed = false): boolean {
    const { ourself, routes } = this.host;
    let others = 0;
    for (const [name, { remote }] of newcomer.connections) {
      const hop = routes.unicastAll.get(name);
      if (confirmed && remote.connections.get(newcomer.name)?.established !== true) continue;
      if (name < ourself.name && before.has(name) && hop !== undefined && hop !== newcomer.name) others++;
    }
    return others >= ENOUGH_INTRODUCTIONS;
  }
}
