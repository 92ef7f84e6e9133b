// The mesh of one peer: its connections, the topology, and the gossip channels (mesh: router.go, local_peer.go). Pure:
// clock, chance, network and overlay are passed in.
import { splitHostPort } from "../address/hostport.ts";
import type { Clock, Timer } from "../clock/clock.ts";
import { every } from "../clock/clock.ts";
import type { Random } from "../clock/random.ts";
import { Slices, type Work } from "../clock/slices.ts";
import { Soon } from "../clock/soon.ts";
import { type LimitedWarning, limitedLines, limitedWarnings } from "../log/limited.ts";
import type { Log } from "../log/log.ts";
import type { Limit } from "../sys/limit.ts";
import { AcceptBudget } from "./acceptbudget.ts";
import { Admission } from "./admission.ts";
import { Ask } from "./ask.ts";
import { BufferBudget } from "./bufferbudget.ts";
import { Channels, GOSSIP_INTERVAL_MS } from "./channels.ts";
import type { MeshConfig, MeshDependencies, MeshListener } from "./config.ts";
import { type ConnectionHost, LocalConnection } from "./connection.ts";
import { connectionHost } from "./connectionlife.ts";
import { ConnectionMaker } from "./dial/maker.ts";
import { ConnectionError } from "./errors.ts";
import { ASK_CHANNEL } from "./features.ts";
import { GonePeers } from "./gonepeers.ts";
import type { GossipChannel, Gossiper } from "./gossip.ts";
import { type Encryption, lowestVersion } from "./handshake.ts";
import { ConnectionLimit } from "./limit.ts";
import { LongMessages } from "./longmessages.ts";
import { LostPeers } from "./lostpeers.ts";
import type { PeerName } from "./name.ts";
import type { Overlay } from "./overlay.ts";
import { Peer } from "./peer.ts";
import { Peers, type PeersListener } from "./peers.ts";
import { peersGoneLog } from "./peersgonelog.ts";
import { DEFAULT_PORT } from "./port.ts";
import { ratedLog } from "./ratedlog.ts";
import { Renewal } from "./renewal.ts";
import { Routes } from "./routes.ts";
import { drawShortId } from "./shortid.ts";
import { Silence } from "./silence.ts";
import { TopologySync } from "./topologysync.ts";
import type { Stream, StreamHandler } from "./transport.ts";

/**
 * Gossip is repeated so long after a peer is back that was cut off: either side may have forgotten what the other has, not all at
 * one time, and what was broadcast meanwhile may have reached some of them.
 */
const REUNITED_MS = 4_000;
/** Interval of closing connections over the limit. */
const CARE_INTERVAL_MS = 5_000;
/** Time for a peer's host to acknowledge something after the network of this host changed: two segments may be lost. */
const CHECK_MS = 2_000;
/** The same where heartbeats are missing; less than the interval of care. */
const SILENT_CHECK_MS = 4_000;
/** Log lines on connections; a network of 300 that starts at once writes as many. */
const CONNECTION_LINES_PER_MINUTE = 1_000;

