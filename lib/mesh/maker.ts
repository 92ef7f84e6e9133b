// Which connections to try, and when: the peers we were told of, and those that gossip tells of (mesh:
// connection_maker.go). A failed target is tried again after a while that grows from 2 seconds to 6 minutes.

import { joinHostPort, splitHostPort } from "../address/hostport.ts";
import type { Clock, Timer } from "../clock/clock.ts";
import type { Random } from "../clock/random.ts";
import { TokenBucket } from "../clock/tokenbucket.ts";
import type { Log } from "../log/log.ts";
import { codeOf } from "../sys/cause.ts";
import { reasonOf } from "../sys/reason.ts";
import { type ConnectionHost, LocalConnection } from "./connection.ts";
import { CollisionError, peerTrouble, RefusedError, SelfConnectionError } from "./errors.ts";
import { DIAL_BURST, DIALS_PER_S, dialable, GossipedAddresses, MAX_GOSSIPED } from "./gossiped.ts";
import type { PeerName } from "./name.ts";
import type { Peer, PeerConnection } from "./peer.ts";
import type { StreamHandler, Transport } from "./transport.ts";
import { connectionCause, connectionTrouble, type PeerTrouble } from "./trouble.ts";

const INITIAL_INTERVAL_MS = 250;
const MAX_INTERVAL_MS = 6 * 60_000;
/** A connection that lasted this long starts again at the initial interval. */
const RESET_AFTER_MS = 60_000;
/** A peer that was refused for what it is, is tried again after this (half of it to half as much again). */
const REFUSED_INTERVAL_MS = 60_000;
/** Gossip brings changes in bursts; looking for new targets once a burst is enough. */
const CHECK_DELAY_MS = 10;
/**
 * Peers that hear of each other hear it at about the same time, and would both call, with one connection too many. So
 * the one with the greater name calls, and the other only when this has gone by without a call.
 */
const THEIR_TURN_MS = 2_000;

/** Why a peer is to be connected to: the user named it, this host has lost it, or others know it. */
type Reason = "named" | "lost" | "ours to call" | "theirs to call";

/** A peer that this host has lost by a fault of its own is looked for for so long. */
const LOST_MS = 10 * 60_000;

/** Looking takes the longer, the more there is to look at, and is done the less often. */
const CHECK_DELAY_PER_TARGET_MS = 0.2;

/** Where an attempt to connect to an address stands. */
export interface Target {
  state: "waiting" | "attempting" | "connected";
  lastError: Error | undefined;
  /** What that was, and what to do about it. */
  trouble: PeerTrouble | undefined;
  /** When to try next, in ms of the clock; undefined for never. */
  tryAfter: number | undefined;
  intervalMs: number;
  /** Gives up the attempt under way. */
  giveUp: (() => void) | undefined;
}

/** A peer that the user named: the address found for it so far, and its port where one was given. */
interface DirectPeer {
  readonly ip: string | undefined;
  readonly port: number | undefined;
  /** Why no address was found for it the last time. */
  readonly unresolved?: PeerTrouble;
}

/** Where a peer stands that the user named. */
export interface NamedTarget {
  readonly name: string;
  /** "ip:port"; undefined while its name has no address. */
  readonly address: string | undefined;
  /** Why its name has no address, once that was looked for. */
  readonly unresolved: PeerTrouble | undefined;
  /** The connection to whoever is there, established or not. */
  readonly connection: LocalConnection | undefined;
  /** The attempt to connect to that address. */
  readonly target: Target | undefined;
}

/** A named peer without an address, and why, as a sentence. */
export interface UnresolvedPeer {
  readonly peer: string;
  readonly problem: string;
}

/** A name of a peer that cannot be one. */
export class PeerAddressError extends Error {
  override readonly name = "PeerAddressError";
  constructor(peer: string) {
    super(`peer "${peer}": should be HOST or HOST:PORT`);
  }
}

export interface MakerParams {
  readonly host: ConnectionHost;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly transport: Transport;
  /** The port peers listen on unless a target says otherwise. */
  readonly port: number;
  readonly discovery: boolean;
  /** More connections than this are not sought. */
  readonly limit: number;
  readonly peers: () => Iterable<Peer>;
  readonly ourself: Peer;
}

/** Return the port in the name of a peer, undefined where it has none; throw PeerAddressError. */
export function portOf(peer: string): number | undefined {
  const address = splitHostPort(peer);
  if (!address) throw new PeerAddressError(peer);
  return address.port;
}

