// The fast datapath as an overlay of the mesh: forwarders for its connections, and the tables of the kernel kept in
// step with the topology. The kernel moves the frames; this only tells it where to.
import { AddressError, type IPv4, parseIPv4 } from "../../address/ipv4.ts";
import { type Clock, every, type Timer } from "../../clock/clock.ts";
import type { Log } from "../../log/log.ts";
import type { PeerName } from "../../mesh/name.ts";
import type { OverlayConnection, OverlayParams } from "../../mesh/overlay.ts";
import type { Peer } from "../../mesh/peer.ts";
import type { MeshRouter } from "../../mesh/router.ts";
import { monotonicNow } from "../../sys/monotonic.ts";
import type { Datapath, ForwardingTable } from "./datapath.ts";
import { Forwarder } from "./forwarder.ts";
import { encodeHeartbeat, HeartbeatSender, networkIdentifier } from "./heartbeat.ts";
import type { Hop } from "./maps.ts";

/** Heartbeats are looked for this often while one is waited for … */
const POLL_FAST_MS = 5;
/** … for so long after a connection was made, and more and more rarely after that. */
const POLL_FAST_FOR_MS = 2_000;
const POLL_SLOW_MS = 1_000;
/** As the original: a MAC address not seen for so long is forgotten. */
const MAC_MAX_AGE_NS = 10n * 60n * 1_000_000_000n;
const MAC_SWEEP_MS = 60_000;

export interface FastdpConfig {
  readonly mtu: number;
  /** UDP port, one above the TCP port of the mesh. */
  readonly port: number;
}

export class FastdpOverlay {
  readonly name = "fastdp";
  readonly #forwarders = new Map<Peer, Forwarder>();
  readonly #seen = new Map<Forwarder, bigint>();
  readonly #sender = new HeartbeatSender();
  #router: MeshRouter | undefined;
  #poll: Timer | undefined;
  #sweep: Timer | undefined;
  #pollFastUntil = 0;

  constructor(
    private readonly datapath: Datapath,
    private readonly config: FastdpConfig,
    private readonly clock: Clock,
    private readonly log: Log,
  ) {}

