// The mesh of one peer: its connections, what it knows of the others, and the channels they gossip on (mesh:
// router.go, local_peer.go). Pure: clock, chance, network and overlay are passed in.
import { splitHostPort } from "../address/hostport.ts";
import type { Clock, Timer } from "../clock/clock.ts";
import { every } from "../clock/clock.ts";
import { below, type Random } from "../clock/random.ts";
import { Slices, type Work } from "../clock/slices.ts";
import type { Fields } from "../log/fields.ts";
import { type LimitedWarning, limitedLines, limitedWarnings } from "../log/limited.ts";
import type { Log } from "../log/log.ts";
import { Ask } from "./ask.ts";
import { SHORT_IDS } from "./bounds.ts";
import { Channels, GOSSIP_INTERVAL_MS } from "./channels.ts";
import { Collisions, sameName } from "./collisions.ts";
import { type ConnectionHost, LocalConnection } from "./connection.ts";
import { ConnectionMaker } from "./dial/maker.ts";
import {
  CollisionError,
  ConnectionLimitError,
  DuplicateNameError,
  HandshakeError,
  RefusedError,
  SelfConnectionError,
} from "./errors.ts";
import { ASK_CHANNEL } from "./features.ts";
import type { Gate } from "./gate.ts";
import { goneLog } from "./gonelog.ts";
import type { GossipChannel, Gossiper } from "./gossip.ts";
import { type Encryption, type Features, lowestVersion } from "./handshake.ts";
import { prunable } from "./limit.ts";
import { LostPeers } from "./lostpeers.ts";
import type { PeerName } from "./name.ts";
import { News } from "./news.ts";
import type { Overlay } from "./overlay.ts";
import { Peer } from "./peer.ts";
import { Peers } from "./peers.ts";
import { ratedLog } from "./ratedlog.ts";
import { Refusals } from "./refusals.ts";
import { RefusedHandshakes } from "./refusedhandshakes.ts";
import { Routes } from "./routes.ts";
import { SharedLimit } from "./sharedlimit.ts";
import { Strangers } from "./strangers.ts";
import { TopologyGossip } from "./topology.ts";
import type { Stream, StreamHandler, Transport } from "./transport.ts";

export const DEFAULT_PORT = 6783;
export const DEFAULT_CONNECTION_LIMIT = 200;
/** Changes of the topology are told to the overlay together: within this, and not more often than so. */
const ROUTES_DELAY_MS = 10;
const ROUTES_INTERVAL_MS = 100;
/** How often what we know is looked at for what cannot be, and our connections for those that are too many. */
const CARE_INTERVAL_MS = 5_000;
/** Of the connections that are too many, this part is given up at a time: others may rely on the same detours. */
const SHED_SHARE = 0.1;

/** Beyond any limit that is set: peers that only we can reach are let in up to this. */
const MAX_CONNECTIONS = 4096;
/** Bytes of messages that have begun to come and not ended, of all peers together. */
const MAX_UNFINISHED = 128 * 1024 * 1024;
/** Time for others to forget a peer that they cannot reach, and how often that is asked of them at most. */
const ALONE_MS = 10_000;
const ANEW_INTERVAL_MS = 60_000;

/** Time for the host of a peer to acknowledge something, where another connection of that peer tells that it may be gone. */
const DUPLICATE_CHECK_MS = 1_000;
/** The same where the network of this host has changed: two segments in a row may be lost. */
const CHECK_MS = 2_000;