export class ConnectionMaker {
  readonly targets = new Map<string, Target>();
  readonly connections = new Set<LocalConnection>();
  terminations = 0;
  readonly #direct = new Map<string, DirectPeer>();
  /** Where peers were that this host has lost, and since when. */
  readonly #lost = new Map<PeerName, { readonly address: string; readonly since: number }>();
  readonly #dials: TokenBucket;
  /** Addresses of peers to connect to that gossip tells of. */
  #gossiped = 0;
  #check: Timer | undefined;
  #retry: Timer | undefined;
  #stopped = false;

  constructor(private readonly params: MakerParams) {
    this.#dials = new TokenBucket(DIAL_BURST, DIALS_PER_S, params.clock.now());
  }

  /**
   * Add peers ("host" or "host:port") to those we keep connected to, or put them in place of all there were. Resolve with
   * what is wrong with any of them once all names were looked up; they stay, and `resolveAgain` looks them up anew.
   * Throw PeerAddressError, with nothing changed.
   */
  async connect(peers: readonly string[], replace: boolean): Promise<UnresolvedPeer[]> {
    const ports = new Map(peers.map((peer) => [peer, portOf(peer)]));
    if (replace) for (const peer of this.#direct.keys()) if (!ports.has(peer)) this.#direct.delete(peer);
    for (const [peer, port] of ports)
      if (!this.#direct.has(peer)) this.#direct.set(peer, { ip: undefined, port });
    const errors = await Promise.all(
      Array.from(ports.keys(), async (peer) => {
        const { ip, unresolved } = await this.#resolve(peer);
        if (unresolved !== undefined)
          return [{ peer, problem: `cannot resolve peer "${peer}": ${unresolved.reason}` }];
        const target = ip === undefined ? undefined : this.targets.get(this.#addressOf(ip, ports.get(peer)));
        if (target?.state === "waiting") this.#tryNow(target);
        this.refresh();
        return [];
      }),
    );
    this.refresh();
    return errors.flat();
  }

  /** Look up the address of a named peer. Return what is known of it then; it may have been forgotten, or named anew, meanwhile. */
  async #resolve(name: string): Promise<DirectPeer> {
    const before = this.#direct.get(name);
    const host = splitHostPort(name)?.host;
    if (!before || host === undefined) return { ip: undefined, port: undefined };
    const { ip, port } = before;
    const found = await this.params.transport.resolve(host).then(
      (address): DirectPeer => ({ ip: address, port }),
      (error): DirectPeer => ({ ip, port, unresolved: unresolvable(host, error) }),
    );
    if (this.#direct.get(name) === before) this.#direct.set(name, found);
    return found;
  }

  /** Look up the names of peers that do not answer. Return those that have an address now, or another one; they are dialled. */
  async resolveAgain(): Promise<string[]> {
    const unanswered = [...this.named()].filter(([, peer]) => peer === undefined).map(([name]) => name);
    const moved = await Promise.all(
      unanswered.map(async (name) => {
        const before = this.#direct.get(name)?.ip;
        const { ip } = await this.#resolve(name);
        return ip === before ? [] : [name];
      }),
    );
    if (moved.some((names) => names.length > 0)) this.refresh();
    return moved.flat();
  }

  /** Named peers that have no address. */
  unresolved(): string[] {
    return [...this.#direct].filter(([, { ip }]) => ip === undefined).map(([name]) => name);
  }

  forget(peers: readonly string[]): void {
    for (const peer of peers) {
      const ip = this.#direct.get(peer)?.ip;
      this.#direct.delete(peer);
      for (const [name, { address }] of this.#lost)
        if (ip !== undefined && splitHostPort(address)?.host === ip) this.#lost.delete(name);
    }
    this.refresh();
  }

  /** The peers we were told of, and who answers at their addresses: a peer, ourself, or nobody (undefined) yet. */
  named(): Map<string, Peer | undefined> {
    const found = new Map<string, Peer | undefined>();
    for (const { name, target, connection } of this.namedTargets()) {
      const isSelf = target?.lastError instanceof SelfConnectionError;
      found.set(name, isSelf ? this.params.ourself : connection?.established ? connection.remote : undefined);
    }
    return found;
  }

  /** The peers we were told of, and where each stands. */
  namedTargets(): NamedTarget[] {
    return Array.from(this.#direct, ([name, { ip, port, unresolved }]) => {
      if (ip === undefined)
        return { name, address: undefined, unresolved, connection: undefined, target: undefined };
      const address = this.#addressOf(ip, port);
      const there = [...this.connections].filter(
        (connection) =>
          connection.address === address ||
          (!connection.outbound && splitHostPort(connection.address)?.host === ip),
      );
      const connection = there.find(({ established }) => established) ?? there[0];
      return { name, address, unresolved: undefined, connection, target: this.targets.get(address) };
    });
  }

  directPeers(): string[] {
    return [...this.#direct.keys()];
  }

  /** Looks for what to connect to, soon: something has changed. */
  refresh(): void {
    if (this.#stopped || this.#check) return;
    const delay = Math.max(CHECK_DELAY_MS, this.targets.size * CHECK_DELAY_PER_TARGET_MS);
    this.#check = this.params.clock.after(delay, () => {
      this.#check = undefined;
      this.#attemptDue();
    });
  }

  /**
   * The connection is about to end by a fault of this host: it lost its address, or slept. The peer may know no way to
   * us, and nobody else to tell us where it is; so it is looked for where it was.
   */
  lose({ address, outbound, remote }: LocalConnection): void {
    const dial = dialable(address, outbound, this.params.port);
    if (!dial || !this.params.discovery) return;
    this.#lost.set(remote.name, { address: dial, since: this.params.clock.now() });
  }

  /** The network of this host has changed: dials at once what failed before, and anew what is being dialled. */
  retry(): void {
    for (const target of this.targets.values()) {
      if (target.state === "connected" || target.lastError instanceof SelfConnectionError) continue;
      if (target.lastError instanceof RefusedError || target.lastError instanceof CollisionError) continue;
      if (target.state === "attempting") target.giveUp?.();
      target.state = "waiting";
      this.#tryNow(target);
    }
    this.refresh();
  }

  /** What is at a limit, for the status. */
  notes(): string[] {
    if (this.#gossiped <= MAX_GOSSIPED) return [];
    return [`gossip tells of ${this.#gossiped} addresses to connect to; ${MAX_GOSSIPED} are tried at a time`];
  }

  created(connection: LocalConnection): void {
    this.connections.add(connection);
    const target = connection.outbound ? this.targets.get(connection.address) : undefined;
    if (target) target.state = "connected";
  }

  /** Frames get through to this peer. */
  established({ remote }: LocalConnection): void {
    this.#lost.delete(remote.name);
  }

  ended(connection: LocalConnection, error: Error): void {
    if (!(error instanceof SelfConnectionError)) this.terminations++;
    this.connections.delete(connection);
    const target = connection.outbound ? this.targets.get(connection.address) : undefined;
    if (target) this.#failed(connection.address, target, error);
    this.refresh();
  }

  stop(): void {
    this.#stopped = true;
    this.#check?.cancel();
    this.#retry?.cancel();
  }

  #addressOf(ip: string, port: number | undefined): string {
    return joinHostPort(ip, port ?? this.params.port);
  }

  #failed(address: string, target: Target, error: Error): void {
    const now = this.params.clock.now();
    const lasted = target.tryAfter !== undefined && now > target.tryAfter + RESET_AFTER_MS;
    target.state = "waiting";
    target.lastError = error;
    target.trouble = peerTrouble(error, address);
    if (error instanceof SelfConnectionError) {
      target.tryAfter = undefined;
      target.intervalMs = MAX_INTERVAL_MS;
    } else if (error instanceof RefusedError || error instanceof CollisionError) {
      target.tryAfter = now + REFUSED_INTERVAL_MS * (0.5 + this.params.random.float());
    } else if (lasted) {
      this.#tryNow(target);
    } else {
      target.tryAfter = now + target.intervalMs * (0.5 + this.params.random.float());
      target.intervalMs = Math.min(target.intervalMs * 1.5, MAX_INTERVAL_MS);
    }
  }

  #tryNow(target: Target): void {
    target.tryAfter = this.params.clock.now();
    target.intervalMs = INITIAL_INTERVAL_MS;
  }

  /** Addresses worth connecting to now, and why. */
  #wanted(): Map<string, Reason> {
    const connectedAddresses = new Set<string>();
    const connectedPeers = new Set<PeerName>();
    const inboundIps = new Set<string>();
    for (const connection of this.connections) {
      connectedAddresses.add(connection.address);
      connectedPeers.add(connection.remote.name);
      if (!connection.outbound) inboundIps.add(splitHostPort(connection.address)?.host ?? "");
    }
    const wanted = new Map<string, Reason>();
    const want = (address: string, reason: Reason) => {
      if (!connectedAddresses.has(address) && !wanted.has(address)) wanted.set(address, reason);
    };
    for (const { ip, port } of this.#direct.values()) {
      if (ip === undefined) continue;
      // A host that has connected to us need not be connected to, unless it was named with a port of its own.
      if (port === undefined && inboundIps.has(ip)) continue;
      want(this.#addressOf(ip, port), "named");
    }
    for (const [name, { address, since }] of this.#lost) {
      if (this.params.clock.now() - since >= LOST_MS) this.#lost.delete(name);
      else if (!connectedPeers.has(name)) want(address, "lost");
    }
    if (this.params.discovery && this.connections.size < this.params.limit) {
      const { port } = this.params;
      const gossiped = new GossipedAddresses<Reason>(port);
      for (const { remote, address, outbound } of this.#leadingTo(connectedPeers)) {
        const reason = this.params.ourself.name > remote.name ? "ours to call" : "theirs to call";
        const dial = dialable(address, outbound, port);
        if (dial && !connectedAddresses.has(dial) && !wanted.has(dial)) gossiped.add(dial, reason);
      }
      this.#gossiped = gossiped.size;
      for (const [address, reason] of gossiped.take(this.targets, this.params.random)) want(address, reason);
    }
    return wanted;
  }

  /** Connections of others to peers that we are not connected to; looked for among all, or by the few peers. */
  *#leadingTo(connectedPeers: ReadonlySet<PeerName>): Generator<PeerConnection> {
    const { ourself, peers } = this.params;
    const others = [...peers()].filter((peer) => peer !== ourself);
    const missing = others.filter(({ name }) => !connectedPeers.has(name));
    const connections = others.reduce((sum, peer) => sum + peer.connections.size, 0);
    for (const peer of others) {
      if (missing.length * others.length < connections) {
        for (const { name } of missing) {
          const connection = peer.connections.get(name);
          if (connection) yield connection;
        }
      } else {
        for (const [name, connection] of peer.connections) {
          if (name !== ourself.name && !connectedPeers.has(name)) yield connection;
        }
      }
    }
  }

  #attemptDue(): void {
    const wanted = this.#wanted();
    for (const [address, target] of this.targets) {
      if (target.state === "waiting" && !wanted.has(address)) this.targets.delete(address);
    }
    const now = this.params.clock.now();
    let room = this.params.limit - this.connections.size - this.#attempting();
    let next = Number.POSITIVE_INFINITY;
    for (const [address, reason] of this.#shuffled(wanted)) {
      const direct = reason === "named" || reason === "lost";
      const target = this.targets.get(address) ?? this.#newTarget(address, reason);
      if (target.state !== "waiting" || target.tryAfter === undefined) continue;
      if (target.tryAfter > now) {
        next = Math.min(next, target.tryAfter - now);
      } else if (direct) {
        this.#attempt(address, target, direct);
      } else if (room > 0 && this.#dials.take(now)) {
        room--;
        this.#attempt(address, target, direct);
      } else if (room > 0) {
        next = Math.min(next, this.#dials.wait(now));
      }
    }
    this.#retry?.cancel();
    this.#retry = Number.isFinite(next) ? this.params.clock.after(next, () => this.#attemptDue()) : undefined;
  }

  /** In random order: with a limit, everybody's choice of neighbours has to differ for the mesh to hang together. */
  #shuffled(wanted: ReadonlyMap<string, Reason>): [string, Reason][] {
    return [...wanted]
      .map((entry) => ({ entry, order: this.params.random.float() }))
      .sort((a, b) => a.order - b.order)
      .map(({ entry }) => entry);
  }

