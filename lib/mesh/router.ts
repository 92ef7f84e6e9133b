// The mesh of one peer: its connections, what it knows of the others, and the channels they gossip on (mesh:
// router.go, local_peer.go). Pure: clock, chance, network and overlay are passed in.
import type { Clock, Timer } from "../clock/clock.ts";
import { every } from "../clock/clock.ts";
import { below, type Random } from "../clock/random.ts";
import type { Log } from "../log/log.ts";
import { type ConnectionHost, LocalConnection } from "./connection.ts";
import { CollisionError, ConnectionLimitError, SelfConnectionError } from "./errors.ts";
import type { GossipChannel, GossipData, Gossiper } from "./gossip.ts";
import { type Encryption, PROTOCOL_MIN_VERSION } from "./handshake.ts";
import { prunable } from "./limit.ts";
import { ConnectionMaker } from "./maker.ts";
import { decodeGossip, encodeGossip, type GossipMessage } from "./message.ts";
import type { PeerName } from "./name.ts";
import type { Overlay } from "./overlay.ts";
import { Peer, SHORT_IDS } from "./peer.ts";
import { Peers } from "./peers.ts";
import { Routes, randomNeighbours } from "./routes.ts";
import { surrogateGossiper } from "./surrogate.ts";
import { TopologyGossip } from "./topology.ts";
import type { Stream, StreamHandler, Transport } from "./transport.ts";

export const DEFAULT_PORT = 6783;
export const DEFAULT_CONNECTION_LIMIT = 200;
const GOSSIP_INTERVAL_MS = 30_000;
/** Changes of the topology are told to the overlay together: within this, and not more often than so. */
const ROUTES_DELAY_MS = 10;
const ROUTES_INTERVAL_MS = 100;
/** Our own changes are told within this … */
const TELL_SOON_MS = 20;
/**
 * … but not more often than so that everybody has to hear less than 60 kB/s (about 60 bytes a connection), were all
 * peers to say as much: what we say of ourself grows with our connections, and so does the number of those who hear
 * it; in a large network every connection would be a storm.
 */
const TELL_INTERVAL_PER_CONNECTION_MS = 1;
/** Of what everybody should know already, a repetition to few is enough. */
const PERIODIC_SHARE = 0.3;

/** How often what we know is looked at for what cannot be, and our connections for those that are too many. */
const CARE_INTERVAL_MS = 5_000;
/** Of the connections that are too many, this part is given up at a time: others may rely on the same detours. */
const SHED_SHARE = 0.1;

/** Time for a new peer to say whom else it has connected to; and how many of them need to tell it everything. */
const INTRODUCE_DELAY_MS = 100;
const ENOUGH_INTRODUCTIONS = 2;

const TOPOLOGY = "topology";

export interface MeshConfig {
  readonly name: PeerName;
  readonly nickName: string;
  readonly port?: number;
  readonly encryption?: Encryption | undefined;
  /** True for addresses on networks where frames need no encryption. */
  readonly trusts?: (ip: string) => boolean;
  readonly connectionLimit?: number;
  readonly discovery?: boolean;
  readonly minVersion?: number;
  /** Our short id to begin with, where others have to know it before; else one is drawn. */
  readonly shortId?: number;
}

/** Draws a short id; where it turns out to be another peer's, the mesh draws again. */
export function drawShortId(random: Random): number {
  return Number(random.u64() & BigInt(SHORT_IDS - 1));
}

/** What the mesh runs on. */
export interface MeshDependencies {
  readonly clock: Clock;
  readonly random: Random;
  readonly transport: Transport;
  readonly overlay: Overlay;
  readonly log: Log;
}

/** What the rooms above are told. */
export interface MeshListener {
  /** Routes may have changed. */
  routesChanged?(): void;
  shortIdsChanged?(): void;
  peerGone?(peer: Peer): void;
}

export class MeshRouter implements ConnectionHost {
  readonly ourself: Peer;
  readonly peers: Peers;
  readonly routes: Routes;
  readonly maker: ConnectionMaker;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly overlay: Overlay;
  readonly encryption: Encryption | undefined;
  readonly minVersion: number;
  readonly port: number;
  readonly #limit: number;
  readonly #channels = new Map<string, Gossiper>();
  readonly #listeners: MeshListener[] = [];
  readonly #topology: TopologyGossip;
  /** Peers that nobody knew before they connected to us, until we have told of them. */
  readonly #newcomers = new Set<Peer>();
  #periodic: Timer | undefined;
  #routesTimer: Timer | undefined;
  #routesAt = Number.NEGATIVE_INFINITY;
  #tellTimer: Timer | undefined;
  #care: Timer | undefined;
  #toldAt = Number.NEGATIVE_INFINITY;
  /** Our connections, as we have told of them last. */
  #said = "";
  #stopped = false;