/** Lines of the log on connections; a network of 300 that starts at once writes as many. */
const CONNECTION_LINES_PER_MINUTE = 1_000;

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
  /** The lowest protocol version accepted; 2 with encryption unless given, else 1. */
  readonly minVersion?: number | undefined;
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
  readonly #warn: LimitedWarning;
  readonly note: (text: string, fields?: Fields) => void;
  readonly #strangers: Strangers;
  readonly #unfinished = new SharedLimit<LocalConnection>(MAX_UNFINISHED);
  readonly slices: Slices;
  readonly channels: Channels;
  /** Questions to other routers, and theirs to us. */
  readonly questions: Ask;
  readonly refusals: Refusals;
  readonly collisions: Collisions;
  readonly refusedHandshakes: RefusedHandshakes;
  readonly lost: LostPeers;
  #gate: Gate | undefined;
  readonly #listeners: MeshListener[] = [];
  readonly #topology: TopologyGossip;
  readonly #news: News;
  #periodic: Timer | undefined;
  #routesTimer: Timer | undefined;
  #routesAt = Number.NEGATIVE_INFINITY;
  #care: Timer | undefined;
  #stopped = false;
  /** Without connections until then, for others to forget us. */
  #aloneUntil = Number.NEGATIVE_INFINITY;

  constructor(
    readonly config: MeshConfig,
    dependencies: MeshDependencies,
  ) {
    const { clock, random, overlay, transport } = dependencies;
    const log = ratedLog(dependencies.log, clock);
    this.clock = clock;
    this.random = random;
    this.log = log;
    this.#warn = limitedWarnings(log, () => clock.now());
    this.note = limitedLines(log, () => clock.now(), CONNECTION_LINES_PER_MINUTE);
    this.#strangers = new Strangers(clock, this.#warn);
    this.overlay = overlay;
    this.slices = new Slices(clock);
    this.channels = new Channels(this);
    this.encryption = config.encryption;
    this.refusals = new Refusals(clock, log);
    this.collisions = new Collisions(clock);
    this.refusedHandshakes = new RefusedHandshakes(clock);
    this.lost = new LostPeers(clock);
    this.minVersion = config.minVersion ?? lowestVersion(config.encryption);
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
    const logGone = goneLog(clock, log, this.#warn);
    this.peers = new Peers(this.ourself, clock, random, {
      peersGone: (peers) => {
        logGone(peers);
        for (const listener of this.#listeners) for (const peer of peers) listener.peerGone?.(peer);
      },
      shortIdsInvalidated: () => {
        for (const listener of this.#listeners) listener.shortIdsChanged?.();
      },
      ourselfChanged: () => this.#news.tellAnew(),
      exhausted: () => this.#beginAnew(),
      refused: (what) => this.warn("topology size", `${what} not added to the topology: no room, or invalid`),
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
      reply: (to, data) => this.connections.get(to)?.sendGossip(TOPOLOGY, undefined, data),
      changed: (tell) => {
        this.maker.refresh();
        this.#topologyChanged();
        if (tell) this.#news.tell();
      },
    });
    this.questions = new Ask(this, (gossiper) => this.channels.open(ASK_CHANNEL, gossiper));
    this.#news = new News(this, this.#topology, this.channels.open(TOPOLOGY, this.#topology));
  }

  listen(listener: MeshListener): void {
    this.#listeners.push(listener);
  }

  /** Begins the periodic gossip. */
  start(): void {
    this.#periodic = every(this.clock, GOSSIP_INTERVAL_MS, () => {
      this.#work("repeat gossip", this.channels.repeat());
    });
    this.#care = every(this.clock, CARE_INTERVAL_MS, () => {
      this.#work("look through the topology", this.#ask());
      this.#shed();
    });
  }

  /** Asks a neighbour, by showing what we have, about peers that we seem to know too little of. */
  *#ask(): Work {
    const data = yield* this.#topology.doubts();
    if (!data) return;
    const names = [...this.connections.keys()];
    const name = names[below(this.random, names.length)];
    if (name !== undefined) this.connections.get(name)?.sendGossip(TOPOLOGY, undefined, data);
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
    this.#news.stop();
    this.questions.stop();
    for (const timer of [this.#periodic, this.#routesTimer, this.#care]) timer?.cancel();
    for (const connection of [...this.maker.connections, ...this.#strangers.all()]) {
      connection.shutdown(new Error("router stopping"));
    }
    this.slices.stop();
  }

  warn(kind: string, text: string, fields?: Fields): void {
    this.#warn(kind, text, fields);
  }

  #work(what: string, work: Work): void {
    this.slices.run(work, (error) => {
      if (error) this.log.error(`cannot ${what}: ${error.message}`);
    });
  }

  /**
   * Somebody has told the others of us with the greatest version there is: they believe nothing that we say. Once they
   * cannot reach us they forget it; so we go, and come again as a new peer.
   */
  #beginAnew(): void {
    const now = this.clock.now();
    if (this.#stopped || now < this.#aloneUntil + ANEW_INTERVAL_MS) return;
    this.#aloneUntil = now + ALONE_MS;
    this.log.error(
      `another peer uses our name (${this.ourself}) with a version that we cannot exceed; reconnecting`,
    );
    this.clock.after(0, () => {
      this.ourself.uid = this.random.u64() || 1n;
      this.ourself.version = 0;
      for (const connection of [...this.maker.connections]) connection.shutdown(new Error("reconnecting"));
    });
  }

  /** Opens a gossip channel; what peers say on it goes to `gossiper`. */
  channel(name: string, gossiper: Gossiper): GossipChannel {
    return this.channels.open(name, gossiper);
  }

  /** Takes a stream that a peer has opened to us; undefined where it is to be closed. */
  accept(stream: Stream): StreamHandler | undefined {
    const ip = splitHostPort(stream.remoteAddress)?.host ?? "";
    if (this.#stopped || !this.#strangers.admits(ip)) return undefined;
    this.log.debug("connection accepted", { address: stream.remoteAddress });
    const connection = new LocalConnection(this, stream, false, true);
    this.#strangers.add(connection);
    return connection;
  }

  redial(connection: LocalConnection): void {
    this.maker.redial(connection);
  }

  /**
   * The network of this host has changed, or it was away. Connections of which `gone` gives a reason end at once, those
   * of `doubtful` unless their peers' hosts acknowledge something soon; and what could not be reached is tried again.
   */
  underlayChanged(
    gone: (connection: LocalConnection) => string | undefined,
    doubtful: (connection: LocalConnection) => string | undefined,
  ): void {
    for (const connection of [...this.maker.connections]) {
      const why = gone(connection);
      const doubt = why === undefined ? doubtful(connection) : undefined;
      if (why !== undefined || doubt !== undefined) this.redial(connection);
      if (why !== undefined) connection.shutdown(new Error(why));
      else if (doubt !== undefined) connection.check(CHECK_MS, doubt);
    }
    this.maker.retry();
  }

  introduced(connection: LocalConnection): void {
    this.#strangers.remove(connection);
    this.refusedHandshakes.lift(connection.remoteIp);
  }

  holds(connection: LocalConnection, bytes: number): void {
    const one = this.#unfinished.set(connection, bytes);
    one?.shutdown(new Error(`too many unfinished messages of all peers (${this.#unfinished.max} bytes)`));
  }

  /** What is at a limit, for the status. */
  notes(): string[] {
    const { total, max } = this.#unfinished;
    const unfinished = total > max / 2 ? [`${total} bytes of unfinished messages; ${max} are the limit`] : [];
    return [...this.peers.notes(), ...this.#strangers.notes(), ...this.maker.notes(), ...unfinished];
  }

  /** Our connections, by the name of the peer at the other end. */
  get connections(): ReadonlyMap<PeerName, LocalConnection> {
    return this.ourself.connections as Map<PeerName, LocalConnection>;
  }

  /** Names of the other peers that a route leads to. */
  reachablePeers(): PeerName[] {
    return [...this.routes.unicastAll.keys()].filter((name) => name !== this.ourself.name);
  }

  trusts(ip: string): boolean {
    return this.config.trusts?.(ip) ?? false;
  }

  /** What a room above says of itself in handshakes, and by what it judges who may be connected. */
  guard(gate: Gate): void {
    this.#gate = gate;
  }

  features(ip: string): Record<string, string> {
    return { ...this.overlay.features(), ...this.#gate?.features(), ...this.collisions.features(ip) };
  }

  identify(remote: Peer, connection: LocalConnection, features: Features): Peer {
    if (this.#stopped) throw new Error("router stopping");
    if (this.clock.now() < this.#aloneUntil) throw new Error("reconnecting in a few seconds");
    if (remote.name === this.ourself.name) {
      if (remote.uid === this.ourself.uid) throw new SelfConnectionError();
      const collision = new CollisionError(this.ourself, remote, connection.address);
      this.refusedHandshakes.note(connection, sameName(this.ourself.name));
      this.collisions.noteOwn(connection.remoteIp);
      this.warn(`collision ${connection.remoteIp}`, collision.message, { address: connection.address });
      throw collision;
    }
    connection.fits = this.#judge(remote, connection, features);
    const known = this.peers.get(remote.name);
    if (!known && !connection.acceptNewPeer) {
      throw new Error(`Found unknown remote name: ${remote.name} at ${connection.address}`);
    }
    return this.peers.referTo(remote);
  }

  /** False where a handshake does not tell whether a peer is of our network; throws RefusedError where it is not. */
  #judge(remote: Peer, connection: LocalConnection, features: Features): boolean {
    const { remoteIp } = connection;
    const verdict = this.#gate?.judge(features);
    const error =
      this.collisions.told(this.ourself.name, features) ??
      this.collisions.judge(remote.name, remoteIp, this.connections.get(remote.name)?.keeper) ??
      (verdict === undefined ? this.refusals.binding(remote) : verdict === "fits" ? undefined : verdict);
    if (error) {
      this.refusals.add(remote, connection, error, false);
      throw error;
    }
    if (verdict) this.refusals.lift(remote.name);
    return verdict !== undefined;
  }

  release(remote: Peer): void {
    this.peers.release(remote);
  }

  add(connection: LocalConnection, restarted: boolean): void {
    const { remote } = connection;
    const duplicate = this.connections.get(remote.name);
    if (duplicate && duplicate.remoteUid !== connection.remoteUid) {
      // Two hosts of one name, or one that was restarted; its kernel then resets what it does not know any more.
      duplicate.check(DUPLICATE_CHECK_MS, `${remote} was restarted at ${connection.remoteIp}`);
      this.collisions.note(remote.name, duplicate.keeper, connection.remoteIp);
      throw new DuplicateNameError(remote, duplicate.address);
    }
    if (duplicate) {
      const error = new Error(`Multiple connections to ${remote} added to ${this.ourself}`);
      const tie = connection.breakTie(duplicate);
      if (tie !== "lost") duplicate.shutdown(error);
      // A peer that has got another address knows the old connection no more, and comes again.
      else duplicate.check(DUPLICATE_CHECK_MS, `the peer connected again, from ${connection.remoteIp}`);
      if (tie !== "won") throw error;
    }
    const reachable = this.routes.unicastAll.has(remote.name);
    this.#respectLimit(reachable);
    this.ourself.connections.set(remote.name, connection);
    this.peers.raise();
    this.maker.created(connection);
    this.#topologyChanged();
    const isNew = restarted || !reachable;
    connection.log(`connection added${restarted ? ": restarted peer" : isNew ? ": new peer" : ""}`);
    if (isNew) this.#news.welcome(connection);
    this.#news.tell();
    if (!connection.fits) this.#gate?.connected(remote.name);
  }

  established(connection: LocalConnection): void {
    if (this.connections.get(connection.remote.name) !== connection) {
      return connection.shutdown(new Error("Cannot set unknown connection active"));
    }
    this.refusals.connected(connection.remote);
    this.lost.back(connection.remote.name);
    this.maker.established(connection);
    this.peers.raise();
    connection.log("connection fully established");
    this.#topologyChanged();
    this.#news.tell();
  }

  gossip(from: PeerName, tag: number, body: Uint8Array): Work {
    return this.channels.receive(from, tag, body);
  }

  ended(connection: LocalConnection, error: Error): void {
    const remote = connection.knownRemote;
    if (remote && error instanceof RefusedError) this.refusals.add(remote, connection, error, true);
    if (error instanceof HandshakeError) this.refusedHandshakes.note(connection, error);
    this.#unfinished.set(connection, 0);
    if (!remote && !connection.outbound) return this.#strangers.failed(connection, error);
    if (remote && this.connections.get(remote.name) === connection) {
      this.ourself.connections.delete(remote.name);
      this.peers.raise();
      connection.log("connection deleted");
      if (connection.established && !this.#stopped) this.lost.add(connection, remote, error);
      if (!this.#stopped) {
        this.peers.collectSoon();
        this.#topologyChanged();
        this.#news.tell();
      }
    }
    this.maker.ended(connection, error);
  }

  /**
   * At the limit, a peer that can be reached through others is turned away; one that cannot is let in, and a
   * connection that others can stand in for makes room. So a limit never takes a peer off the network.
   */
  #respectLimit(reachable: boolean): void {
    if (this.connections.size >= MAX_CONNECTIONS) throw new ConnectionLimitError(MAX_CONNECTIONS);
    if (this.connections.size < this.#limit) return;
    const error = new ConnectionLimitError(this.#limit);
    if (reachable) throw error;
    const spare = prunable(this.ourself);
    if (spare) this.connections.get(spare.name)?.shutdown(error);
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
}