  #attempting(): number {
    let count = 0;
    for (const target of this.targets.values()) if (target.state === "attempting") count++;
    return count;
  }

  #newTarget(address: string, reason: Reason): Target {
    const target: Target = {
      state: "waiting",
      lastError: undefined,
      trouble: undefined,
      tryAfter: this.params.clock.now() + (reason === "theirs to call" ? THEIR_TURN_MS : 0),
      intervalMs: INITIAL_INTERVAL_MS,
      giveUp: undefined,
    };
    this.targets.set(address, target);
    return target;
  }

  #attempt(address: string, target: Target, direct: boolean): void {
    const { transport, host } = this.params;
    target.state = "attempting";
    // What gossip tells of may fail again and again, and there may be much of it.
    const log = direct || !target.lastError ? this.params.log.info : this.params.log.debug;
    log("attempting connection", { address });
    target.giveUp = transport.connect(
      address,
      (stream): StreamHandler => {
        const connection = new LocalConnection(host, stream, true, direct, address);
        target.giveUp = () => connection.shutdown(new Error("the network of this host has changed"));
        return connection;
      },
      (error) => {
        log(`error during connection attempt: ${error.message}`, { address });
        this.#failed(address, target, error);
        this.refresh();
      },
    );
  }
}

/** Why a name has no address. */
const unresolvable = (host: string, error: unknown): PeerTrouble =>
  connectionTrouble(connectionCause(codeOf(error)), reasonOf(error), host);