  constructor(
    readonly config: MeshConfig,
    dependencies: MeshDependencies,
  ) {
    const { clock, random, log, overlay, transport } = dependencies;
    this.clock = clock;
    this.random = random;
    this.log = log;
    this.overlay = overlay;
    this.encryption = config.encryption;
    this.minVersion = config.minVersion ?? PROTOCOL_MIN_VERSION;
    this.port = config.port ?? DEFAULT_PORT;
    this.#limit = config.connectionLimit || Number.POSITIVE_INFINITY;
    this.ourself = new Peer({
      name: config.name,
      nickName: config.nickName,
      // 0 is for peers of which only the name is known.
      uid: random.u64() || 1n,
      version: 0,
      shortId: config.shortId ?? drawShortId(random),
      hasShortId: true,
    });
    this.peers = new Peers(this.ourself, clock, random, {
      peerGone: (peer) => {
        log.info(`Removed unreachable peer ${peer}`);
        for (const listener of this.#listeners) listener.peerGone?.(peer);
      },
      shortIdsInvalidated: () => {
        for (const listener of this.#listeners) listener.shortIdsChanged?.();
      },
      ourselfChanged: () => {
        this.#said = "";
        this.#tell();
      },
    });
    this.routes = new Routes(this.ourself, this.peers);
    this.maker = new ConnectionMaker({
      host: this,
      clock,
      random,
      log,
      transport,
      port: this.port,
      discovery: config.discovery ?? true,
      limit: this.#limit,
      peers: () => this.peers.all(),
      ourself: this.ourself,
    });
    this.#topology = new TopologyGossip(this.peers, clock, random, {
      reply: (to, data) => this.connections.get(to)?.sendGossip(TOPOLOGY, data),
      changed: (tell) => {
        this.maker.refresh();
        this.#topologyChanged();
        if (tell) this.#tell();
      },
    });
    this.#channels.set(TOPOLOGY, this.#topology);
  }

  listen(listener: MeshListener): void {
    this.#listeners.push(listener);
  }

