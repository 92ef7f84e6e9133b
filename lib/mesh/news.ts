// Who is told what of our own connections, and when: so that everybody hears of them soon, once, and in a large network
// that comes together all at once nobody drowns in it.
import type { Clock, Timer } from "../clock/clock.ts";
import type { Channels } from "./channels.ts";
import type { LocalConnection } from "./connection.ts";
import type { GossipChannel } from "./gossip.ts";
import type { PeerName } from "./name.ts";
import type { Peer } from "./peer.ts";
import type { Peers } from "./peers.ts";
import type { Routes } from "./routes.ts";
import type { TopologyGossip } from "./topology.ts";

/** Our own changes are told within this … */
const TELL_SOON_MS = 20;
/**
 * … but not more often than so that everybody has to hear less than 60 kB/s (about 60 bytes a connection), were all
 * peers to say as much: what we say of ourself grows with our connections, and so does the number of those who hear
 * it; in a large network every connection would be a storm.
 */
const TELL_INTERVAL_PER_CONNECTION_MS = 1;

/** Time for a new peer to say whom else it has connected to; and how many of them need to tell it everything. */
const INTRODUCE_DELAY_MS = 100;
const ENOUGH_INTRODUCTIONS = 2;

/** What there is to tell of, and by what. */
export interface NewsHost {
  readonly clock: Clock;
  readonly ourself: Peer;
  readonly peers: Peers;
  readonly routes: Routes;
  readonly connections: ReadonlyMap<PeerName, LocalConnection>;
  readonly channels: Channels;
}

export class News {
  /** Peers that nobody knew before they connected to us, until we have told of them. */
  readonly #newcomers = new Set<Peer>();
  #timer: Timer | undefined;
  #toldAt = Number.NEGATIVE_INFINITY;
  /** Our connections, as we have told of them last. */
  #said = "";
  #stopped = false;

  constructor(
    private readonly host: NewsHost,
    private readonly topology: TopologyGossip,
    /** The channel of the topology. */
    private readonly channel: GossipChannel,
  ) {}

  stop(): void {
    this.#stopped = true;
    this.#timer?.cancel();
  }

  /** A peer that could not be reached before has connected to us. */
  welcome(connection: LocalConnection): void {
    this.#newcomers.add(connection.remote);
    this.host.clock.after(INTRODUCE_DELAY_MS, () => this.#introduce(connection));
  }

  /** Tells of ourself even if our connections are what they were: something else has changed. */
  tellAnew(): void {
    this.#said = "";
    this.tell();
  }

  /**
   * Tells everybody of our own connections, and of peers that are new by them. It goes along the spanning tree, so that it
   * reaches each peer once; gossip to random neighbours would, over and over. Where peers do not agree on the tree
   * yet, the periodic gossip makes up for it.
   */
  tell(): void {
    if (this.#stopped || this.#timer) return;
    const { clock, peers, connections, ourself, routes } = this.host;
    const interval = TELL_INTERVAL_PER_CONNECTION_MS * peers.size * connections.size;
    const delay = Math.max(TELL_SOON_MS, this.#toldAt + interval - clock.now());
    this.#timer = clock.after(delay, () => {
      this.#timer = undefined;
      const unknown = [...this.#newcomers].filter((newcomer) => !this.#knownToOthers(newcomer));
      this.topology.addToTell(unknown.map(({ name }) => name));
      this.#newcomers.clear();
      // A connection that was refused at once is nobody's concern.
      const say = Array.from(connections, ([name, { established }]) => `${name} ${established}`).join();
      if (say !== this.#said) this.topology.addToTell([ourself.name]);
      this.#said = say;
      for (const { data, from } of this.topology.takeToTell()) {
        this.#toldAt = clock.now();
        const source = from === undefined ? undefined : peers.get(from);
        this.channel.broadcast(data, source ? routes.reachedWithoutUs(source) : undefined);
      }
    });
  }

  /** Tells a new peer everything, unless others do. */
  #introduce(connection: LocalConnection): void {
    if (connection.ended || this.#stopped || this.#knownToOthers(connection.remote)) return;
    this.host.channels.tellAll(connection);
  }

  /**
   * True once a new peer is seen to have connected to others, who know what we know: a peer that joins a large network
   * connects to many at once, and a few of them are enough to introduce it. They are those with the least names.
   */
  #knownToOthers(newcomer: Peer): boolean {
    const { ourself, routes } = this.host;
    let others = 0;
    for (const name of newcomer.connections.keys()) {
      const hop = routes.unicastAll.get(name);
      if (name < ourself.name && hop !== undefined && hop !== newcomer.name) others++;
    }
    return others >= ENOUGH_INTRODUCTIONS;
  }
}
