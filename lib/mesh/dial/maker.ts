// Makes connections to the peers that the user named and to those that gossip tells of (mesh: connection_maker.go).
import { splitHostPort } from "../../address/hostport.ts";
import type { Clock, Timer } from "../../clock/clock.ts";
import type { Random } from "../../clock/random.ts";
import type { Work } from "../../clock/slices.ts";
import { TokenBucket } from "../../clock/tokenbucket.ts";
import type { Log } from "../../log/log.ts";
import { forgetting, type Limit } from "../../sys/limit.ts";
import { type ConnectionHost, LocalConnection } from "../connection.ts";
import { CollisionError, peerTrouble, RefusedError, SelfConnectionError } from "../errors.ts";
import { nameToInteger, type PeerName } from "../name.ts";
import type { Peer } from "../peer.ts";
import type { StreamHandler, Transport } from "../transport.ts";
import { DIAL_BURST, DIALS_PER_S, dialable, MAX_GOSSIPED } from "./gossiped.ts";
import { NamedAddresses, type UnresolvedPeer } from "./named.ts";
import { DialSchedule } from "./schedule.ts";
import type { NamedTarget, Reason, Target } from "./target.ts";
import { gossipedAddresses, NOTHING_GOSSIPED, wantedAddresses } from "./wanted.ts";

/** Gossip brings changes in bursts; one check for new targets is enough for a burst. */
const CHECK_DELAY_MS = 10;
/** A check takes the longer the more targets there are, and is done the less often. */
const CHECK_DELAY_PER_TARGET_MS = 0.2;
const CHECK_DELAY_PER_CONNECTION_MS = 0.005;
/** Addresses that are looked for in gossip, for each connection up to the limit. */
const ENOUGH_ADDRESSES = 32;
/** Its multiples are spread evenly over 0 to 1. */
const GOLDEN_RATIO = (Math.sqrt(5) - 1) / 2;
/** Attempts at what gossip tells of, beyond the first burst, begin together with others. */
const TOGETHER_MS = 250;
/**
 * Peers that hear of each other at the same time would both dial, with one connection too many. So the one with the
 * greater name dials, and the other only after this.
 */
const THEIR_TURN_MS = 2_000;
/** A peer that this host lost by a fault of its own is dialled for so long. */
const LOST_MS = 10 * 60_000;

export interface MakerParams {
  readonly host: ConnectionHost;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly transport: Transport;
  /** The port peers listen on unless a target has one. */
  readonly port: number;
  readonly discovery: boolean;
  /** More connections than this are not sought. */
  readonly limit: number;
  readonly peers: () => Iterable<Peer>;
  readonly ourself: Peer;
}

export class ConnectionMaker {
  readonly targets = new Map<string, Target>();
  readonly connections = new Set<LocalConnection>();
  terminations = 0;
  readonly #named: NamedAddresses;
  /** Addresses of peers that this host has lost, and since when. */
  readonly #lost = new Map<PeerName, { readonly address: string; readonly since: number }>();
  readonly #schedule: DialSchedule;
  readonly #dials: TokenBucket;
  /** Addresses that gossip told of at the last check. */
  #gossiped = NOTHING_GOSSIPED;
  #check: Timer | undefined;
  /** Gives up the check under way. */
  #giveUp: (() => void) | undefined;
  /** Something has changed since the check under way began. */
  #changed = false;
  #retry: Timer | undefined;
  #stopped = false;

  constructor(private readonly params: MakerParams) {
    this.#named = new NamedAddresses(params.transport, params.port);
    this.#schedule = new DialSchedule(params.random);
    this.#dials = new TokenBucket(DIAL_BURST, DIALS_PER_S, params.clock.now());
  }