  /** Begins the periodic gossip. */
  start(): void {
    this.#periodic = every(this.clock, GOSSIP_INTERVAL_MS, () => {
      for (const [channel, gossiper] of this.#channels) {
        const data = gossiper.repetition ? gossiper.repetition() : gossiper.gossip();
        if (data) this.#neighbours(channel, this.ourself.name, data, PERIODIC_SHARE);
      }
    });
    this.#care = every(this.clock, CARE_INTERVAL_MS, () => {
      this.#ask();
      this.#shed();
    });
  }

  /** Asks a neighbour, by showing what we have, about peers that we seem to know too little of. */
  #ask(): void {
    const data = this.#topology.doubts();
    if (!data) return;
    const names = [...this.connections.keys()];
    const name = names[below(this.random, names.length)];
    if (name !== undefined) this.connections.get(name)?.sendGossip(TOPOLOGY, data);
  }

  /** Gives up connections beyond the limit, which were let in because there was no other way, once there is one. */
  #shed(): void {
    const excess = this.connections.size - this.#limit;
    for (let i = 0; i < Math.ceil(excess * SHED_SHARE); i++) {
      const spare = prunable(this.ourself);
      if (!spare) return;
      this.connections.get(spare.name)?.shutdown(new ConnectionLimitError(this.#limit));
    }
  }

  /** Closes all connections and stops all timers. */
  stop(): void {
    this.#stopped = true;
    this.maker.stop();
    this.peers.stop();
    for (const timer of [this.#periodic, this.#routesTimer, this.#tellTimer, this.#care]) timer?.cancel();
    for (const connection of [...this.maker.connections]) connection.shutdown(new Error("router stopping"));
  }

  /** Opens a gossip channel; what peers say on it goes to `gossiper`. */
  channel(name: string, gossiper: Gossiper): GossipChannel {
    if (this.#channels.has(name)) throw new Error(`[gossip] duplicate channel ${name}`);
    this.#channels.set(name, gossiper);
    return this.#channel(name);
  }

  /** Takes a stream that a peer has opened to us. */
  accept(stream: Stream): StreamHandler {
    this.log.info(`->[${stream.remoteAddress}] connection accepted`);
    return new LocalConnection(this, stream, false, true);
  }

  /** Our connections, by the name of the peer at the other end. */
  get connections(): ReadonlyMap<PeerName, LocalConnection> {
    return this.ourself.connections as Map<PeerName, LocalConnection>;
  }

  trusts(ip: string): boolean {
    return this.config.trusts?.(ip) ?? false;
  }

  identify(remote: Peer, connection: LocalConnection): Peer {
    if (this.#stopped) throw new Error("router stopping");
    if (remote.name === this.ourself.name) {
      if (remote.uid === this.ourself.uid) throw new SelfConnectionError();
      const collision = new CollisionError(this.ourself, remote, connection.address);
      this.log.error(collision.message);
      throw collision;
    }
    const known = this.peers.get(remote.name);
    if (!known && !connection.acceptNewPeer) {
      throw new Error(`Found unknown remote name: ${remote.name} at ${connection.address}`);
    }
    return this.peers.referTo(remote);
  }

  release(remote: Peer): void {
    this.peers.release(remote);
  }

  add(connection: LocalConnection, restarted: boolean): void {
    const { remote } = connection;
    const duplicate = this.connections.get(remote.name);
    if (duplicate) {
      const error = new Error(`Multiple connections to ${remote} added to ${this.ourself}`);
      const tie = connection.breakTie(duplicate);
      if (tie !== "lost") duplicate.shutdown(error);
      if (tie !== "won") throw error;
    }
    const reachable = this.routes.unicastAll.has(remote.name);
    this.#respectLimit(reachable);
    this.ourself.connections.set(remote.name, connection);
    this.ourself.version++;
    this.maker.created(connection);
    this.#topologyChanged();
    const isNew = restarted || !reachable;
    connection.log(`connection added${restarted ? " (restarted peer)" : isNew ? " (new peer)" : ""}`);
    if (isNew) {
      this.#newcomers.add(remote);
      this.clock.after(INTRODUCE_DELAY_MS, () => this.#introduce(connection));
    }
    this.#tell();
  }

  established(connection: LocalConnection): void {
    if (this.connections.get(connection.remote.name) !== connection) {
      return connection.shutdown(new Error("Cannot set unknown connection active"));
    }
    this.ourself.version++;
    connection.log("connection fully established");
    this.#topologyChanged();
    this.#tell();
  }

  gossip(from: PeerName, tag: number, body: Uint8Array): void {
    const message = decodeGossip(tag, body);
    let gossiper = this.#channels.get(message.channel);
    if (!gossiper) {
      gossiper = surrogateGossiper(this.clock, GOSSIP_INTERVAL_MS);
      this.#channels.set(message.channel, gossiper);
      this.log.info(`[gossip ${message.channel}]: created surrogate channel`);
    }
    this.#deliver(gossiper, message, from);
  }

  ended(connection: LocalConnection, error: Error): void {
    const remote = connection.knownRemote;
    if (remote && this.connections.get(remote.name) === connection) {
      this.ourself.connections.delete(remote.name);
      this.ourself.version++;
      connection.log("connection deleted");
      if (!this.#stopped) {
        this.peers.collectGarbage();
        this.#topologyChanged();
        this.#tell();
      }
    }
    this.maker.ended(connection, error);
  }

  /**
   * At the limit, a peer that can be reached through others is turned away; one that cannot is let in, and a
   * connection that others can stand in for makes room. So a limit never takes a peer off the network.
   */
  #respectLimit(reachable: boolean): void {
    if (this.connections.size < this.#limit) return;
    const error = new ConnectionLimitError(this.#limit);
    if (reachable) throw error;
    const spare = prunable(this.ourself);
    if (spare) this.connections.get(spare.name)?.shutdown(error);
  }

  #deliver(gossiper: Gossiper, message: GossipMessage, from: PeerName): void {
    const { channel, source, payload } = message;
    switch (message.kind) {
      case "unicast":
        if (message.destination === this.ourself.name) gossiper.onUnicast(source, payload);
        else this.#unicast(message);
        break;
      case "broadcast": {
        const data = gossiper.onBroadcast(source, payload);
        if (data) this.#broadcast(channel, source, data);
        break;
      }
      case "gossip": {
        const data = gossiper.onGossip(payload, from);
        if (data) this.#neighbours(channel, source, data);
        break;
      }
    }
  }

  #channel(channel: string): GossipChannel {
    const source = this.ourself.name;
    return {
      unicast: (destination, payload) =>
        this.#unicast({ kind: "unicast", channel, source, destination, payload }),
      broadcast: (data) => this.#broadcast(channel, source, data),
      neighbours: (data) => this.#neighbours(channel, source, data),
    };
  }

  #unicast(message: GossipMessage & { kind: "unicast" }): boolean {
    const hop = this.routes.unicastAll.get(message.destination);
    const connection = hop && this.connections.get(hop);
    if (!connection) {
      this.log.info(`[gossip ${message.channel}]: unknown relay destination: ${message.destination}`);
      return false;
    }
    connection.send(encodeGossip(message));
    return true;
  }

  #broadcast(channel: string, source: PeerName, data: GossipData, except?: ReadonlySet<PeerName>): void {
    for (const hop of this.routes.broadcastAll(source)) {
      if (!except?.has(hop)) this.connections.get(hop)?.sendBroadcast(channel, source, data);
    }
  }

  #neighbours(channel: string, source: PeerName, data: GossipData, share?: number): void {
    for (const hop of randomNeighbours(this.routes.unicastAll, source, () => this.random.float(), share)) {
      this.connections.get(hop)?.sendGossip(channel, data);
    }
  }

  /** Tells a new peer everything, unless others do. */
  #introduce(connection: LocalConnection): void {
    if (connection.ended || this.#stopped || this.#knownToOthers(connection.remote)) return;
    for (const [channel, gossiper] of this.#channels) {
      const data = gossiper.gossip();
      if (data) connection.sendGossip(channel, data);
    }
  }

  /**
   * True once a new peer is seen to have connected to others, who know what we know: a peer that joins a large network
   * connects to many at once, and a few of them are enough to introduce it. They are those with the least names.
   */
  #knownToOthers(newcomer: Peer): boolean {
    let others = 0;
    for (const name of newcomer.connections.keys()) {
      const hop = this.routes.unicastAll.get(name);
      if (name < this.ourself.name && hop !== undefined && hop !== newcomer.name) others++;
    }
    return others >= ENOUGH_INTRODUCTIONS;
  }

  #topologyChanged(): void {
    this.routes.invalidate();
    const delay = Math.max(ROUTES_DELAY_MS, this.#routesAt + ROUTES_INTERVAL_MS - this.clock.now());
    this.#routesTimer ??= this.clock.after(delay, () => {
      this.#routesTimer = undefined;
      this.#routesAt = this.clock.now();
      for (const listener of this.#listeners) listener.routesChanged?.();
    });
  }

  /**
   * Tells everybody of our own connections, and of peers that are new by them. It goes along the spanning tree, so that it
   * reaches each peer once; gossip to random neighbours would, over and over. Where peers do not agree on the tree
   * yet, the periodic gossip makes up for it.
   */
  #tell(): void {
    if (this.#stopped || this.#tellTimer) return;
    const interval = TELL_INTERVAL_PER_CONNECTION_MS * this.peers.size * this.connections.size;
    const delay = Math.max(TELL_SOON_MS, this.#toldAt + interval - this.clock.now());
    this.#tellTimer = this.clock.after(delay, () => {
      this.#tellTimer = undefined;
      const unknown = [...this.#newcomers].filter((newcomer) => !this.#knownToOthers(newcomer));
      this.#topology.addToTell(unknown.map(({ name }) => name));
      this.#newcomers.clear();
      // A connection that was refused at once is nobody's concern.
      const say = Array.from(this.connections, ([name, { established }]) => `${name} ${established}`).join();
      if (say !== this.#said) this.#topology.addToTell([this.ourself.name]);
      this.#said = say;
      for (const { data, from } of this.#topology.takeToTell()) {
        this.#toldAt = this.clock.now();
        const source = from === undefined ? undefined : this.peers.get(from);
        const informed = source ? this.routes.reachedWithoutUs(source) : undefined;
        this.#broadcast(TOPOLOGY, this.ourself.name, data, informed);
      }
    });
  }
}