export class MeshRouter {
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
  readonly slices: Slices;
  readonly channels: Channels;
  /** Who may connect, and who was refused. */
  readonly admission: Admission;
  /** Questions to other routers, and theirs to us. */
  readonly questions: Ask;
  readonly lost: LostPeers;
  /** Bytes of gossip on all connections since the start. */
  readonly gossipBytes = { received: 0, sent: 0 };
  readonly #warn: LimitedWarning;
  readonly #buffers = new BufferBudget();
  readonly #accepts: AcceptBudget;
  readonly #host: ConnectionHost;
  /** Handshakes with hosts that we dial. */
  readonly #dialled: Slices;
  readonly #repeatSoon: Soon;
  readonly #limit: ConnectionLimit;
  readonly #long = new LongMessages();
  readonly #listeners: MeshListener[] = [];
  readonly #topology: TopologySync;
  readonly #silence = new Silence<LocalConnection>();
  readonly #renewal: Renewal;
  #timers: Timer[] = [];
  #stopped = false;

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
    this.overlay = overlay;
    this.slices = new Slices(clock);
    this.#dialled = new Slices(clock);
    this.channels = new Channels(this);
    this.#repeatSoon = new Soon(clock, () => this.#repeat());
    this.encryption = config.encryption;
    this.lost = new LostPeers(clock);
    this.minVersion = config.minVersion ?? lowestVersion(config.encryption);
    this.port = config.port ?? DEFAULT_PORT;
    this.ourself = new Peer({
      name: config.name,
      nickName: config.nickName,
      // 0 is for peers of which only the name is known.
      uid: random.u64() || 1n,
      version: 0,
      shortId: config.shortId ?? drawShortId(random),
      hasShortId: true,
    });
    this.#accepts = new AcceptBudget(clock, this.#warn, this.#buffers);
    this.admission = new Admission(this.ourself, clock, log, this.#warn);
    this.#renewal = new Renewal({
      ...{ ourself: this.ourself, clock, random, log },
      disconnect: (error) => this.#disconnect(error),
    });
    this.#limit = new ConnectionLimit(
      this.ourself,
      config.connectionLimit || Number.POSITIVE_INFINITY,
      (peer, error) => this.connections.get(peer.name)?.shutdown(error),
    );
    const logGone = peersGoneLog(clock, log, this.#warn);
    const gone = new GonePeers(
      (work) => this.#work("report unreachable peers", work),
      (name) => this.peers.get(name) !== undefined,
      (peers) => this.#tell((listener) => listener.peersGone?.(peers)),
    );
    const listener: PeersListener = {
      peersGone: (peers) => {
        this.#work("log unreachable peers", logGone(peers));
        gone.add(peers);
      },
      shortIdsInvalidated: () => this.#tell((listener) => listener.shortIdsChanged?.()),
      ourselfChanged: () => this.#topology.invalidate(),
      exhausted: () => {
        if (!this.#stopped) this.#renewal.begin();
      },
      reachable: () => this.routes.reachable(),
      refused: (what) =>
        this.#warn("topology size", `${what} not added to the topology: no room, or invalid`),
    };
    this.peers = new Peers(this.ourself, clock, random, listener, dependencies.readTopology);
    this.routes = new Routes(this.ourself, this.peers);
    this.#host = this.#connectionHost();
    this.maker = new ConnectionMaker({
      host: this.#host,
      clock,
      random,
      log,
      transport,
      port: this.port,
      discovery: config.discovery ?? true,
      limit: this.#limit.max,
      peers: () => this.peers.all(),
      ourself: this.ourself,
    });
    this.questions = new Ask(this, (gossiper) => this.channels.open(ASK_CHANNEL, gossiper));
    this.#topology = new TopologySync(this, {
      heard: () => this.maker.refresh(),
      routesChanged: () => this.#tell((listener) => listener.routesChanged?.()),
      run: (work) => this.#work("look through the topology", work),
    });
  }

  #connectionHost(): ConnectionHost {
    const { ourself, clock, random, log, slices, overlay, encryption, minVersion } = this;
    return connectionHost(
      {
        ...{ ourself, clock, random, log, slices, overlay, encryption, minVersion },
        ...{ peers: this.peers, routes: this.routes, connections: this.#connections },
        ...{ admission: this.admission, accepts: this.#accepts, limit: this.#limit },
        ...{ buffers: this.#buffers, dialled: this.#dialled },
        trusts: (ip) => this.config.trusts?.(ip) ?? false,
        checkOpen: () => {
          if (this.#stopped) throw new Error("router stopping");
          this.#renewal.check();
        },
        gossip: (from, tag, body) => {
          this.gossipBytes.received += body.length;
          return this.#long.run(body.length, () => this.channels.receive(from, tag, body));
        },
        gossiped: (bytes) => this.gossiped(bytes),
        note: limitedLines(log, () => clock.now(), CONNECTION_LINES_PER_MINUTE),
        warn: this.#warn,
        redial: (connection) => this.maker.redial(connection),
      },
      {
        added: (connection, isNew, before) => {
          this.peers.raiseVersion();
          this.maker.created(connection);
          this.#topology.added(connection, isNew, before);
        },
        established: (connection) => this.#established(connection),
        removed: (connection, remote, error) => this.#removed(connection, remote, error),
        ended: (connection, error) => this.maker.ended(connection, error),
      },
    );
  }

  listen(listener: MeshListener): void {
    this.#listeners.push(listener);
  }

  #tell(event: (listener: MeshListener) => void): void {
    for (const listener of this.#listeners) event(listener);
  }

  /** Begin periodic gossip and checks. */
  start(): void {
    this.#timers = [
      every(this.clock, GOSSIP_INTERVAL_MS, () => this.#repeat()),
      every(this.clock, CARE_INTERVAL_MS, () => {
        this.#limit.shed();
        this.#checkSilent();
      }),
    ];
  }

  /**
   * A path that is cut, one way or both, ends no connection by itself. Neighbours whose heartbeats are missing have to
   * acknowledge something soon: else frames and gossip take another way.
   */
  #checkSilent(): void {
    const { silent, lately } = this.#silence.look(this.connections.values());
    for (const connection of silent) connection.check(SILENT_CHECK_MS, "heartbeats are missing");
    for (const { remote } of lately) this.#tell((listener) => listener.fellSilent?.(remote));
  }

  /** Close all connections and stop all timers. */
  stop(): void {
    this.#stopped = true;
    this.maker.stop();
    this.peers.stop();
    this.#topology.stop();
    this.#repeatSoon.stop();
    this.questions.stop();
    for (const timer of this.#timers) timer.cancel();
    const stopping = new Error("router stopping");
    this.#disconnect(stopping);
    for (const connection of this.#accepts.all()) connection.shutdown(stopping);
    for (const each of [this.slices, this.#dialled, this.#accepts]) each.stop();
  }

  #repeat(): void {
    this.#work("repeat gossip", this.channels.repeat());
  }

  #work(what: string, work: Work): void {
    this.slices.run(work, (error) => {
      if (error) this.log.error(`cannot ${what}: ${error.message}`);
    });
  }

  #disconnect(error: Error): void {
    for (const connection of [...this.maker.connections]) connection.shutdown(error);
  }

  /** Open a gossip channel; messages on it go to `gossiper`. */
  channel(name: string, gossiper: Gossiper): GossipChannel {
    return this.channels.open(name, gossiper);
  }

  /** Take a stream that a peer has opened; returns undefined where it is to be closed. */
  accept(stream: Stream): StreamHandler | undefined {
    const ip = splitHostPort(stream.remoteAddress)?.host ?? "";
    if (this.#stopped || !this.#accepts.admits(ip)) return undefined;
    this.log.debug("connection accepted", { address: stream.remoteAddress });
    const connection = new LocalConnection(this.#host, stream, false, true);
    this.#accepts.add(connection);
    return connection;
  }

  /**
   * The network of this host has changed, or it was away: close connections for which `gone` returns a reason, those of
   * `doubtful` unless their peers' hosts acknowledge something soon, and dial what failed before.
   */
  underlayChanged(
    gone: (connection: LocalConnection) => string | undefined,
    doubtful: (connection: LocalConnection) => string | undefined,
  ): void {
    for (const connection of [...this.maker.connections]) {
      const why = gone(connection);
      const doubt = why === undefined ? doubtful(connection) : undefined;
      if (why !== undefined || doubt !== undefined) this.maker.redial(connection);
      if (why !== undefined) connection.shutdown(new ConnectionError(why, "no own address"));
      else if (doubt !== undefined) connection.check(CHECK_MS, doubt);
    }
    this.maker.retry();
  }

  /** What peers and strangers can make grow here, and how far. */
  limits(): Limit[] {
    return [
      ...this.#limit.limits(),
      ...this.peers.limits(),
      ...this.#accepts.limits(),
      this.#buffers.limit,
      ...this.channels.limits(),
      ...this.maker.limits(),
      ...this.questions.limits(),
      ...this.admission.limits(),
      ...this.lost.limits(),
    ];
  }

  /** What is at a limit, for the status. */
  notes(): string[] {
    return [this.peers, this.#accepts, this.maker, this.#buffers].flatMap((each) => each.notes());
  }

  /** Our connections, by the name of the peer at the other end. */
  get connections(): ReadonlyMap<PeerName, LocalConnection> {
    return this.#connections;
  }

  get #connections(): Map<PeerName, LocalConnection> {
    return this.ourself.connections as Map<PeerName, LocalConnection>;
  }

  /** Names of the other peers that a route leads to. */
  reachablePeers(): PeerName[] {
    return [...this.routes.unicastAll.keys()].filter((name) => name !== this.ourself.name);
  }

  /** Count bytes of gossip that were sent. */
  gossiped(bytes: number): void {
    this.gossipBytes.sent += bytes;
  }

  #established(connection: LocalConnection): void {
    if (this.lost.back(connection.remote))
      this.#repeatSoon.within(REUNITED_MS * (0.75 + 0.5 * this.random.float()));
    this.maker.established(connection);
    this.peers.raiseVersion();
    this.#topology.changed();
  }

  #removed(connection: LocalConnection, remote: Peer, error: Error): void {
    this.peers.raiseVersion();
    if (this.#stopped) return;
    if (connection.established) this.lost.add(connection, remote, error);
    this.peers.collectSoon();
    this.#topology.changed();
  }
}