  /**
   * Add peers ("host" or "host:port") to those we keep connected to, or replace all by these. Resolves with what is wrong
   * with any of them once all names were looked up; they stay, and `resolveAgain` looks them up anew. Rejects with
   * PeerAddressError, with nothing changed.
   */
  async connect(peers: readonly string[], replace: boolean): Promise<UnresolvedPeer[]> {
    this.#named.add(peers, replace);
    const errors = await Promise.all(
      [...new Set(peers)].map(async (peer) => {
        const { address, unresolved } = (await this.#named.resolve(peer)) ?? {};
        if (unresolved !== undefined)
          return [{ peer, problem: `cannot resolve peer "${peer}": ${unresolved.reason}` }];
        const target = address === undefined ? undefined : this.targets.get(address);
        if (address !== undefined && target?.state !== "attempting") this.#schedule.reset(address);
        if (target?.state === "waiting") target.tryAfter = this.params.clock.now();
        this.refresh();
        return [];
      }),
    );
    this.refresh();
    return errors.flat();
  }

  /** Look up peers that do not answer. Resolves with those that have an address now, or another one; they are dialled. */
  async resolveAgain(): Promise<string[]> {
    const unanswered = [...this.named()].filter(([, peer]) => peer === undefined).map(([name]) => name);
    const moved = await Promise.all(
      unanswered.map(async (name) => {
        const before = this.#named.get(name)?.ip;
        const found = await this.#named.resolve(name);
        return found?.ip === before ? [] : [name];
      }),
    );
    if (moved.some((names) => names.length > 0)) this.refresh();
    return moved.flat();
  }

  /** Return the named peers that have no address. */
  unresolved(): string[] {
    return this.#named.all().flatMap(({ name, ip }) => (ip === undefined ? [name] : []));
  }

  forget(peers: readonly string[]): void {
    for (const peer of peers) {
      const ip = this.#named.delete(peer);
      for (const [name, { address }] of this.#lost)
        if (ip !== undefined && splitHostPort(address)?.host === ip) this.#lost.delete(name);
    }
    this.refresh();
  }

  /** Return the named peers, and who answers at their addresses: a peer, ourself, or nobody (undefined) yet. */
  named(): Map<string, Peer | undefined> {
    const found = new Map<string, Peer | undefined>();
    for (const { name, target, connection } of this.namedTargets()) {
      const isSelf = target?.lastError instanceof SelfConnectionError;
      found.set(name, isSelf ? this.params.ourself : connection?.established ? connection.remote : undefined);
    }
    return found;
  }

  /** Return the named peers, and the state of each. */
  namedTargets(): NamedTarget[] {
    const byAddress = Map.groupBy(this.connections, (connection) => connection.address);
    const inbound = [...this.connections].filter(({ outbound }) => !outbound);
    const callers = Map.groupBy(inbound, ({ remoteIp }) => remoteIp);
    return this.#named.all().map(({ name, ip, address, unresolved }) => {
      if (ip === undefined || address === undefined)
        return { name, address, unresolved, connection: undefined, target: undefined };
      const there = [...(byAddress.get(address) ?? []), ...(callers.get(ip) ?? [])];
      const connection = there.find(({ established }) => established) ?? there[0];
      return { name, address, unresolved: undefined, connection, target: this.targets.get(address) };
    });
  }

  directPeers(): string[] {
    return this.#named.all().map(({ name }) => name);
  }