  /** Begins to follow the topology of a router. */
  start(router: MeshRouter): void {
    this.#router = router;
    router.listen({
      routesChanged: () => this.#apply(),
      shortIdsChanged: () => {
        // Frames on their way may bear ids that now mean another peer; so may what was learned from them.
        this.datapath.attachPrograms(router.ourself.shortId);
        this.datapath.forgetMacs(monotonicNow());
        this.#apply();
      },
      peerGone: (peer) => this.datapath.forgetMacs(0n, (id) => id === peer.shortId),
    });
    this.#sweep = every(this.clock, MAC_SWEEP_MS, () =>
      this.datapath.forgetMacs(monotonicNow() - MAC_MAX_AGE_NS),
    );
    this.#apply();
  }

  /** Stops following the topology. The kernel goes on forwarding by what it was told last. */
  stop(): void {
    this.#router = undefined;
    this.#poll?.cancel();
    this.#sweep?.cancel();
    this.#sender.close();
  }

  /** Throws when this connection cannot use the fast datapath. */
  prepare(params: OverlayParams): OverlayConnection {
    if (params.sessionKey) {
      throw new Error("encryption of the fast datapath is not available");
    }
    const theirPort = params.remotePort + 1;
    if (params.outbound && theirPort !== this.config.port) {
      throw new Error(`the peer's fast datapath is on UDP port ${theirPort}, ours on ${this.config.port}`);
    }
    const forwarder = new Forwarder({
      clock: this.clock,
      connectionUid: params.connectionUid,
      remoteAddress: requireIPv4(params.remoteIp),
      mtu: this.config.mtu,
      port: this.config.port,
      sendHeartbeat: (to) => this.#sendHeartbeat(params.remotePeer, params.connectionUid, to),
      sendControl: params.sendControl,
      established: params.established,
      failed: params.failed,
      changed: () => this.#changed(params.remotePeer, forwarder),
    });
    return forwarder;
  }

  /** MAC addresses and the peers they are at. */
  macs(): { mac: string; peer: Peer; seenAgoMs: number }[] {
    const now = monotonicNow();
    return this.datapath.macs().flatMap(([mac, { peer: id, seen }]) => {
      const peer = this.#router?.peers.byShortId(id);
      return peer ? [{ mac, peer, seenAgoMs: Number((now - seen) / 1_000_000n) }] : [];
    });
  }

  #sendHeartbeat(peer: Peer, connectionUid: bigint, to: IPv4): void {
    const router = this.#router;
    if (!router || !peer.hasShortId) return;
    const vni = networkIdentifier(router.ourself.shortId, peer.shortId);
    const refused = this.#sender.send(
      encodeHeartbeat(vni, connectionUid, this.config.mtu),
      to,
      this.config.port,
    );
    if (refused) this.log.debug(`fastdp ->[${peer}]: ${refused}`);
  }

  #changed(peer: Peer, forwarder: Forwarder): void {
    if (forwarder.usable) {
      this.#forwarders.set(peer, forwarder);
      this.#pollFastUntil = this.clock.now() + POLL_FAST_FOR_MS;
      this.#poll?.cancel();
      this.#pollSoon();
    } else if (this.#forwarders.get(peer) === forwarder) {
      this.#forwarders.delete(peer);
      this.#seen.delete(forwarder);
    }
    this.#apply();
  }

  #pollSoon(): void {
    const waiting = [...this.#forwarders.values()].some((forwarder) => !forwarder.established);
    const fast = waiting && this.clock.now() < this.#pollFastUntil;
    const delay = fast ? POLL_FAST_MS : waiting ? 20 * POLL_FAST_MS : POLL_SLOW_MS;
    this.#poll = this.clock.after(delay, () => {
      for (const [peer, forwarder] of this.#forwarders) this.#pollOne(peer, forwarder);
      if (this.#forwarders.size > 0) this.#pollSoon();
    });
  }

  #pollOne(peer: Peer, forwarder: Forwarder): void {
    const before = this.#seen.get(forwarder) ?? 0n;
    const heartbeat = this.datapath.heartbeat(peer.shortId);
    const frame = this.datapath.lastFrame(forwarder.remoteAddress);
    const latest = heartbeat && heartbeat.at > frame ? heartbeat.at : frame;
    if (latest <= before) return;
    this.#seen.set(forwarder, latest);
    if (forwarder.established) forwarder.heard();
    if (heartbeat && heartbeat.at > before) forwarder.heartbeat(heartbeat);
  }

  #apply(): void {
    if (this.#router) this.datapath.apply(this.#table(this.#router));
  }

  /** Routes in terms of the kernel: short ids and addresses of neighbours. */
  #table(router: MeshRouter): ForwardingTable {
    const addresses = new Map<PeerName, Hop>();
    for (const [peer, forwarder] of this.#forwarders) {
      addresses.set(peer.name, { shortId: peer.shortId, address: forwarder.remoteAddress });
    }
    const routes = new Map<number, IPv4>();
    const hops = new Map<number, readonly Hop[]>();
    for (const peer of router.peers.all()) {
      if (!peer.hasShortId || router.peers.byShortId(peer.shortId) !== peer) continue;
      const hop = addresses.get(router.routes.unicast.get(peer.name) ?? peer.name);
      if (hop && router.routes.unicast.has(peer.name)) routes.set(peer.shortId, hop.address);
      const tree = router.routes.broadcast(peer.name).flatMap((name) => addresses.get(name) ?? []);
      if (tree.length > 0) hops.set(peer.shortId, tree);
    }
    const neighbours = new Set(Array.from(addresses.values(), (hop) => hop.address));
    return { routes, hops, neighbours };
  }
}

function requireIPv4(ip: string): IPv4 {
  try {
    return parseIPv4(ip);
  } catch (error) {
    if (error instanceof AddressError) throw new Error(`the fast datapath needs an IPv4 address, not ${ip}`);
    throw error;
  }
}