  /** Look for addresses to dial, soon: something has changed. */
  refresh(): void {
    this.#changed = true;
    if (this.#stopped || this.#check || this.#giveUp) return;
    const delay = Math.max(
      CHECK_DELAY_MS,
      this.targets.size * CHECK_DELAY_PER_TARGET_MS,
      this.#gossiped.visited * CHECK_DELAY_PER_CONNECTION_MS,
    );
    this.#check = this.params.clock.after(delay, () => {
      this.#check = undefined;
      this.#changed = false;
      let ended = false;
      const giveUp = this.params.host.slices.run(this.#lookThrough(), (error) => {
        ended = true;
        this.#giveUp = undefined;
        if (error) this.params.log.error(`cannot look for peers: ${error.message}`);
        this.#attemptDue();
        if (this.#changed) this.refresh();
      });
      if (!ended) this.#giveUp = giveUp;
    });
  }

  *#lookThrough(): Work {
    const { connections, targets } = this;
    const { discovery, limit, ourself, peers, port, random } = this.params;
    this.#gossiped =
      discovery && connections.size < limit
        ? yield* gossipedAddresses({
            ...{ ourself, port, random, connections, targets },
            ...{
              peers: peers(),
              enough: ENOUGH_ADDRESSES * limit,
              start: (nameToInteger(ourself.name) * GOLDEN_RATIO) % 1,
            },
          })
        : NOTHING_GOSSIPED;
  }

  /**
   * Dial the peer of a connection that is about to end by a fault of this host: its address went, or it slept. The peer
   * may not know where we are, and no other peer may tell us where it is. It may not have noticed yet, and refuse us once:
   * connections that ended soon before must not make us wait then.
   */
  redial({ address, outbound, remote }: LocalConnection): void {
    const dial = dialable(address, outbound, this.params.port);
    if (!dial) return;
    this.#schedule.reset(dial);
    if (!this.params.discovery) return;
    this.#lost.set(remote.name, { address: dial, since: this.params.clock.now() });
  }

  /** Dial at once what failed before, and again what is being dialled: the network of this host has changed. */
  retry(): void {
    for (const [address, target] of this.targets) {
      const { state, lastError } = target;
      if (state === "connected" || lastError instanceof SelfConnectionError) continue;
      if (lastError instanceof RefusedError || lastError instanceof CollisionError) continue;
      if (state === "attempting") target.giveUp?.();
      this.#schedule.reset(address);
      target.state = "waiting";
      target.tryAfter = this.params.clock.now();
    }
    this.refresh();
  }

  /** What is at a limit, for the status. */
  notes(): string[] {
    const { count } = this.#gossiped;
    if (count <= MAX_GOSSIPED) return [];
    return [`gossip tells of ${count} addresses to connect to; ${MAX_GOSSIPED} are tried at a time`];
  }

  limits(): Limit[] {
    return [
      { name: "gossiped-addresses", value: this.#gossiped.count, max: MAX_GOSSIPED, forgets: true },
      forgetting("dial-back-offs", this.#schedule.backOffs),
    ];
  }

  created(connection: LocalConnection): void {
    this.connections.add(connection);
    const target = connection.outbound ? this.targets.get(connection.address) : undefined;
    if (target) target.state = "connected";
    const dial = this.#addressBehind(connection);
    if (dial !== undefined) this.#schedule.begin(dial, this.params.clock.now());
  }

  /** Frames get through to this peer. */
  established({ remote }: LocalConnection): void {
    this.#lost.delete(remote.name);
  }

  ended(connection: LocalConnection, error: Error): void {
    if (!(error instanceof SelfConnectionError)) this.terminations++;
    const wasAdded = this.connections.delete(connection);
    const target = connection.outbound ? this.targets.get(connection.address) : undefined;
    if (target) this.#failed(connection.address, target, error);
    const dial = wasAdded ? this.#addressBehind(connection) : undefined;
    if (dial !== undefined) this.#schedule.failed(dial, error, this.params.clock.now());
    this.refresh();
  }

  stop(): void {
    this.#stopped = true;
    this.#check?.cancel();
    this.#giveUp?.();
    this.#retry?.cancel();
  }

  /** The address at which to dial the peer that has dialled us; undefined where several are behind one address. */
  #addressBehind({ address, outbound, remoteIp }: LocalConnection): string | undefined {
    const others = [...this.connections].filter((other) => other.remoteIp === remoteIp);
    return outbound || others.length > 1 ? undefined : dialable(address, outbound, this.params.port);
  }

  #failed(address: string, target: Target, error: Error): void {
    target.state = "waiting";
    target.lastError = error;
    target.trouble = peerTrouble(error, address);
    target.tryAfter = this.#schedule.failed(address, error, this.params.clock.now());
  }

  #wanted(): Map<string, Reason> {
    const { clock, limit } = this.params;
    for (const [name, { since }] of this.#lost) if (clock.now() - since >= LOST_MS) this.#lost.delete(name);
    const named = this.#named
      .all()
      .flatMap(({ address, ip, port: own }) =>
        address === undefined || ip === undefined ? [] : [{ address, ip, anyPort: own === undefined }],
      );
    const { connections } = this;
    return wantedAddresses({
      ...{ connections, named },
      lost: Array.from(this.#lost, ([name, { address }]) => [name, address] as const),
      gossiped: connections.size < limit ? this.#gossiped.targets : NOTHING_GOSSIPED.targets,
    });
  }

  #attemptDue(): void {
    if (this.#stopped) return;
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
        next = Math.min(next, Math.max(TOGETHER_MS, this.#dials.wait(now)));
      }
    }
    this.#retry?.cancel();
    this.#retry = Number.isFinite(next) ? this.params.clock.after(next, () => this.#attemptDue()) : undefined;
  }

  /** In random order: with a limit, peers have to choose different neighbours for the mesh to stay connected. */
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
    const now = this.params.clock.now();
    const delayMs = reason === "theirs to call" ? THEIR_TURN_MS : 0;
    const target: Target = {
      state: "waiting",
      lastError: undefined,
      trouble: undefined,
      tryAfter: reason === "lost" ? now : this.#schedule.due(address, now, delayMs),
      giveUp: undefined,
    };
    this.targets.set(address, target);
    return target;
  }

  #attempt(address: string, target: Target, direct: boolean): void {
    const { transport, host, clock } = this.params;
    target.state = "attempting";
    this.#schedule.begin(address, clock.now());
    // What gossip tells of may fail again and again, and there may be much of it.
    const log = direct || !target.lastError ? this.params.log.info : this.params.log.debug;
    log("attempting connection", { code: "dialling", address });
    target.giveUp = transport.connect(
      address,
      (stream): StreamHandler => {
        const connection = new LocalConnection(host, stream, true, direct, address);
        target.giveUp = () => connection.shutdown(new Error("the network of this host has changed"));
        return connection;
      },
      (error) => {
        log(`error during connection attempt: ${error.message}`, { code: "dial-failed", address });
        this.#failed(address, target, error);
        this.refresh();
      },
    );
  }
}
